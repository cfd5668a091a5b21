"""What one reader of the feed has seen of what was posted: latency, and what never came.

The feed carries states, so a posted quantity counts as delivered when its SKU shows that quantity or a
later one: several changes of one SKU between two reads may arrive as one state. The n-th posted change
and its SKU and quantity determine each other (see ``Pattern``), so the two processes need no shared record.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """The n-th change sets SKU ``n % skus`` to quantity ``n // skus + 1``: every SKU counts upwards."""

    skus: int

    def sku(self, index: int) -> str:
        """The SKU of change ``index``."""
        return f"BENCH-{index % self.skus:05d}"

    def quantity(self, index: int) -> int:
        """The quantity of change ``index``; never 0, which a hub may show in another way."""
        return index // self.skus + 1

    def index(self, sku: str, quantity: int) -> int:
        """The change that set ``sku`` to ``quantity``; negative when no change did."""
        return (quantity - 1) * self.skus + int(sku.removeprefix("BENCH-"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The account of one reader at the end of a run."""

    exact: int
    superseded: int
    missing: int
    backwards: int
    wrong_final: int


class Coverage:
    """Changes ``first`` to ``last`` (exclusive), as one reader sees them."""

    def __init__(self, pattern: Pattern, first: int, last: int) -> None:
        self._pattern = pattern
        self._first = first
        self._last = last
        self._newest = array("q", [-1]) * pattern.skus
        self._covered_ns = array("q", [0]) * (last - first)
        self._exact = 0
        self._backwards = 0

    def see(self, items: Iterable[tuple[str, int]], at_ns: int) -> None:
        """Take one frame's (SKU, quantity) pairs, received at ``at_ns``."""
        for sku, quantity in items:
            self._see(self._pattern.index(sku, quantity), at_ns)

    def latencies_ns(self, start_ns: int, interval_ns: int) -> list[int]:
        """From the intended moment of each covered change to the frame that covered it."""
        return [
            covered - (start_ns + number * interval_ns)
            for number, covered in enumerate(self._covered_ns)
            if covered
        ]

    def is_complete(self) -> bool:
        """Whether every change has been covered."""
        return not self._covered_ns.count(0)

    def account(self) -> Seen:
        """What was seen as it was posted, what only in a later state, and what never."""
        missing = self._covered_ns.count(0)
        return Seen(
            exact=self._exact,
            superseded=len(self._covered_ns) - missing - self._exact,
            missing=missing,
            backwards=self._backwards,
            wrong_final=sum(1 for index in self._final_indexes() if self._newest_of(index) != index),
        )

    def _see(self, index: int, at_ns: int) -> None:
        slot = index % self._pattern.skus
        newest = self._newest[slot]
        if index <= newest:
            self._backwards += index < newest
            return
        self._newest[slot] = index
        if not self._first <= index < self._last:
            return
        self._exact += 1
        self._cover_back_from(index, at_ns)

    def _cover_back_from(self, index: int, at_ns: int) -> None:
        while index >= self._first and not self._covered_ns[index - self._first]:
            self._covered_ns[index - self._first] = at_ns
            index -= self._pattern.skus

    def _final_indexes(self) -> range:
        return range(max(self._first, self._last - self._pattern.skus), self._last)

    def _newest_of(self, index: int) -> int:
        return self._newest[index % self._pattern.skus]
