"""A connector described as data, readable without importing its code.

``manifest.toml`` is checked as a whole: unknown keys are refused, so that a
misspelt one cannot silently do nothing.
"""

from __future__ import annotations

import hashlib
import tomllib
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from synchub.errors import Misconfigured

if TYPE_CHECKING:
    from pathlib import Path

    from synchub.connector_kit.delivery import Delivery

DEFAULT_MAX_BODY_BYTES: Final = 256 * 1024


class Kind(StrEnum):
    """What sort of system the platform is; decides the default role of an account."""

    WMS = "wms"
    THREE_PL = "3pl"
    ERP = "erp"
    MARKETPLACE = "marketplace"
    DTC = "dtc"
    POS = "pos"
    CUSTOM = "custom"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# "header:NAME", "body:FIELD" (a top-level field) or, in a dedupe rule, "topic" or "body-hash".
Locator = Annotated[str, Field(pattern=r"^(topic|body-hash|header:[a-z0-9-]+|body:[A-Za-z0-9_.-]+)$")]


class Topic(_Table):
    """One kind of delivery and what it can become."""

    emits: tuple[Literal["level", "delta", "tickle", "order_line", "ack", "catalogue", "heartbeat"], ...]


class Receive(_Table):
    """How deliveries look from outside."""

    topic: tuple[Locator, ...] = ()
    """Where the topic stands; the first place that has a value wins."""
    dedupe: tuple[tuple[Locator, ...], ...] = ()
    """Rules for the dedupe id; the first whose parts are all present wins."""
    keep_headers: tuple[str, ...] = ()
    """Headers that travel with the body to the worker, besides those named above."""
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES


class Answer(_Table):
    """What the platform wants to hear for an accepted delivery."""

    status: int = Field(default=200, ge=200, le=204)
    content_type: str = ""
    body: str = ""


class Ids(_Table):
    """Whose identifiers the platform uses."""

    items: Literal["sku", "platform"]
    """``sku``: an item is the merchant's SKU unless mapped otherwise."""
    locations: Literal["merchant", "platform"]
    """``merchant``: a location is the merchant's own unless mapped otherwise."""


class Reports(_Table):
    """Which number a level is, and the one event that lowers exactly that number."""

    number: Literal["available", "on_hand", "fulfillable"]
    lowered_by: str


class VersionOffer(_Table):
    """How the platform orders its own reports."""

    kind: Literal["strict", "coarse", "none"]
    resolution_us: int = 0


class Evidence(_Table):
    """How a level of this platform can be known to include a sale made elsewhere."""

    offers: tuple[Literal["own", "ref", "lag", "never"], ...]


class Credential(_Table):
    """One value that the merchant gives when the account is added."""

    title: str
    secret: bool = True
    required: bool = True
    signing: bool = False
    """Deliveries are verified with it; several values may be active at once."""
    generated: bool = False
    """The scheme lets the hub choose it."""
    client_does_without: bool = False
    """The client works without this secret: the platform may be open to everybody."""
    instead_of: str = ""
    """Who gives this one need not give that one for the client; it is never needed itself."""


class ClientOffer(_Table):
    """How levels are read."""

    fetch_levels_max: int = Field(ge=1, le=250)
    """Items in one ``fetch_levels``."""


class PollingOffer(_Table):
    """How changes are read page by page."""

    cursor: Literal["updated_since", "opaque", "event_id", "sweep", "chosen"]
    """``updated_since``: a time and an id that tells equal times apart. ``opaque``: the platform's own token,
    which may expire. ``event_id``: numbers that only grow. ``sweep``: everything, from the beginning.
    ``chosen``: one of these, by the account's settings."""
    page_max: int = Field(ge=1, le=1000)
    """Records in one page."""
    overlap_s: int = Field(default=0, ge=0, le=86_400)
    """How far before the newest record the next poll begins, because the platform shows changes late."""


