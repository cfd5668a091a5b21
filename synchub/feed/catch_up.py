"""Brings one reader up to date: by what it missed, by everything, or by what its set has gained.

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
from synchub.feed.model import ByeReason, Cover, Mode, ResetReason, Scope
from synchub.feed.readers import count
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import monotonic_ms
from synchub.stock import operations as stock

if TYPE_CHECKING:
    from collections.abc import Collection

    from synchub.feed.follower import FeedFollower
    from synchub.feed.model import Cursor
    from synchub.feed.readers import Reader
    from synchub.lua import Executes
    from synchub.settings import FeedSettings
    from synchub.stock.model import Answer, Reading

Drain = Callable[[], Awaitable[None]]
"""Waits until a connection takes more."""
_T = TypeVar("_T")

PAGES_AT_ONCE: Final = 8
"""Reads of pages in flight per process, so that a thousand snapshots do not delay the changes."""
STORE_PAUSE_S: Final = 0.2
"""Pause before a page is asked for again after the store has not answered."""
LOOK_AGAIN_S: Final = 0.05
"""Pause before a connection is looked at again that has taken some and not enough."""


class CatchUp:
    """Snapshots and replays, what is owed, and what a set has gained."""

    def __init__(self, redis: Executes, settings: FeedSettings, follower: FeedFollower) -> None:
        self._redis = redis
        self._settings = settings
        self._follower = follower
        self._pages = asyncio.Semaphore(PAGES_AT_ONCE)

    async def snapshot(self, reader: Reader, drain: Drain) -> None:
        """Send everything, and let the reader join its audience unless it has ended or must start anew."""
        asof_ms, seq, part = monotonic_ms(), -1, 0
        async for reading in self._read_pages(reader, _named(reader)):
            seq = reading.position.feed_seq if seq < 0 else seq
            if reading.answers:
                reader.write(frames.snap(reader.lens, frames.items(reading.answers, reader.lens.view), part))
                count("snap", 1)
                part += 1
            await self._drained(reader, drain)
        # Only a store that is known to have lost nothing may vouch for what was read from it.
        await self._follower.settled()
        if reader.is_behind:
            return
        reader.write(frames.snap_end(reader.lens, reader.tail.epoch, seq, asof_ms, part))
        count("snap_end", 1)
        reader.tail.vouch(seq, asof_ms)
        reader.seq = seq
        await self.settle(reader, drain, asof_ms)

    async def replay(self, reader: Reader, cursor: Cursor, drain: Drain) -> None:
        """Send the latest state of each matching SKU changed after the cursor, in one frame.

        The reader joins its audience; when changes turn out to be missing, nothing is
        sent and it must start anew.
        """
        asof_ms = monotonic_ms()
        if reader.lens.filter.is_list:
            answers, upto = await self._changed_by_name(reader, cursor.seq)
        else:
            answers, upto = await self._changed_by_stream(reader, cursor.seq)
        # Only a store that is known to have lost nothing may vouch for what was read from it.
        await self._follower.settled()
        if reader.is_behind:
            return
        seq = max(cursor.seq, upto)
        reader.tail.vouch(seq, asof_ms)
        _tell(reader, Cover(cursor.seq, seq, asof_ms), answers)
        reader.seq = seq
        await self.settle(reader, drain, asof_ms)

    async def settle(self, reader: Reader, drain: Drain, asof_ms: int = 0) -> None:
        """Tell what was noted as soon as it is taken; then the reader joins, with no await in between."""
        while not reader.is_behind:
            if reader.is_full:
                await self._drained(reader, drain)
            elif reader.next_lens is not None:
                await self._change_lens(reader, drain)
            else:
                if _owes(reader):
                    _tell_noted(reader, asof_ms)
                reader.tail.join(reader, monotonic_ms())
                return

    async def _change_lens(self, reader: Reader, drain: Drain) -> None:
        """Tell a reader that has a state what is different through its next lens."""
        old, new = reader.lens, reader.next_lens
        if new is None:
            return
        # From here on changes are noted by the new filter, and only then what it has gained is read.
        reader.look_through(new)
        if new.filter != old.filter:
            reader.write(frames.changed_set(new, old.filter.rev, sorted(old.filter.skus - new.filter.skus)))
            count("set", 1)
            await self._add(reader, new.filter.skus - old.filter.skus, drain)
        if new.view != old.view and not reader.is_behind:
            await self._invalidate(reader)

    async def _add(self, reader: Reader, added: Collection[str], drain: Drain) -> None:
        """Send what a set has gained; changes go on to be told meanwhile, under no position to return to."""
        part = 0
        async for reading in self._read_pages(reader, () if reader.lens.mode is Mode.INV else added):
            if reading.answers:
                items = frames.items(reading.answers, reader.lens.view)
                reader.write(frames.snap(reader.lens, items, part, Scope.ADDED))
                count("snap", 1)
                part += 1
            # Where much is added, this is also the heartbeat of what was there before.
            if part > 1 or _owes(reader):
                _tell_noted(reader, is_position=False)
            await self._drained(reader, drain)
        await self._follower.settled()
        if reader.is_behind or reader.seq is None:
            return
        if _owes(reader):
            _tell_noted(reader, is_position=False)
        tail = reader.tail
        reader.write(frames.snap_end(reader.lens, tail.epoch, reader.seq, tail.asof_ms, part, Scope.ADDED))
        count("snap_end", 1)

    async def _invalidate(self, reader: Reader) -> None:
        """Tell a reader of versions that everything it has may be another now."""
        found: dict[str, Answer] = {}
        async for reading in self._read_pages(reader, reader.lens.filter.skus):
            found |= {answer.sku: answer for answer in reading.answers}
        await self._follower.settled()
        if not reader.is_behind:
            reader.changed = found | reader.changed
            _tell_noted(reader, is_renewed=True)

    async def _read_pages(self, reader: Reader, names: Collection[str] | None) -> AsyncIterator[Reading]:
        """Read these SKUs, or with None all that the filter's prefix fits; of no names only the position."""
        keys, size = MerchantKeys(reader.tail.merchant), self._settings.snapshot_part
        epoch, least = reader.tail.epoch, reader.tail.position
        after, ordered, start = "", sorted(names or ()), 0
        chosen = reader.lens.filter
        while True:
            if names is None:
                page = partial(
                    stock.read_page, self._redis, keys, prefix=chosen.prefix, after=after, limit=size
                )
            else:
                page = partial(stock.read, self._redis, keys, ordered[start : start + size])
                start += size
            reading = await self._asked(reader, page)
            if reading is None:
                return
            if reading.position.epoch != epoch or reading.position.feed_seq < least:
                await self._asked(reader, self._follower.prove)
            if reader.is_behind:
                return
            least = max(least, reading.position.feed_seq)
            yield reading
            if start >= len(ordered) if names is not None else len(reading.answers) < size:
                return
            after = reading.answers[-1].sku if names is None else ""

    async def _changed_by_name(self, reader: Reader, seq: int) -> tuple[list[Answer], int]:
        """Ask for the SKUs by name: never more work than there are names, however long the absence."""
        changed: list[Answer] = []
        upto = -1
        async for reading in self._read_pages(reader, reader.lens.filter.skus):
            upto = reading.position.feed_seq if upto < 0 else upto
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
                _tell_degraded(reader)
                await asyncio.sleep(STORE_PAUSE_S)
        return None

    async def _drained(self, reader: Reader, drain: Drain) -> None:
        """Wait until the connection takes more; one that takes nothing for too long is sent away."""
        try:
            async with asyncio.timeout(self._settings.owed_max_ms / 1000):
                await drain()
                while reader.is_full and not reader.is_behind:
                    await asyncio.sleep(LOOK_AGAIN_S)
                    await drain()
        except TimeoutError:
            reader.end(ByeReason.SLOW)
        except ConnectionError:
            reader.tail.drop(reader)


