"""Answers polls: what has changed after a position, or everything page by page.

A poll stands among the readers that are catching up, so it hears of changes as they
do, but what it is told is read from the store: it can be continued in any process.
``asof`` is told only where nothing more is left to fetch; otherwise the state at the
answer's position may have been passed already.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from synchub.errors import CursorTooOld, StoreUnavailable
from synchub.feed import frames, rules, store
from synchub.feed.model import Lens, Mode, ResetReason
from synchub.feed.readers import Reader
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import monotonic_ms, now_ms
from synchub.stock import operations as stock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from synchub.feed.fanout import Tail
    from synchub.feed.follower import FeedFollower
    from synchub.feed.model import Cursor, SourceState
    from synchub.lua import Executes
    from synchub.settings import FeedSettings
    from synchub.stock.model import Answer, FeedEntry, Position

READS_AT_ONCE: Final = 8
"""Polls that read at the same time, so that a thousand woken at once do not delay the changes."""
READS_MAX: Final = 16
"""Reads of the stream for one answer; a filter that matches little gets its answer in parts."""
READ_WITHIN_S: Final = 10.0
"""With its waiting for others; a store that hangs must not keep polls for ever."""
_PAGE_PARTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far a client has come that fetches everything page by page."""

    part: int
    """How many pages it has."""
    after: str
    """The last SKU it has; empty before the first page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer."""

    epoch: str
    prev: int | None
    """With every matching change in ``(prev, seq]``; None in a page of everything."""
    seq: int
    asof_ms: int | None
    """When everything up to ``seq`` was complete; None while there is more to fetch."""
    changed: tuple[Answer, ...]
    position: str
    """What to ask for next."""
    part: int | None = None
    """Which page of everything it is."""
    is_last: bool = False
    """Whether it is the last page of everything."""
    sources: tuple[SourceState, ...] = ()
    """How far the accounts are known, where there is no more to fetch."""

    @property
    def has_more(self) -> bool:
        """Whether the rest can be fetched at once."""
        return self.asof_ms is None


