"""The nouns of stock: what a source reported, what follows from it, what became of a report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NO_POSITION: Final = 0
"""The sequence before a merchant's first change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one of the merchant's locations contributes to a SKU."""

    place: str
    account: str
    """Whose report it rests on."""
    base: int
    """Its units less the sales that the report does not contain yet; may be negative."""
    held: int
    """Units in live holds that name this location."""
    evidence_ms: int
    """That report's own evidence time, before the account's watermark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What follows from all reports, sales and holds on one SKU, before any asker's policy.

    ``ats`` (available to sell) may be negative; ``known`` is false when no
    counted source has a number. ``as_of_ms`` is the oldest evidence among the
    locations counted.
    """

    sku: str
    ver: int
    """Grows with every change of the answer; 0 when the SKU has never been reported."""
    seq: int
    """Ledger sequence of the last change of the answer."""
    ats: int
    held: int
    """Units in live holds, which ``ats`` does not contain."""
    known: bool
    gone: bool
    """Every platform that had the item has removed it."""
    discontinued: bool
    backorder: bool
    as_of_ms: int
    by: str
    """Account whose report ``as_of_ms`` belongs to; empty when unknown."""
    degraded: bool
    """No source of some counted location is fresh, or a lower-ranked one stands in."""
    stale: bool
    """No source of some counted location is fresh."""
    lag: int
    """How many of the merchant's lag steps the evidence is older than it may be."""
    ref: int
    """What per cent are taken of: the units after the last receipt, or at the beginning of the day."""
    cells: tuple[Cell, ...]
    """The locations counted, by name."""

    @property
    def exists(self) -> bool:
        """Whether any source has ever reported the SKU."""
        return self.ver > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a reading stands in the merchant's ledger."""

    epoch: str
    seq: int
    """Head of the ledger."""
    feed_seq: int
    """Sequence of the last changed answer; at most ``seq``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Answers read in one step with their position."""

    position: Position
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Footing:
    """What an answer rests on, without what it says: who counts where, and what the catalogue knows."""

    sku: str
    discontinued: bool
    backorder: bool
    ref: int
    """What per cent of a policy are taken of."""
    cells: tuple[tuple[str, str], ...]
    """Of each location counted its name and the account whose report counts; none without a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEntry:
    """One changed answer as the feed stream holds it."""

    seq: int
    previous: int
    """Sequence of the entry before; a reader that stands elsewhere has a gap."""
    reported_ms: int
    """When the report that changed it arrived or was asked for; 0 when nothing was reported."""
    answer: Answer
    whose: tuple[str, ...] = ()
    """Agents whose holds on the SKU it is about."""


class Outcome(StrEnum):
    """What became of one event."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    """Newer, and of no other effect than fresher evidence."""
    DUPLICATE = "duplicate"
    """Counted before, by its id."""
    SUPERSEDED = "superseded"
    """Older than what the source has already told."""
    REFETCH = "refetch"
    """Not believed as it stands; a fetch is due."""
    PARKED = "parked"
    """Waits for its item or location to be mapped."""
    PARKED_FULL = "parked_full"
    """Too many items wait; nothing was stored."""
    KIT_LEVEL = "kit_level"
    """A level of a pack or kit, which cannot be one; its parts are counted where they lie."""
    NAMELESS = "nameless"
    """An acknowledgement that names no sale; nothing was changed."""
    SCALE_MIXED = "scale_mixed"
    """The source orders by another scale than before; nothing was changed."""
    HELD_BACK = "held_back"
    """The place from which to poll on was not moved, since a change before it was not taken in."""
    RELEASED = "released"
    """A mapping was stored; waiting events, if any, were applied."""
    FAILED = "failed"
    """The script could not apply it: a fault of ours; the others are not affected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """Outcome of one event, with the sequence its effect has in the ledger (0 without effect)."""

    outcome: Outcome
    seq: int
    error: str = ""
    """Why it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollPlace:
    """Where an account's next poll begins; the store moves it in one step with what a page has brought."""

    moves: int = 0
    """How often it has moved: whoever asks for a page from here may go on only while this is so."""
    cursor: str = ""
    asked_ms: int = 0
    """When the last page was asked for."""
    began_ms: int = 0
    """When the first page was, of a poll that has not come to an end; otherwise 0."""
    complete_to_ms: int = 0
    """Everything up to this moment has been told; 0: no poll has come to an end."""
    epoch: str = ""
    """The history in which it was stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageApplied:
    """What became of a page: one result per row, and whether the account's place moved past it."""

    results: tuple[Applied, ...]
    moved: Outcome
    """``applied``, ``held_back``, or ``superseded``: somebody else has gone on from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lapsed:
    """What one step of passing time has done."""

    done: int
    left: int
    """What was due as well and is still waiting."""
    clock_ms: int
    """The merchant's clock."""
    frozen_until_ms: int
    """Until when nothing new is granted, by the same clock; long over when it is granted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A sale that no longer counts; ``seq`` is 0 when it did not count before either."""

    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """A source whose level does not contain some units of a sale yet."""

    account: str
    item: str
    place: str
    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSale:
    """What is sold of one SKU and not yet in the level of every source that counts."""

    names: tuple[str, ...]
    """All that it is called in the store; any of them finds it."""
    sku: str
    units: int
    places: tuple[tuple[str, int], ...]
    """Where its units are taken from."""
    origin: str
    """The account that told the order; empty: only the hub's own agents have said so yet."""
    hold: str
    """The reservation that it was; empty: none."""
    age_ms: int
    """Since units were last added to it."""
    lacking: tuple[Lacking, ...]
    """None where no source counts at its places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SalesPage:
    """Some open sales, and where to go on; ``next_sku`` is empty after the last."""

    sales: tuple[OpenSale, ...]
    next_sku: str
    next_place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SalesCount:
    """How many sales are open, and how many of them for longer than they should be."""

    open: int
    overdue: int
