"""The nouns of subscriptions: who is told what at which address, how far, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from synchub.stock.model import Answer

EVERYTHING: Final = -1
"""The sequence before all changes and before all states: whatever there is comes after it."""


class Status(StrEnum):
    """Whether anything is sent."""

    ACTIVE = "active"
    DISABLED = "disabled"
    """The endpoint has failed for too long; a renewal turns it on again, and it catches up."""
    EXPIRED = "expired"
    """The grant has run out; a renewal within a week takes it up again."""
    ENDED = "ended"
    """The endpoint has said that it is gone for good."""


class Limit(StrEnum):
    """Whose number of subscriptions is used up."""

    AGENT = "agent"
    MERCHANT = "merchant"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which SKUs are told: those named, or those that start with ``prefix``; by default all."""

    skus: frozenset[str] = frozenset()
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSecret:
    """One signing secret, encrypted."""

    ciphertext: str = field(repr=False)
    until_ms: int | None = None
    """When it stops signing; None: it is the present one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One grant to be told of changes at an address."""

    id: str
    merchant: str
    agent: str
    key_hash: str = field(repr=False)
    """Of the key that it was made with: with another key of the agent it is over."""
    url: str = field(repr=False)
    filter: Filter
    channel: str | None
    secrets: tuple[SealedSecret, ...]
    """The present one first; at most one other."""
    created_at_ms: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """How far something goes in a merchant's history; ``seq`` may be :data:`EVERYTHING`."""

    epoch: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The one message in hand. It is sent with this id until it is taken, whoever sends it."""

    id: str
    upto: Spot
    """Where the endpoint stands when it has taken it."""
    skus: tuple[str, ...]
    truncated: bool
    at_ms: int
    """When it was put together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an agent wants done by whoever has the lane.

    Each wish has a name of its own and is done once; a wish that is done is empty.
    """

    test: str = ""
    """Id of a test message."""
    redrive: str = ""
    """``NAME EPOCH SEQ``: go on from there."""
    renew: str = ""
    """Go on although it was turned off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where an endpoint stands, as it is stored."""

    born_ms: int = 0
    """When its subscription was made: another one of the same id has another lane."""
    spot: Spot
    view: str = ""
    """What the endpoint has been shown by: tier, channel, version of the policies."""
    pending: Pending | None = None
    status: Status = Status.ACTIVE
    reason: str = ""
    """Why it is not active."""
    changed_at_ms: int = 0
    """When the status became what it is."""
    failures: int = 0
    """Failed attempts in a row."""
    failing_since_ms: int = 0
    next_at_ms: int = 0
    """No attempt before; 0: any time."""
    delivered_at_ms: int = 0
    """When the endpoint last took something."""
    is_expiry_noted: bool = False
    asked: Asked = Asked()


class Outcome(StrEnum):
    """What came of an attempt; all but the first leave the message in hand."""

    DELIVERED = "delivered"
    """2xx."""
    REDIRECTED = "redirected"
    """3xx: an endpoint is where it says it is."""
    THROTTLED = "throttled"
    """429, or 503 with ``Retry-After``."""
    REFUSED = "refused"
    """Any other 4xx."""
    GONE = "gone"
    """410."""
    FAILED = "failed"
    """5xx, or a status that is none."""
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    """No connection, or one that broke."""
    FORBIDDEN = "forbidden"
    """The address is not public."""


class Event(StrEnum):
    """What stands in the log of attempts and was no attempt."""

    DISABLED = "disabled"
    ENDED = "ended"
    EXPIRED = "expired"
    RESUMED = "resumed"
    REDRIVEN = "redriven"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How an endpoint answered."""

    outcome: Outcome
    status: int = 0
    retry_after_ms: int = 0
    took_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One line of the log."""

    at_ms: int
    name: str
    """Name of the occurrence; empty for what was no attempt."""
    id: str
    outcome: str
    status: int = 0
    took_ms: int = 0
    items: int = 0
    retry_at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """Latest states of what changed after some position."""

    changed: dict[str, Answer]
    reach: Spot
    """Everything up to here is in it."""
    is_all: bool
    """``reach`` is where the history ended when it was read."""
    truncated: bool
    """They are states: what happened in between is no longer known one by one."""
