"""The nouns of stock: what a source reported, what follows from it, what became of a report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NO_POSITION: Final = 0
"""The sequence before a merchant's first change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What follows from all reports on one SKU, before any asker's policy.

    ``ats`` may be negative; ``known`` is false when no counted source has a
    number. ``as_of_ms`` is the oldest evidence among the locations counted.
    """

    sku: str
    ver: int
    """Grows with every change of the answer; 0 when the SKU has never been reported."""
    seq: int
    """Ledger sequence of the last change of the answer."""
    ats: int
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
class FeedEntry:
    """One changed answer as the feed stream holds it."""

    seq: int
    previous: int
    """Sequence of the entry before; a reader that stands elsewhere has a gap."""
    reported_ms: int
    """When the report that changed it arrived or was asked for; 0 when nothing was reported."""
    answer: Answer


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
    SCALE_MIXED = "scale_mixed"
    """The source orders by another scale than before; nothing was changed."""
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