class _Nowhere(asyncio.Transport):
    """Where frames for a poll go: it is answered otherwise."""

    def is_closing(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0


class Waiter(Reader):
    """A poll, as the fan-out sees it: woken by what matches, and by whatever ends or interrupts a reader."""

    __slots__ = ()

    def __init__(self, lens: Lens, tail: Tail, *, agent: str) -> None:
        super().__init__(_Nowhere(), lens, tail, agent=agent, limit_bytes=0, owed_max=0, retry_ms=0)

    def note(self, answers: dict[str, Answer]) -> None:
        """Wake the poll when one of them is for it."""
        if rules.matching(self.lens.filter, answers):
            self._turn.set()

    async def news(self, within_s: float) -> bool:
        """Wait until there may be something to tell; False when time has run out."""
        try:
            async with asyncio.timeout(within_s):
                await self._turn.wait()
        except TimeoutError:
            return False
        return True


class Changes:
    """Reads what polls are told."""

    def __init__(self, redis: Executes, settings: FeedSettings, follower: FeedFollower) -> None:
        self._redis = redis
        self._settings = settings
        self._follower = follower
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    async def poll(self, waiter: Waiter, since: str, *, limit: int, until_ms: float) -> Page:
        """Answer with the first changes after ``since``, waiting for one until the monotonic time given.

        Without ``since`` with the first page of everything.

        Raises:
            CursorTooOld: the position cannot be continued.
            StoreUnavailable, OutcomeUnknown: the store could not be read.
        """
        while True:
            is_over = waiter.ended or monotonic_ms() >= until_ms
            waiter.begin()
            page = await self._read_in_time(waiter, since, limit)
            if is_over or page.changed or page.has_more or page.part is not None:
                return page
            await waiter.news((until_ms - monotonic_ms()) / 1000)

    async def _read_in_time(self, waiter: Waiter, since: str, limit: int) -> Page:
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                return await self._read(waiter, since, limit)
        except TimeoutError:
            msg = "The changes could not be read in time."
            raise StoreUnavailable(msg, retry_after_s=1) from None

    async def _read(self, waiter: Waiter, since: str, limit: int) -> Page:
        async with self._reads:
            page = await self._read_page(waiter, since, limit)
            if page.epoch != waiter.tail.epoch:
                _refuse(ResetReason.EPOCH)
            if page.has_more:
                return page
            return replace(page, sources=await self._sources(waiter.tail.merchant))

    async def _sources(self, merchant: str) -> tuple[SourceState, ...]:
        heard = await store.read_sources(self._redis, MerchantKeys(merchant))
        wall_ms, at_ms = now_ms(), monotonic_ms()
        return tuple(
            rules.source_state(
                one.account, one.heard_ms, max_age_ms=one.max_age_ms, wall_ms=wall_ms, monotonic_ms=at_ms
            )
            for one in heard
        )

    async def _read_page(self, waiter: Waiter, since: str, limit: int) -> Page:
        if not self._follower.health.fresh:
            # Only a store that is known to have lost nothing may vouch for what is read from it.
            await self._follower.prove()
        asof_ms = monotonic_ms()
        head, oldest = await self._follower.proven_head(waiter.tail)
        cursor, place = read_position(since)
        if since:
            mark = waiter.lens.fingerprint
            _refuse(rules.obstacle(cursor, mark=mark, head=head, oldest=oldest))
        if cursor is None or place is not None:
            return await self._page(waiter, cursor, place or Place(part=0, after=""), (limit, asof_ms))
        if waiter.lens.filter.is_list and head.feed_seq - cursor.seq > self._settings.read_max:
            return await self._by_name(waiter, cursor, limit, asof_ms)
        return await self._by_stream(waiter, cursor, head, (limit, asof_ms))

    async def _page(self, waiter: Waiter, start: Cursor | None, place: Place, about: tuple[int, int]) -> Page:
        """Read the next page of everything; its position is that of the first."""
        limit, asof_ms = about
        keys, chosen = MerchantKeys(waiter.tail.merchant), waiter.lens.filter
        if chosen.is_list or waiter.lens.mode is Mode.INV:
            # Who is told versions alone begins with nothing.
            named = chosen.skus if waiter.lens.mode is Mode.UPD else ()
            names = [sku for sku in sorted(named) if not place.part or sku > place.after]
            reading = await stock.read(self._redis, keys, names[:limit])
            is_last = len(names) <= limit
        else:
            reading = await stock.read_page(
                self._redis, keys, prefix=chosen.prefix, after=place.after, limit=limit
            )
            is_last = len(reading.answers) < limit
        found = reading.position
        seq = found.feed_seq if start is None else start.seq
        if found.epoch != waiter.tail.epoch or found.feed_seq < seq:
            _refuse(ResetReason.EPOCH)
        following = Place(part=place.part + 1, after=reading.answers[-1].sku if reading.answers else "")
        position = rules.cursor_text(found.epoch, seq, waiter.lens.fingerprint)
        return Page(
            epoch=found.epoch,
            prev=None,
            seq=seq,
            # An earlier page belongs to another request, whose time says nothing about this one's.
            asof_ms=asof_ms if is_last and not place.part else None,
            changed=tuple(reading.answers),
            position=position if is_last else position + _place_text(following),
            part=place.part,
            is_last=is_last,
        )

    async def _by_stream(
        self, waiter: Waiter, cursor: Cursor, head: Position, about: tuple[int, int]
    ) -> Page:
        """Read the stream from the position on: the last answer of each SKU, for so many SKUs."""
        limit, asof_ms = about
        keys, upto = MerchantKeys(waiter.tail.merchant), head.feed_seq
        chosen: dict[str, Answer] = {}
        seq, is_cut = cursor.seq, False
        for _ in range(READS_MAX):
            if seq >= upto or is_cut:
                break
            size = self._settings.read_max
            entries = await store.read_range(self._redis, keys, after=seq, upto=upto, limit=size)
            if not entries or entries[0].previous > seq or rules.broken_link(entries[0].seq, entries[1:]):
                _refuse(ResetReason.TOO_OLD)
            seq, is_cut = _take(waiter.lens, entries, chosen, (seq, limit))
        is_complete = seq >= upto
        return _answer(waiter, cursor, max(seq, cursor.seq), chosen, asof_ms if is_complete else None)

    async def _by_name(self, waiter: Waiter, cursor: Cursor, limit: int, asof_ms: int) -> Page:
        """Ask for the SKUs by name: never more work than there are names, however long the absence."""
        keys, size = MerchantKeys(waiter.tail.merchant), self._settings.snapshot_part
        names = sorted(waiter.lens.filter.skus)
        found: list[Answer] = []
        upto = -1
        for start in range(0, len(names), size):
            reading = await stock.read(self._redis, keys, names[start : start + size])
            if reading.position.epoch != cursor.epoch:
                _refuse(ResetReason.EPOCH)
            # Later reads are newer: what they have beyond the first's position comes once more.
            upto = reading.position.feed_seq if upto < 0 else upto
            found += [answer for answer in reading.answers if answer.seq > cursor.seq]
        found.sort(key=lambda answer: answer.seq)
        chosen = {answer.sku: answer for answer in found[:limit]}
        is_cut = len(found) > limit and found[limit - 1].seq < upto
        seq = found[limit - 1].seq if is_cut else max(upto, cursor.seq)
        return _answer(waiter, cursor, seq, chosen, None if is_cut else asof_ms)


def read_position(text: str) -> tuple[Cursor | None, Place | None]:
    """Read a position, and the place in everything where it is one of those; None for what it is not."""
    head, *rest = text.split("/")
    cursor = rules.read_cursor(head)
    if not rest or cursor is None:
        return cursor, None
    if len(rest) != _PAGE_PARTS - 1 or not (rest[0].isascii() and rest[0].isdigit()):
        return None, None
    try:
        padded = rest[1] + "=" * (-len(rest[1]) % 4)
        after = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None, None
    return cursor, Place(part=int(rest[0]), after=after)


def _place_text(place: Place) -> str:
    after = base64.urlsafe_b64encode(place.after.encode()).decode().rstrip("=")
    return f"/{place.part}/{after}"


def _take(
    lens: Lens, entries: Iterable[FeedEntry], chosen: dict[str, Answer], about: tuple[int, int]
) -> tuple[int, bool]:
    """Add what matches, as long as there is room; return how far that went, and whether room ran out."""
    seq, limit = about
    for entry in entries:
        sku = entry.answer.sku
        if rules.matching(lens.filter, {sku: entry.answer}):
            if sku not in chosen and len(chosen) >= limit:
                return seq, True
            chosen[sku] = entry.answer
        seq = entry.seq
    return seq, False


def _answer(
    waiter: Waiter, cursor: Cursor, seq: int, chosen: Mapping[str, Answer], asof_ms: int | None
) -> Page:
    return Page(
        epoch=cursor.epoch,
        prev=cursor.seq,
        seq=seq,
        asof_ms=asof_ms,
        changed=tuple(chosen.values()),
        position=rules.cursor_text(cursor.epoch, seq, waiter.lens.fingerprint),
    )


def _refuse(reason: ResetReason | None) -> None:
    if reason is not None:
        msg = f"This position cannot be continued ({reason.value}); begin anew without since."
        raise CursorTooOld(msg)


def body(page: Page, lens: Lens, *, started_ms: int, bound_ms: int) -> dict[str, object]:
    """Return a poll's answer as JSON has it; ``st`` is the monotonic time when its request was handled."""
    told: dict[str, object] = {
        "epoch": page.epoch,
        "prev": page.prev,
        "seq": page.seq,
        "st": started_ms,
        "asof": page.asof_ms,
        "bound_ms": bound_ms,
        "rev": lens.filter.rev,
        "snapshot": None if page.part is None else {"part": page.part, "last": page.is_last},
        "id": page.position,
        "more": page.has_more,
        "sources": [
            {"account": one.account, "asof": one.asof_ms, "status": one.status} for one in page.sources
        ],
    }
    if lens.mode is Mode.INV:
        return told | {"inv": [[answer.sku, answer.ver] for answer in page.changed]}
    items = sorted(frames.items(page.changed, lens.view), key=lambda one: one.is_sellable)
    return told | {"items": [one.json for one in items]}
