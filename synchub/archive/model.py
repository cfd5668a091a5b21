"""The nouns of the archive: a log, its segments, and where one ends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Log(StrEnum):
    """What is archived: numbered entries of a merchant, without holes."""

    LEDGER = "ledger"
    DECISIONS = "decisions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a log in its archived form."""

    seq: int
    content: bytes
    """Canonical JSON of its fields and its sequence."""
    digest: str = ""
    """SHA-1 over the fields as the store has them; empty when it was read from the archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line of a segment."""

    log: Log
    merchant: str
    number: int
    """1 for the first segment of the log, then one more each."""
    epoch: str
    """The history that the entries belong to."""
    after_epoch: str
    """Epoch of the segment before; empty for the first."""
    after: int
    """The sequence it continues from: the end of the segment before, or less when the store lost its end."""
    first: int
    last: int
    previous: str
    """Hash of the segment before."""
    written_at_ms: int

    @property
    def missing(self) -> int:
        """Entries that were lost before the first one; 0 when all is well."""
        return self.first - self.after - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One whole segment; ``hash`` is that of its last line and stands for everything up to there."""

    header: Header
    entries: tuple[Entry, ...]
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What the store remembers of the archive: its last segment."""

    number: int
    epoch: str
    seq: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How far a log has come, in the store and in the archive."""

    epoch: str
    oldest: int
    """Sequence of the oldest entry in the store; 0: it has none."""
    newest: int
    note: Note | None

    @property
    def unarchived(self) -> int:
        """About how many entries wait; after a change of the epoch all that the store has."""
        if self.note is None or self.note.epoch != self.epoch:
            return self.newest - self.oldest + 1 if self.newest else 0
        return max(0, self.newest - max(self.note.seq, self.oldest - 1))

    @property
    def archived(self) -> int:
        """Up to which sequence the archive reaches, as far as the store knows."""
        return self.note.seq if self.note else 0


class Outcome(StrEnum):
    """What became of one turn."""

    IDLE = "idle"
    """Nothing waits."""
    WAITING = "waiting"
    """Something waits for others to share a segment with."""
    BUSY = "busy"
    """Another worker is at it."""
    WRITTEN = "written"
    REFUSED = "refused"
    """The folder and the store do not fit together; nothing was written or trimmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The outcome of one turn for one log of one merchant."""

    outcome: Outcome
    entries: int = 0
    """How many were archived."""
    is_full: bool = False
    """More waits that need not wait."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state that all entries up to a segment's end add up to."""

    number: int
    """Of the segment."""
    epoch: str
    seq: int
    segment_hash: str
    previous: str
    """Hash of the checkpoint before."""
    state: dict[tuple[str, ...], str]
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a walk over one log of one merchant has shown."""

    merchant: str
    log: Log
    segments: int = 0
    entries: int = 0
    epoch: str = ""
    seq: int = 0
    hash: str = ""
    """Of the last segment: note it down elsewhere, and nobody can take segments off the end unseen."""
    missing: int = 0
    """Entries that were lost before they could be archived, as the chain itself tells."""
    checkpoints: int = 0
    broken: str = ""
    """One sentence on the first place that is not as it was written; empty when there is none."""
