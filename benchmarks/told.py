"""What many readers of one feed were told: cheap enough to be counted while it comes.

Thousands of readers get equal bytes, so an event is parsed once and then found by its bytes. How many
changes a reader was told and the sum of their numbers show whether it was told each of them once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from benchmarks.coverage import Pattern
from benchmarks.sse import MAX_HEAD_BYTES, StreamRefusedError, parse_frame, read_state

EVENTS_KEPT = 8_192
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One event that says something about stock; ``changes`` are numbers of changes (see ``Pattern``)."""

    event: str
    prev: int
    seq: int
    changes: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """How many changes a reader has to be told, and the sum of their numbers."""

    count: int
    total: int


def expected_of(first: int, last: int, *, skus: int, watched: Iterable[int] | None = None) -> Expected:
    """Say what changes ``first`` to ``last`` (exclusive) are to a reader of all, or of some SKUs."""
    if watched is None:
        mine: Iterable[int] = range(first, last)
    else:
        mine = [number for slot in watched for number in range(first + (slot - first) % skus, last, skus)]
    numbers = list(mine)
    return Expected(count=len(numbers), total=sum(numbers))


@lru_cache(maxsize=EVENTS_KEPT)
def read_told(block: bytes, skus: int) -> Told | None:
    """Read one event; None when it says nothing about stock. Chunk marks around it do no harm."""
    frame = parse_frame(block)
    if frame is None:
        return None
    if frame.event not in {"upd", "hb", "snap", "snap_end", "reset"}:
        return None
    state, pattern = read_state(frame.data), Pattern(skus=skus)
    changes = tuple(pattern.index(sku, quantity) for sku, quantity in state.items)
    return Told(event=frame.event, prev=state.prev, seq=state.seq, changes=changes, size=len(block) + 2)


class Splitter:
    """The bytes of one answer, cut into events; the head is checked and thrown away."""

    __slots__ = ("_rest", "is_open")

    def __init__(self) -> None:
        self._rest = b""
        self.is_open = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the events that they complete.

        Raises:
            StreamRefusedError: the answer's status is not 200, or its head has no end.
        """
        if self._rest:
            data = self._rest + data
        if not self.is_open:
            head, end, data = data.partition(_HEAD_END)
            if not end:
                self._rest = head
                if len(head) > MAX_HEAD_BYTES:
                    msg = "the answer's head has no end"
                    raise StreamRefusedError(msg)
                return []
            if head[9:12] != b"200":
                raise StreamRefusedError(head.partition(b"\r\n")[0].decode("latin-1"))
            self.is_open = True
        *blocks, self._rest = data.split(b"\n\n")
        return blocks


class Account:
    """What one reader was told since :meth:`begin`."""

    __slots__ = ("count", "first", "gaps", "late", "position", "total")

    def __init__(self) -> None:
        self.first = 0
        self.count = 0
        self.total = 0
        self.gaps = 0
        self.late = 0
        """Frames that end before where the reader stands: they say nothing new and do no harm."""
        self.position = -1

    def begin(self, first: int) -> None:
        """Count changes from ``first`` on."""
        self.first = first
        self.count = self.total = self.gaps = self.late = 0

    def take(self, told: Told) -> bool:
        """Count one event; say whether it tells of changes."""
        if told.event == "reset":
            # All that this reader held is void, which must not happen while nothing is broken.
            self.gaps += 1
            self.position = -1
            return False
        if told.event == "snap":
            return False
        self.gaps += told.prev > self.position >= 0
        self.late += told.seq < self.position
        self.position = max(self.position, told.seq)
        if told.event != "upd":
            return False
        for number in told.changes:
            if number >= self.first:
                self.count += 1
                self.total += number
        return True

    def missing(self, expected: Expected) -> int:
        """How many changes it was not told."""
        return max(0, expected.count - self.count)

    def is_wrong(self, expected: Expected) -> bool:
        """Whether it was told others than expected, or some twice."""
        return self.count > expected.count or (self.count == expected.count and self.total != expected.total)
