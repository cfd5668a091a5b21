"""What a connector's folder gives the hub: ``verify``, ``normalize`` and ``Client``.

A client need not be able to do everything: its manifest says what it offers. ``[client]`` is
``LevelsClient``, ``[polling]`` is ``PagesClient``, ``[subscription]`` is ``HooksClient`` and, where
it says ``canary = "asked"``, ``CanaryClient``. One class may be all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from synchub.connector_kit.delivery import Delivery
    from synchub.connector_kit.events import StockEvent
    from synchub.connector_kit.http import HttpAnswer, PlatformHttp
    from synchub.connector_kit.manifest import Manifest


class Verify(Protocol):
    """Checks who sent a delivery. Pure: no IO, no clock, constant time over the secrets."""

    def __call__(self, delivery: Delivery, secrets: Sequence[str], *, now_ms: int) -> None:
        """Return when one of the active secrets signed these bytes.

        Raises:
            SignatureRefused: missing, malformed or foreign signature.
            DeliveryStale: rightly signed, outside the scheme's time window.
        """


class Normalize(Protocol):
    """Turns a verified delivery into events. Pure: equal bytes give equal events."""

    def __call__(self, topic: str, delivery: Delivery) -> tuple[StockEvent, ...]:
        """Return the events of the delivery, in its order; an empty tuple says: of no concern.

        Raises:
            PayloadRefused: unknown topic, or content that is not of the documented form.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a client needs to call its platform on behalf of one account."""

    http: PlatformHttp
    credentials: Mapping[str, str] = field(repr=False)
    """The account's credentials by the names of the manifest, newest value of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One fact of a page: what a delivery of the same change would have told."""

    key: str
    """Equal for the same fact told again, and for nothing else: an id with its version or time. At most 200
    characters. Changes without a version are counted once by it."""
    events: tuple[StockEvent, ...]
    """A level among them is the present one, as ``fetch_levels`` would read it."""
    changed_at_us: int | None = None
    """When it changed, by the platform's clock; ``None``: it does not say."""
    topic: str = ""
    """The topic under which a delivery tells such a change; empty where none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of what has changed, and where to go on."""

    records: tuple[Record, ...]
    cursor: str
    """Where the next page begins, at most 4,096 characters; opaque to the hub. After the last page it lies
    so far back that nothing is missed which the platform shows late (``polling.overlap_s``)."""
    is_last: bool
    """There is no more at present."""
    refused: tuple[str, ...] = ()
    """A sentence for each row that cannot be used and was left out; one bad row does not stop the others."""


class HookState(StrEnum):
    """How a platform's promise to send deliveries stands."""

    SOUND = "sound"
    WARNED = "warned"
    """It still sends, and has said that it may stop."""
    MISSING = "missing"
    """One or more topics are not subscribed at this address."""
    DISABLED = "disabled"
    """It is there, and the platform has switched it off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookReport:
    """What a platform says of the deliveries that it was asked for."""

    state: HookState
    topics: tuple[str, ...] = ()
    """Those that are missing or disabled."""
    detail: str = ""
    """A sentence for people; no secret, no address."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Credentials that the platform has chosen, by the manifest's names; some sign its deliveries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What a platform's answer says is left, in the units of ``limits``."""

    remaining: float
    capacity: float | None = None
    restored_per_s: float | None = None


class ReadQuota(Protocol):
    """Reads what is left from any answer of the platform. Pure; never raises."""

    def __call__(self, answer: HttpAnswer) -> Quota | None:
        """Return what the answer says; ``None`` where it says nothing that can be read."""


class CheckSettings(Protocol):
    """Says what is wrong with the credentials of an account, before it is added. Pure."""

    def __call__(self, credentials: Mapping[str, str]) -> tuple[str, ...]:
        """Return a sentence for each fault that the manifest cannot tell; none repeats a value."""


class Client(Protocol):
    """A connector's only IO: calls to the platform, one account at a time."""

    def __init__(self, access: Access) -> None: ...


class LevelsClient(Client, Protocol):
    """Reads what items have now."""

    async def fetch_levels(self, items: Sequence[str]) -> tuple[StockEvent, ...]:
        """Read the present levels of these items at every location, in one or few calls.

        May also return ``Catalogue`` events (the SKU of an item that is not mapped
        yet). An item the platform does not know is simply absent. At most
        ``manifest.client.fetch_levels_max`` items are asked for at once.

        Raises:
            UpstreamThrottled, UpstreamRefused, UpstreamFailed.
        """


class PagesClient(Client, Protocol):
    """Reads what has changed, page by page."""

    def cursor_at(self, time_ms: int) -> str:
        """Return where to begin to see everything that changed from a time on; makes no call.

        Empty where the platform cannot begin at a time: the empty cursor begins with everything there is.
        """

    async def fetch_page(self, cursor: str) -> Page:
        """Read the page that begins at a cursor of an earlier page, of ``cursor_at``, or the empty one.

        The clock is read before the data: a change that happens during the call is on a later page too.
        Asking for the same page again is harmless. At most ``manifest.polling.page_max`` records.

        Raises:
            CursorRefused: the platform no longer takes this cursor; begin at a time, or anew.
            UpstreamThrottled, UpstreamRefused, UpstreamFailed.
        """


class HooksClient(Client, Protocol):
    """Sees to it that the platform goes on sending deliveries."""

    async def check_subscription(self, hook_url: str) -> HookReport:
        """Ask whether every topic of the manifest is sent to this address; changes nothing.

        Raises:
            UpstreamThrottled, UpstreamRefused, UpstreamFailed.
        """

    async def repair_subscription(self, hook_url: str) -> HookReport:
        """Register what is missing, enable what is disabled, and return how it stands then. Repeatable.

        Raises:
            UpstreamThrottled, UpstreamRefused, UpstreamFailed.
        """


class CanaryClient(Client, Protocol):
    """Makes the platform send a delivery that changes no stock."""

    async def ask_canary(self) -> bool:
        """Make a harmless change whose delivery ``normalize`` turns into a ``Heartbeat``.

        False where the account offers nothing to change; then no delivery is to be expected.

        Raises:
            UpstreamThrottled, UpstreamRefused, UpstreamFailed.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """One discovered connector."""

    manifest: Manifest
    verify: Verify
    normalize: Normalize
    client: type[Client] | None
    read_quota: ReadQuota | None = None
    check_settings: CheckSettings | None = None

    @property
    def name(self) -> str:
        """The folder's name, which is also the platform's name in commands."""
        return self.manifest.name

    @property
    def levels_client(self) -> type[LevelsClient] | None:
        """The client, if it reads levels."""
        return cast("type[LevelsClient]", self.client) if self.manifest.client else None

    @property
    def pages_client(self) -> type[PagesClient] | None:
        """The client, if it reads changes page by page."""
        return cast("type[PagesClient]", self.client) if self.manifest.polling else None

    @property
    def hooks_client(self) -> type[HooksClient] | None:
        """The client, if it looks after subscriptions."""
        return cast("type[HooksClient]", self.client) if self.manifest.subscription.check else None

    @property
    def canary_client(self) -> type[CanaryClient] | None:
        """The client, if it can provoke signs of life."""
        is_asked = self.manifest.subscription.canary == "asked"
        return cast("type[CanaryClient]", self.client) if is_asked else None