class LimitsOffer(_Table):
    """How often the platform may be called, as far as its documents say."""

    unit: Literal["call", "point"] = "call"
    """What the bucket holds; a point is the platform's own measure of a query's cost."""
    capacity: float = Field(gt=0)
    restored_per_s: float = Field(gt=0)
    concurrency: int = Field(default=2, ge=1, le=50)
    """Calls at once."""
    per_day: int | None = Field(default=None, ge=1)
    """Calls from midnight to midnight, UTC."""
    per_listing_per_day: int | None = Field(default=None, ge=1)
    """Calls that change one and the same listing."""


class SubscriptionOffer(_Table):
    """What the hub can do about deliveries that stop."""

    check: bool = False
    """The platform says what it is subscribed to, and takes new subscriptions."""
    canary: Literal["none", "sent", "asked"] = "none"
    """``sent``: the sender gives signs of life by itself. ``asked``: the client can provoke one."""


class Manifest(_Table):
    """The whole of ``manifest.toml``."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,39}$")
    title: str
    kind: Kind
    quality: Literal["bronze", "silver", "gold"] = "bronze"
    docs: tuple[str, ...]
    receive: Receive = Receive()
    answer: Answer = Answer()
    ids: Ids
    reports: Reports
    version: VersionOffer
    evidence: Evidence
    credentials: dict[str, Credential]
    topics: dict[str, Topic] = {}
    """Empty: the platform posts nothing and is only polled."""
    client: ClientOffer | None = None
    polling: PollingOffer | None = None
    limits: LimitsOffer | None = None
    subscription: SubscriptionOffer = SubscriptionOffer()

    @model_validator(mode="after")
    def _someone_signs(self) -> Manifest:
        is_only_polled = self.polling is not None and not self.topics
        if not is_only_polled and not any(credential.signing for credential in self.credentials.values()):
            msg = "one credential must be the signing secret"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _offers_fit(self) -> Manifest:
        if (self.client or self.polling or self.subscription.check) and self.limits is None:
            msg = "a platform that is called needs [limits]"
            raise ValueError(msg)
        return self

    @property
    def signing_credential(self) -> str:
        """The name of the credential that deliveries are verified with; empty where none are sent."""
        return next((name for name, offer in self.credentials.items() if offer.signing), "")

    @cached_property
    def headers_kept(self) -> frozenset[str]:
        """Every header name the worker needs, lower case."""
        named = [place for rule in (self.receive.topic, *self.receive.dedupe) for place in rule]
        return frozenset(
            [place.removeprefix("header:") for place in named if place.startswith("header:")]
            + list(self.receive.keep_headers)
        )

    def topic_of(self, delivery: Delivery) -> str:
        """Return the delivery's topic, or an empty string when it names none."""
        return next((value for place in self.receive.topic if (value := _look_up(place, delivery, ""))), "")

    def dedupe_id(self, delivery: Delivery) -> str:
        """Return 32 hex digits that are equal for, and only for, repeats of one delivery.

        By the first rule of the manifest whose parts are all present; a delivery
        that names nothing is known by its topic and bytes.
        """
        topic = ""
        for rule in (*self.receive.dedupe, ("topic", "body-hash")):
            if "topic" in rule:
                topic = topic or self.topic_of(delivery)
            parts = [_look_up(place, delivery, topic) for place in rule]
            if all(parts):
                return hashlib.sha256("\x00".join([*rule, *parts]).encode()).hexdigest()[:32]
        return hashlib.sha256(delivery.body).hexdigest()[:32]


def _look_up(place: str, delivery: Delivery, topic: str) -> str:
    if place == "topic":
        return topic
    if place == "body-hash":
        return hashlib.sha256(delivery.body).hexdigest()
    where, _, name = place.partition(":")
    if where == "header":
        return delivery.headers.get(name, "")
    return _body_field(delivery.body, name)


def _body_field(body: bytes, path: str) -> str:
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def load_manifest(path: Path) -> Manifest:
    """Read and check one ``manifest.toml``.

    Raises:
        Misconfigured: unreadable, unknown or missing keys; the sentence names file and key.
    """
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as problem:
        msg = f"{path} is not a usable manifest: {problem}"
        raise Misconfigured(msg) from problem
