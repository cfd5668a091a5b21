"""Gives every change to every reader that watches it: no task, queue or awaited write per reader.

Readers with one lens form an :class:`Audience`; a frame is built once for it and
the same bytes go straight to each transport. Readers that are still catching up
stand aside in :attr:`Tail.catching_up` and only note which SKUs have changed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.feed import frames, rules
from synchub.feed.model import ByeReason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from synchub.feed.model import Lens, ResetReason, ViewClass
    from synchub.stock.model import Answer, FeedEntry, Position

HEARTBEATS_PER_TURN: Final = 200
"""Connections that get their heartbeat before the loop turns: 10,000 at once stop it for 66 ms."""
HIGH_WATER_BYTES: Final = 65_536
"""A reader with more than this unsent has not caught up."""
BYE_GRACE_S: Final = 5.0
"""A connection that has not taken its last bytes by then is cut."""

_FRAMES: Final = {
    kind: metrics.feed_frames.labels(kind)
    for kind in ("hello", "snap", "snap_end", "upd", "hb", "reset", "bye")
}


class Reader:
    """One connection and what it is owed."""

    __slots__ = (
        "_turn",
        "changed",
        "ended",
        "interrupted",
        "lens",
        "limit_bytes",
        "retry_ms",
        "started",
        "tail",
        "transport",
    )

    def __init__(
        self, transport: asyncio.Transport, lens: Lens, tail: Tail, *, limit_bytes: int, retry_ms: int
    ) -> None:
        self.transport = transport
        self.lens = lens
        self.tail = tail
        self.limit_bytes = limit_bytes
        self.retry_ms = retry_ms
        self.changed: dict[str, Answer] = {}
        """While catching up: the latest state of each matching SKU that changed since registration."""
        self.interrupted: ResetReason | None = None
        self.started = False
        """Whether the response head is out, before which no frame may be written."""
        self.ended = False
        self._turn = asyncio.Event()

    @property
    def unsent_bytes(self) -> int:
        """What the kernel has not yet taken."""
        return self.transport.get_write_buffer_size()

    @property
    def is_behind(self) -> bool:
        """Whether something must happen before this reader may go on with what it does."""
        return self.ended or self.interrupted is not None

    def write(self, data: bytes) -> None:
        """Write unless the connection is gone."""
        if self.transport.is_closing():
            self.tail.drop(self)
        else:
            self.transport.write(data)

    def note(self, answers: dict[str, Answer]) -> None:
        """Remember what changed for the time when this reader has caught up."""
        for answer in rules.matching(self.lens.filter, answers):
            self.changed[answer.sku] = answer

    def interrupt(self, reason: ResetReason) -> None:
        """Have the reader start anew."""
        self.changed.clear()
        self.interrupted = reason
        self._turn.set()

    def end(self, reason: ByeReason) -> None:
        """Say good-bye where that is still possible, and let the connection be closed."""
        if self.ended:
            return
        self.tail.drop(self)
        if self.started and not self.transport.is_closing():
            reconnect = reason is not ByeReason.AUTH
            self.transport.write(frames.bye(self.lens, reason, retry_ms=self.retry_ms, reconnect=reconnect))
            count("bye", 1)
            metrics.feed_byes.labels(reason.value).inc()
            # A peer that does not read would keep the closing connection for ever.
            asyncio.get_running_loop().call_later(BYE_GRACE_S, self.transport.abort)

    def finish(self) -> None:
        """Wake the handler, which then returns."""
        self.ended = True
        self._turn.set()

    async def interruption(self) -> None:
        """Wait until the reader is interrupted or ended."""
        await self._turn.wait()

    def begin(self) -> ResetReason | None:
        """Take the interruption, if any, and start catching up."""
        reason, self.interrupted = self.interrupted, None
        if not self.ended:
            self._turn.clear()
        return reason


class Audience:
    """Readers that get the same bytes."""

    def __init__(self, lens: Lens, covered: int, now_ms: int) -> None:
        self.lens = lens
        self.covered = covered
        """Every reader here has got a frame up to this sequence, or joined later than it."""
        self.beat_due_ms = now_ms + lens.hb_ms
        self.readers: set[Reader] = set()

    def write(self, kind: str, data: bytes) -> None:
        """Write the same bytes to everyone; drop who is gone, send away who is too slow."""
        failing: list[Reader] = []
        for reader in self.readers:
            transport = reader.transport
            if transport.is_closing():
                failing.append(reader)
                continue
            transport.write(data)
            if transport.get_write_buffer_size() > reader.limit_bytes:
                failing.append(reader)
        count(kind, len(self.readers))
        for reader in failing:
            reader.end(ByeReason.SLOW)

    async def beat(self, epoch: str, position: int, asof_ms: int) -> None:
        """Write a heartbeat to everyone, a slot of readers per turn of the loop.

        ``covered`` moves only when all have it: an update in between must not
        claim that they do.
        """
        data = frames.hb(self.lens, epoch, (self.covered, position), asof_ms)
        waiting = deque(self.readers)
        count("hb", len(waiting))
        while waiting:
            for _ in range(min(HEARTBEATS_PER_TURN, len(waiting))):
                reader = waiting.popleft()
                if reader in self.readers:
                    self._beat_one(reader, data)
            if waiting:
                await asyncio.sleep(0)
        self.covered = max(self.covered, position)

    def _beat_one(self, reader: Reader, data: bytes) -> None:
        if reader.transport.is_closing() or reader.unsent_bytes > reader.limit_bytes:
            reader.end(ByeReason.SLOW)
            return
        reader.transport.write(data)


class Tail:
    """One merchant's feed as far as this process has read it, and everyone who follows it."""

    def __init__(self, merchant: str, head: Position, asof_ms: int) -> None:
        self.merchant = merchant
        self.epoch = head.epoch
        self.position = head.feed_seq
        self.seen = head.seq
        """Highest sequence this process has met; a head below it proves a loss."""
        self.asof_ms = asof_ms
        """Everything up to ``position`` was complete at this monotonic time."""
        self._vouched = (self.position, asof_ms)
        self.last_entry: dict[bytes, bytes] | None = None
        """The entry at ``position`` as it was read, to recognize a rewritten history."""
        self.catching_up: set[Reader] = set()
        self._audiences: dict[Lens, Audience] = {}
        self._by_sku: dict[str, set[Audience]] = {}
        self._by_prefix: dict[Lens, Audience] = {}

    @property
    def is_idle(self) -> bool:
        """Whether nobody follows."""
        return not self.catching_up and not self._audiences

    @property
    def audiences(self) -> list[Audience]:
        """Everyone who is up to date."""
        return list(self._audiences.values())

    @property
    def readers(self) -> list[Reader]:
        """Everyone."""
        return [*self.catching_up, *(reader for one in self._audiences.values() for reader in one.readers)]

    def publish(self, entries: list[FeedEntry], *, asof_ms: int | None, now_ms: int) -> None:
        """Advance over entries that continue ``position`` and tell their audiences.

        ``asof_ms`` is when the read was sent, or None when its reply was cut short
        by COUNT: then more may have existed at that time.
        """
        if entries:
            self.position = entries[-1].seq
            self.seen = max(self.seen, self.position)
        if asof_ms is not None:
            self.asof_ms = max(self.asof_ms, asof_ms)
        self._use_vouched()
        if not entries:
            return
        answers = rules.latest(entries)
        for reader in self.catching_up:
            reader.note(answers)
        serialized: dict[tuple[str, ViewClass], frames.Item] = {}
        for audience in self._watching(answers):
            self._tell(audience, answers, serialized, now_ms)

    def vouch(self, seq: int, asof_ms: int) -> None:
        """Use what a snapshot or replay has found: at ``asof_ms`` the feed ended with ``seq``.

        Without it a reader's first frames could claim less than its snapshot did.
        """
        self._vouched = max(self._vouched, (seq, asof_ms))
        self._use_vouched()

    def _use_vouched(self) -> None:
        seq, asof_ms = self._vouched
        if self.position >= seq:
            self.asof_ms = max(self.asof_ms, asof_ms)

    def join(self, reader: Reader, now_ms: int) -> None:
        """Put a reader that has everything up to ``position`` among its audience."""
        lens = reader.lens
        audience = self._audiences.get(lens)
        if audience is None:
            audience = Audience(lens, self.position, now_ms)
            self._index(audience)
        self.catching_up.discard(reader)
        reader.changed.clear()
        reader.lens = audience.lens
        audience.readers.add(reader)

    def drop(self, reader: Reader) -> None:
        """Forget a reader; nothing happens when it is already forgotten."""
        self.catching_up.discard(reader)
        audience = self._audiences.get(reader.lens)
        if audience is not None:
            audience.readers.discard(reader)
            if not audience.readers:
                self._unindex(audience)
        reader.finish()

    def change_lens(self, reader: Reader, lens: Lens, reason: ResetReason) -> None:
        """Have one reader start anew and see everything through another lens."""
        audience = self._audiences.get(reader.lens)
        if audience is not None:
            audience.readers.discard(reader)
            if not audience.readers:
                self._unindex(audience)
        reader.lens = lens
        if not reader.ended:
            self.catching_up.add(reader)
            reader.interrupt(reason)

    def restart(self, head: Position, asof_ms: int, reason: ResetReason) -> None:
        """Go on from another position or history: everyone has to start anew."""
        readers = self.readers
        for audience in self.audiences:
            self._unindex(audience)
            audience.readers.clear()
        self.epoch, self.position, self.seen = head.epoch, head.feed_seq, head.seq
        self.asof_ms, self.last_entry = asof_ms, None
        self._vouched = (self.position, asof_ms)
        self.catching_up = set(readers)
        for reader in readers:
            reader.interrupt(reason)

    def _watching(self, answers: Iterable[str]) -> list[Audience]:
        found = {one: None for sku in answers for one in self._by_sku.get(sku, ())}
        return [*self._by_prefix.values(), *found]

    def _tell(
        self,
        audience: Audience,
        answers: dict[str, Answer],
        serialized: dict[tuple[str, ViewClass], frames.Item],
        now_ms: int,
    ) -> None:
        about = audience.lens.view
        chosen: list[frames.Item] = []
        for answer in rules.matching(audience.lens.filter, answers):
            known = serialized.get((answer.sku, about))
            if known is None:
                known = serialized[answer.sku, about] = frames.item(answer, about)
            chosen.append(known)
        if not chosen:
            return
        cover = (audience.covered, self.position)
        data = frames.upd(audience.lens, self.epoch, cover, self.asof_ms, chosen)
        audience.covered = self.position
        audience.beat_due_ms = now_ms + audience.lens.hb_ms
        audience.write("upd", data)

    def _index(self, audience: Audience) -> None:
        lens = audience.lens
        self._audiences[lens] = audience
        if not lens.filter.skus:
            self._by_prefix[lens] = audience
        for sku in lens.filter.skus:
            self._by_sku.setdefault(sku, set()).add(audience)

    def _unindex(self, audience: Audience) -> None:
        lens = audience.lens
        self._audiences.pop(lens, None)
        self._by_prefix.pop(lens, None)
        for sku in lens.filter.skus:
            others = self._by_sku.get(sku)
            if others is not None:
                others.discard(audience)
                if not others:
                    del self._by_sku[sku]


def count(kind: str, frames_written: int) -> None:
    """Count frames written to connections."""
    _FRAMES[kind].inc(frames_written)
