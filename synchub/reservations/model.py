"""The nouns of reservations: what is asked for, what was granted, and why not.

What every request makes is a plain tuple: a frozen dataclass takes four times as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from synchub.keyspace import MerchantKeys
    from synchub.policies.model import Terms


CHANGED: Final = -1
"""The version of an answer that is known not to be the present one."""


class Mode(StrEnum):
    """What a hold is for, which decides how long it may live."""

    INTENT = "intent"
    """An agent is about to buy: seconds."""
    HOLD = "hold"
    """A checkout: up to a minute."""
    CART = "cart"
    """A basket that a person looks at: up to a quarter of an hour."""


class Status(StrEnum):
    """What a reservation is now."""

    HELD = "held"
    CONFIRMING = "confirming"
    """Sold, and until its deadline still to be taken back if the stock turns out not to be there."""
    COMMITTED = "committed"
    RELEASED = "released"
    EXPIRED = "expired"
    VOIDED = "voided"
    """Taken back: the stock was not there."""


class Reason(StrEnum):
    """Why nothing was held."""

    UNKNOWN_SKU = "unknown_sku"
    DISCONTINUED = "discontinued"
    UNKNOWN_LEVEL = "unknown_level"
    """No source has a number, and the merchant's policy does not sell blindly."""
    STALE = "stale"
    """Nothing fresh is known, and the merchant's policy does not sell on old numbers."""
    INSUFFICIENT = "insufficient"
    SEQUENCE_MOVED = "sequence_moved"
    """The SKU has changed since the sequence that the asker named, and what is left is not enough."""
    CHANGED = "changed"
    """The answer that the asker's checksum belongs to is no longer the present one."""
    CHANNEL_CAP = "channel_cap"
    UNIT_LIMIT = "unit_limit"
    TRANSACTION_LIMIT = "transaction_limit"


class Verb(StrEnum):
    """What can be done to a reservation."""

    RENEW = "renew"
    COMMIT = "commit"
    RELEASE = "release"


class Outcome(StrEnum):
    """What became of a verb."""

    DONE = "done"
    CONFLICT = "conflict"
    """Committed or voided, as the policy says, though what was held is no longer there."""
    SEQUENCE_MOVED = "sequence_moved"
    CLOSED = "closed"
    """It was over before: committed, released or voided."""
    EXPIRED = "hold_expired"
    UNKNOWN = "hold_unknown"


class Asker(NamedTuple):
    """On whose behalf something is asked; merchant, tier and key are the key's, the rest is claimed."""

    keys: MerchantKeys
    agent: str
    tier: str
    channel: str
    buyer: str
    session: str


class WantedLine(NamedTuple):
    """Units of one SKU, where it matters at one location."""

    sku: str
    quantity: int
    terms: Terms
    location: str = ""
    ver: int | None = None
    """Version of the answer that the asker was shown, or :data:`CHANGED`; ``None``: not checked."""


class Wanted(NamedTuple):
    """One request for a hold."""

    asker: Asker
    lines: tuple[WantedLine, ...]
    mode: Mode
    ttl_ms: int
    expected_seq: int | None
    replaces: str
    """Id of the asker's own hold that this one takes the place of, in one step; empty: none."""
    ship_to: str = ""
    """The country that it goes to, in two letters; empty: not said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoughtLine:
    """Units of one SKU that a commit buys of a hold; the location where it is held at several."""

    sku: str
    quantity: int
    location: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be done to one reservation."""

    verb: Verb
    hold: str
    """Its id."""
    ttl_ms: int = 0
    """How long from now on it is to live, of a renewal."""
    order: str = ""
    """The number of the order that it was bought with."""
    expected_seq: int | None = None
    """The last sequence that the asker has seen; with it a commit of what is gone since changes nothing."""
    regrants: bool = False
    """Whether a commit after the deadline takes the units again, if they can still be had."""
    lines: tuple[BoughtLine, ...] = ()
    """What a commit buys of the hold, and the rest is given back; none: everything."""


class HeldLine(NamedTuple):
    """What is held of one SKU, and where it was sold from once it is."""

    sku: str
    quantity: int
    location: str
    sold_from: tuple[tuple[str, int], ...]
    """Locations and units, after the commit."""


class Reservation(NamedTuple):
    """A hold, at some moment of its life."""

    id: str
    seq: int
    """Sequence of its first ledger entry: the order in which holds were granted."""
    epoch: str
    status: Status
    mode: Mode
    agent: str
    channel: str
    buyer: str
    session: str
    policy: int
    """Version of the merchant's policies under which it was granted."""
    lines: tuple[HeldLine, ...]
    granted_us: int
    expires_ms: int
    """The end of the hold, or of the time in which a sale is confirmed."""
    review_due_ms: int | None
    """A person is to look at the sale until then: it went beyond the stock."""
    order: str
    resolution: str
    """How a conflict was resolved: honour, backorder or void; empty when there was none."""
    returned: tuple[BoughtLine, ...] = ()
    """What its commit has given back, having bought less than was held."""


class Held(NamedTuple):
    """Everything that was asked for is held."""

    reservation: Reservation
    current: Status
    """What it is now, which differs from its first status when an old request is repeated."""
    is_repeat: bool
    """It was granted before, at the first request with this key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Nothing is held."""

    reason: Reason
    sku: str
    available: int
    """Units of the SKU that could have been held, or that a limit leaves; 0 where no number is the reason."""
    seq: int
    is_repeat: bool
    """It was refused before, at the first request with this key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """A SKU has another name by now, and other terms perhaps; nothing was done."""


class RestoreOutcome(StrEnum):
    """What became of a token that was shown again."""

    RESTORED = "restored"
    KNOWN = "known"
    """The hub knows of it; its present status counts, not the token's."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a token proves: that this was granted, and until when; or that it was bought."""

    id: str
    agent: str
    channel: str
    mode: str
    is_receipt: bool
    order: str
    granted_us: int
    deadline_ms: int
    lines: tuple[tuple[str, int, str], ...]
    """SKU, units and location of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was done with a token."""

    outcome: RestoreOutcome
    reason: str
    """Why it was refused; empty otherwise."""
    reservation: Reservation | None
    """As it is now; none where it is refused, or known only by its sale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What a verb has made of a reservation, the first time and since."""

    outcome: Outcome
    reservation: Reservation | None
    current: Status | None
    is_repeat: bool
    """It was done before, at the first request with this key."""
