"""Readers that get the same bytes, and how those are found who watch a SKU.

Readers who name their SKUs are found through an index, so that a change costs as
much as there are audiences that watch it, and nothing for the others. Long lists
are asked instead: an index of 50,000 names would take 15 MB for one reader.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from synchub.feed import frames, rules
from synchub.feed.model import Cover
from synchub.feed.readers import count

if TYPE_CHECKING:
    from synchub.feed.model import Filter, Lens
    from synchub.feed.readers import Reader
    from synchub.stock.model import Answer

CONNECTIONS_PER_TURN: Final = 32
"""Connections that get a heartbeat before the loop turns: each takes some 10 µs, and changes wait."""
INDEXED_MAX: Final = 2000
"""Filters with more names than this are asked for each change instead of indexed."""


class Turns:
    """Lets the loop turn after every so many connections."""

    def __init__(self) -> None:
        self._left = CONNECTIONS_PER_TURN

    async def next(self) -> None:
        """Count one connection."""
        self._left -= 1
        if self._left <= 0:
            self._left = CONNECTIONS_PER_TURN
            await asyncio.sleep(0)


class Audience:
    """Readers that get the same bytes."""

    def __init__(self, lens: Lens, covered: int, now_ms: int) -> None:
        self.lens = lens
        self.covered = covered
        """Every reader here has got a frame up to this sequence, or joined later than it."""
        self.beat_due_ms = now_ms + lens.hb_ms
        self.readers: set[Reader] = set()

    def write(self, kind: str, data: bytes) -> None:
        """Write the same bytes to everyone; drop who is gone, put aside who takes too little."""
        gone: list[Reader] = []
        full: list[Reader] = []
        for reader in self.readers:
            transport = reader.transport
            if transport.is_closing():
                gone.append(reader)
                continue
            transport.write(data)
            if transport.get_write_buffer_size() > reader.limit_bytes:
                full.append(reader)
        count(kind, len(self.readers))
        for reader in gone:
            reader.tail.drop(reader)
        for reader in full:
            reader.tail.stall(reader)

    async def beat(self, epoch: str, position: int, asof_ms: int, *, is_degraded: bool, turns: Turns) -> None:
        """Write a heartbeat to everyone, a slot of readers per turn of the loop.

        ``covered`` moves only when all have it: an update in between must not claim that they do.
        It reaches everyone and says more, so then those still waiting are told no more.
        """
        covered = self.covered
        data = frames.hb(self.lens, epoch, Cover(covered, position, asof_ms, is_degraded))
        for reader in list(self.readers):
            if self.covered != covered:
                return
            if reader in self.readers:
                self._beat_one(reader, data)
            await turns.next()
        self.covered = max(self.covered, position)

    def _beat_one(self, reader: Reader, data: bytes) -> None:
        if reader.transport.is_closing():
            reader.tail.drop(reader)
        elif reader.is_full:
            reader.tail.stall(reader)
        else:
            reader.transport.write(data)
            count("hb", 1)


class Audiences:
    """All audiences of one merchant."""

    def __init__(self) -> None:
        self._by_lens: dict[Lens, Audience] = {}
        self._by_sku: dict[str, set[Audience]] = {}
        self._asked: dict[Filter, dict[Lens, Audience]] = {}
        """Those whose filter is asked about each change."""

    def __len__(self) -> int:
        return len(self._by_lens)

    def all(self) -> list[Audience]:
        """Everyone who is up to date."""
        return list(self._by_lens.values())

    def of(self, lens: Lens) -> Audience | None:
        """Those who look through a lens."""
        return self._by_lens.get(lens)

    def open(self, lens: Lens, covered: int, now_ms: int) -> Audience:
        """Return the audience of a lens, a new one where nobody looks through it yet."""
        audience = self._by_lens.get(lens)
        if audience is None:
            audience = self._by_lens[lens] = Audience(lens, covered, now_ms)
            if _is_indexed(lens.filter):
                for sku in lens.filter.skus:
                    self._by_sku.setdefault(sku, set()).add(audience)
            else:
                self._asked.setdefault(lens.filter, {})[lens] = audience
        return audience

    def leave(self, reader: Reader) -> Audience | None:
        """Take a reader out of its audience and return that, or None when it was in none."""
        audience = self._by_lens.get(reader.lens)
        if audience is None or reader not in audience.readers:
            return None
        audience.readers.discard(reader)
        if not audience.readers:
            self._close(audience)
        return audience

    def clear(self) -> None:
        """Forget everyone."""
        for audience in self.all():
            audience.readers.clear()
            self._close(audience)

    def hits(self, answers: dict[str, Answer]) -> dict[Audience, list[Answer]]:
        """Return what each audience has to be told of these changes."""
        found: dict[Audience, list[Answer]] = {}
        for chosen, audiences in self._asked.items():
            matching = rules.matching(chosen, answers)
            if matching:
                found.update(dict.fromkeys(audiences.values(), matching))
        for sku, answer in answers.items():
            for audience in self._by_sku.get(sku, ()):
                found.setdefault(audience, []).append(answer)
        return found

    def _close(self, audience: Audience) -> None:
        lens = audience.lens
        self._by_lens.pop(lens, None)
        if not _is_indexed(lens.filter):
            audiences = self._asked.get(lens.filter, {})
            audiences.pop(lens, None)
            if not audiences:
                self._asked.pop(lens.filter, None)
            return
        for sku in lens.filter.skus:
            others = self._by_sku.get(sku)
            if others is not None:
                others.discard(audience)
                if not others:
                    del self._by_sku[sku]


def _is_indexed(chosen: Filter) -> bool:
    return chosen.is_list and len(chosen.skus) <= INDEXED_MAX
