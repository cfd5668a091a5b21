"""Gives every change to every reader that watches it: no task, queue or awaited write per reader.

Readers with one lens form an audience; a frame is built once for it and the same
bytes go straight to each transport. Readers that stand aside, because they are
still catching up or take too little, only have noted which SKUs have changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub import metrics
from synchub.feed import frames, rules
from synchub.feed.audiences import Audiences
from synchub.feed.model import Cover, Mode, ResetReason
from synchub.feed.readers import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.feed.audiences import Audience, Turns
    from synchub.feed.model import Framing, Heard, Lens, SourceState, ViewClass
    from synchub.feed.readers import Reader
    from synchub.stock.model import Answer, FeedEntry, Position

Serialized = dict[tuple[str, "ViewClass"], frames.Item]


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
        self.is_degraded = False
        """Whether nothing has been verified for so long that readers are told."""
        self._vouched = (self.position, asof_ms)
        self.last_entry: dict[bytes, bytes] | None = None
        """The entry at ``position`` as it was read, to recognize a rewritten history."""
        self.catching_up: set[Reader] = set()
        self.heard: Sequence[Heard] = ()
        """When the accounts were last heard whose levels are the stock, as far as is known."""
        self.sources: dict[str, SourceState] = {}
        """What readers were told of each of them."""
        self._audiences = Audiences()
        self._by_agent: dict[str, set[Reader]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether nobody follows."""
        return not self.catching_up and not self._audiences

    @property
    def audiences(self) -> list[Audience]:
        """Everyone who is up to date."""
        return self._audiences.all()

    @property
    def readers(self) -> list[Reader]:
        """Everyone."""
        return [*self.catching_up, *(reader for one in self._audiences.all() for reader in one.readers)]

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
        for reader in tuple(self.catching_up):
            reader.note(answers)
        serialized: Serialized = {}
        for audience, found in self._audiences.hits(answers).items():
            self._tell(audience, found, serialized, now_ms)
        self._tell_own(entries)

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

    def judge(self, now_ms: int) -> None:
        """Notice that nothing has been verified for long, or is again, and let everybody know at once."""
        is_degraded = rules.is_degraded(self.asof_ms, now_ms)
        if is_degraded is not self.is_degraded:
            self.is_degraded = is_degraded
            for audience in self._audiences.all():
                audience.beat_due_ms = now_ms

    async def tell_sources(self, moved: Sequence[SourceState], turns: Turns) -> None:
        """Tell everyone who is up to date how far these accounts are known."""
        self.sources |= {one.account: one for one in moved}
        told: dict[Framing, bytes] = {}
        for audience in self._audiences.all():
            framing = audience.lens.framing
            data = told.get(framing)
            if data is None:
                data = told[framing] = frames.sources(audience.lens, moved)
            for reader in tuple(audience.readers):
                if reader in audience.readers and not reader.is_full:
                    reader.write(data)
                    count("source", len(moved))
                await turns.next()

    def enroll(self, reader: Reader) -> None:
        """Have changes noted for a reader from now on."""
        self.catching_up.add(reader)
        self._by_agent.setdefault(reader.agent, set()).add(reader)

    def join(self, reader: Reader, now_ms: int) -> None:
        """Put a reader that has everything up to ``position`` among its audience."""
        audience = self._audiences.open(reader.lens, self.position, now_ms)
        self.catching_up.discard(reader)
        reader.forget_owed()
        reader.is_stalled = False
        reader.lens = audience.lens
        audience.readers.add(reader)
        if self.sources:
            # Also one that was told before: it may have missed what was said while it stood aside.
            reader.write(frames.sources(reader.lens, self.sources.values()))
            count("source", len(self.sources))

    def stall(self, reader: Reader) -> None:
        """Write no more to a reader that takes too little, and note what it is owed."""
        reader.is_stalled = True
        metrics.feed_stalls.inc()
        self._put_aside(reader)

    def renew(self, reader: Reader, lens: Lens) -> None:
        """Have a reader see through another lens from here on, in order with what it is told."""
        reader.next_lens = lens
        self._put_aside(reader)

    def change_lens(self, reader: Reader, lens: Lens, reason: ResetReason) -> None:
        """Have one reader start anew and see everything through another lens."""
        self._audiences.leave(reader)
        reader.look_through(lens)
        if not reader.ended:
            self.catching_up.add(reader)
            reader.interrupt(reason)

    def drop(self, reader: Reader) -> None:
        """Forget a reader; nothing happens when it is already forgotten."""
        self.catching_up.discard(reader)
        self._audiences.leave(reader)
        theirs = self._by_agent.get(reader.agent)
        if theirs is not None:
            theirs.discard(reader)
            if not theirs:
                del self._by_agent[reader.agent]
        reader.finish()

    def restart(self, head: Position, asof_ms: int, reason: ResetReason) -> None:
        """Go on from another position or history: everyone has to start anew."""
        readers = self.readers
        self._audiences.clear()
        self.epoch, self.position, self.seen = head.epoch, head.feed_seq, head.seq
        self.asof_ms, self.last_entry = asof_ms, None
        self._vouched = (self.position, asof_ms)
        self.catching_up = set(readers)
        for reader in readers:
            reader.interrupt(reason)

    def _put_aside(self, reader: Reader) -> None:
        audience = self._audiences.leave(reader)
        if audience is not None:
            self.catching_up.add(reader)
            reader.stand_aside(audience.covered)

    def _tell(
        self, audience: Audience, changed: Sequence[Answer], serialized: Serialized, now_ms: int
    ) -> None:
        lens = audience.lens
        cover = Cover(audience.covered, self.position, self.asof_ms, self.is_degraded)
        if lens.mode is Mode.INV:
            data = frames.upd(lens, self.epoch, cover, (), [(one.sku, one.ver) for one in changed])
        else:
            items = [_item(one, lens.view, serialized) for one in changed]
            data = frames.upd(lens, self.epoch, cover, items)
        audience.covered = self.position
        audience.beat_due_ms = now_ms + lens.hb_ms
        audience.write("upd", data)

    def _tell_own(self, entries: Sequence[FeedEntry]) -> None:
        """Tell agents of their own holds, each only its own; what everyone is told is not touched."""
        own: dict[Reader, dict[str, int]] = {}
        for entry in entries:
            for agent in entry.whose:
                for reader in self._by_agent.get(agent, ()):
                    if rules.lets_through(reader.lens.filter, entry.answer.sku):
                        own.setdefault(reader, {})[entry.answer.sku] = entry.answer.ver
        for reader, versions in own.items():
            if reader in self.catching_up:
                reader.own |= versions
                continue
            cover = Cover(self.position, self.position, self.asof_ms, self.is_degraded)
            reader.write(frames.upd(reader.lens, self.epoch, cover, (), list(versions.items())))
            count("upd", 1)


def _item(answer: Answer, about: ViewClass, serialized: Serialized) -> frames.Item:
    known = serialized.get((answer.sku, about))
    if known is None:
        known = serialized[answer.sku, about] = frames.item(answer, about)
    return known
