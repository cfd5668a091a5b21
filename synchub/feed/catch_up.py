"""Brings one reader up to date: by what it missed, or by everything.

``asof`` of what is sent here is the time just before the *first* read was sent:
later pages are at least as new, and the position is that of the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from synchub.errors import Fault
from synchub.feed import frames, rules, store
from synchub.feed.fanout import HIGH_WATER_BYTES, count
from synchub.feed.model import ByeReason, ResetReason
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import monotonic_ms
from synchub.stock import operations as stock

if TYPE_CHECKING:
    from synchub.feed.fanout import Reader
    from synchub.feed.follower import FeedFollower
    from synchub.feed.model import Cursor
    from synchub.lua import Executes
    from synchub.settings import FeedSettings
    from synchub.stock.model import Answer, Reading

Drain = Callable[[], Awaitable[None]]
"""Waits until a connection takes more."""
_T = TypeVar("_T")

PAGES_AT_ONCE: Final = 8
"""Reads of pages in flight per process, so that a thousand snapshots do not delay the changes."""
STALLED_S: Final = 10.0
"""A reader that takes nothing for so long while it catches up is too slow."""
STORE_PAUSE_S: Final = 0.2
"""Pause before a page is asked for again after the store has not answered."""


class CatchUp:
    """Snapshots and replays."""

    def __init__(self, redis: Executes, settings: FeedSettings, follower: FeedFollower) -> None:
        self._redis = redis
        self._settings = settings
        self._follower = follower
        self._pages = asyncio.Semaphore(PAGES_AT_ONCE)

    async def snapshot(self, reader: Reader, drain: Drain) -> bool:
        """Send everything; return whether the reader has joined its audience.

        If not, it has ended or must start anew.
        """
        epoch, least = reader.tail.epoch, reader.tail.position
        asof_ms, seq, part = monotonic_ms(), -1, 0
        async for reading in self._read_pages(reader):
            seq = reading.position.feed_seq if seq < 0 else seq
            if reading.position.epoch != epoch or reading.position.feed_seq < max(least, seq):
                await self._asked(reader, self._follower.prove)
            if reader.is_behind:
                return False
            if reading.answers:
                reader.write(frames.snap(reader.lens, frames.items(reading.answers, reader.lens.view), part))
                count("snap", 1)
                part += 1
            await _drained(reader, drain)
        # Only a store that is known to have lost nothing may vouch for what was read from it.
        await self._follower.settled()
        if reader.is_behind:
            return False
        reader.write(frames.snap_end(reader.lens, epoch, seq, asof_ms))
        count("snap_end", 1)
        reader.tail.vouch(seq, asof_ms)
        return await self._join(reader, seq, asof_ms, drain)

    async def replay(self, reader: Reader, cursor: Cursor, drain: Drain) -> bool:
        """Send the latest state of each matching SKU changed after the cursor, in one frame.

        Returns as :meth:`snapshot` does; when changes turn out to be missing,
        nothing is sent and the reader starts anew.
        """
        asof_ms = monotonic_ms()
        if reader.lens.filter.skus:
            answers, upto = await self._changed_by_name(reader, cursor.seq)
        else:
            answers, upto = await self._changed_by_stream(reader, cursor.seq)
        # Only a store that is known to have lost nothing may vouch for what was read from it.
        await self._follower.settled()
        if reader.is_behind:
            return False
        seq = max(cursor.seq, upto)
        reader.tail.vouch(seq, asof_ms)
        self._tell(reader, (cursor.seq, seq), asof_ms, answers)
        await _drained(reader, drain)
        return await self._join(reader, seq, asof_ms, drain)

    async def _join(self, reader: Reader, seq: int, asof_ms: int, drain: Drain) -> bool:
        """Tell what was noted meanwhile, then let the reader join its audience, with no await in between."""
        tail = reader.tail
        while not reader.is_behind:
            if tail.position > seq:
                changed = [answer for answer in reader.changed.values() if answer.seq > seq]
                reader.changed.clear()
                self._tell(reader, (seq, tail.position), max(asof_ms, tail.asof_ms), changed)
                seq = tail.position
            if reader.unsent_bytes <= HIGH_WATER_BYTES:
                tail.join(reader, monotonic_ms())
                return True
            await _drained(reader, drain)
        return False

    async def _read_pages(self, reader: Reader) -> AsyncIterator[Reading]:
        keys, size = MerchantKeys(reader.tail.merchant), self._settings.snapshot_part
        chosen = reader.lens.filter
        names = sorted(chosen.skus)
        for start in range(0, len(names), size):
            part = names[start : start + size]
            reading = await self._asked(reader, partial(stock.read, self._redis, keys, part))
            if reading is None:
                return
            yield reading
        after = ""
        while not names:
            page = partial(stock.read_page, self._redis, keys, prefix=chosen.prefix, after=after, limit=size)
            reading = await self._asked(reader, page)
            if reading is None:
                return
            yield reading
            if len(reading.answers) < size:
                return
            after = reading.answers[-1].sku

    async def _changed_by_name(self, reader: Reader, seq: int) -> tuple[list[Answer], int]:
        """Ask for the SKUs by name: never more work than there are names, however long the absence."""
        changed: list[Answer] = []
        upto = -1
        async for reading in self._read_pages(reader):
            upto = reading.position.feed_seq if upto < 0 else upto
            if reading.position.epoch != reader.tail.epoch:
                await self._asked(reader, self._follower.prove)
            changed += [answer for answer in reading.answers if answer.seq > seq]
        return changed, upto

    async def _changed_by_stream(self, reader: Reader, seq: int) -> tuple[list[Answer], int]:
        """Read the stream from the cursor to the present head, keeping the last answer of each SKU."""
        keys, limit = MerchantKeys(reader.tail.merchant), self._settings.read_max
        answers: dict[str, Answer] = {}
        head = await self._asked(reader, partial(stock.read_head, self._redis, keys))
        upto = head.feed_seq if head is not None else seq
        while seq < upto and not reader.is_behind:
            read = partial(store.read_range, self._redis, keys, after=seq, upto=upto, limit=limit)
            entries = await self._asked(reader, read)
            if not entries or entries[0].previous > seq or rules.broken_link(entries[0].seq, entries[1:]):
                reader.interrupt(ResetReason.GAP)
                break
            answers.update(rules.latest(entries))
            seq = entries[-1].seq
        return rules.matching(reader.lens.filter, answers), upto

    async def _asked(self, reader: Reader, read: Callable[[], Awaitable[_T]]) -> _T | None:
        """Read from the store, again and again while it fails; None when the reader no longer waits."""
        while not reader.is_behind:
            try:
                async with self._pages:
                    return await read()
            except Fault:
                await asyncio.sleep(STORE_PAUSE_S)
        return None

    @staticmethod
    def _tell(reader: Reader, cover: tuple[int, int], asof_ms: int, changed: list[Answer]) -> None:
        lens, epoch = reader.lens, reader.tail.epoch
        reader.write(frames.upd(lens, epoch, cover, asof_ms, frames.items(changed, lens.view)))
        count("upd", 1)


async def _drained(reader: Reader, drain: Drain) -> None:
    try:
        async with asyncio.timeout(STALLED_S):
            await drain()
    except TimeoutError:
        reader.end(ByeReason.SLOW)
    except ConnectionError:
        reader.tail.drop(reader)