def _named(reader: Reader) -> Collection[str] | None:
    """What a snapshot reads: nothing for a reader of versions, who begins with nothing."""
    if reader.lens.mode is Mode.INV:
        return ()
    return reader.lens.filter.skus if reader.lens.filter.is_list else None


def _tell_degraded(reader: Reader) -> None:
    """Tell a reader that has a state and stands aside what those in audiences are told by heartbeats."""
    tail, seq = reader.tail, reader.seq
    if seq is not None and tail.is_degraded and not reader.is_full:
        cover = Cover(seq, seq, tail.asof_ms, is_degraded=True, is_position=False)
        reader.write(frames.hb(reader.lens, tail.epoch, cover))
        count("hb", 1)


def _owes(reader: Reader) -> bool:
    """Say whether a reader must be told anything before it is where everybody is."""
    return reader.tail.position > (reader.seq or 0) or bool(reader.changed) or bool(reader.own)


def _tell_noted(
    reader: Reader, asof_ms: int = 0, *, is_position: bool = True, is_renewed: bool = False
) -> None:
    """Tell everything that was noted, in one frame that covers what happened since the last one."""
    tail, seq = reader.tail, reader.seq or 0
    upto = max(seq, tail.position)
    changed = [answer for answer in reader.changed.values() if is_renewed or answer.seq > seq]
    own = list(reader.own.items())
    reader.forget_owed()
    _tell(reader, Cover(seq, upto, max(asof_ms, tail.asof_ms), tail.is_degraded, is_position), changed, own)
    reader.seq = upto


def _tell(
    reader: Reader, cover: Cover, changed: Collection[Answer], own: Collection[frames.Version] = ()
) -> None:
    lens, epoch = reader.lens, reader.tail.epoch
    if lens.mode is Mode.INV:
        versions = {answer.sku: answer.ver for answer in changed} | dict(own)
        reader.write(frames.upd(lens, epoch, cover, (), list(versions.items())))
    else:
        reader.write(frames.upd(lens, epoch, cover, frames.items(changed, lens.view), list(own)))
    count("upd", 1)
