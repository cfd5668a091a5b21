"""One connection of the feed, and what it is owed.

A reader is in one of three states. It has no state yet (``seq`` is None) and gets a
snapshot; it stands aside (in :attr:`Tail.catching_up`) and what changes is noted, one
answer per SKU; or it belongs to an audience and gets the same bytes as everyone there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.feed import frames, rules
from synchub.feed.model import ByeReason
from synchub.kit.bell import Bell

if TYPE_CHECKING:
    from synchub.feed.fanout import Tail
    from synchub.feed.model import Lens, ResetReason
    from synchub.stock.model import Answer

BYE_GRACE_S: Final = 5.0
"""A connection that has not taken its last bytes by then is cut."""

_FRAMES: Final = {
    kind: metrics.feed_frames.labels(kind)
    for kind in ("hello", "snap", "snap_end", "upd", "hb", "set", "source", "reset", "bye", "anchor")
}


class Reader:
    """One connection and what it is owed."""

    __slots__ = (
        "_turn",
        "agent",
        "changed",
        "ended",
        "farewell",
        "interrupted",
        "is_stalled",
        "lens",
        "limit_bytes",
        "next_lens",
        "owed_max",
        "own",
        "retry_ms",
        "seq",
        "started",
        "tail",
        "transport",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        lens: Lens,
        tail: Tail,
        *,
        agent: str,
        limit_bytes: int,
        owed_max: int,
        retry_ms: int,
    ) -> None:
        self.transport = transport
        self.lens = lens
        self.tail = tail
        self.agent = agent
        self.limit_bytes = limit_bytes
        """With more than this unsent it is written nothing until it has taken most of it."""
        self.owed_max = owed_max
        """Most SKUs that are noted for a slow reader which has not named its SKUs."""
        self.retry_ms = retry_ms
        self.seq: int | None = None
        """Up to where it has been told everything; None while it has no state."""
        self.changed: dict[str, Answer] = {}
        """While it stands aside: the latest answer of each matching SKU that changed meanwhile."""
        self.own: dict[str, int] = {}
        """The same of its agent's own holds: SKU and version."""
        self.next_lens: Lens | None = None
        """What it shall look through from now on; it is told so in its turn."""
        self.interrupted: ResetReason | None = None
        self.is_stalled = False
        """Whether it stands aside because it takes too little."""
        self.started = False
        """Whether the response head is out, before which no frame may be written."""
        self.ended = False
        self.farewell: ByeReason | None = None
        """Why the hub ended it; None when the client did, or nobody has."""
        self._turn = Bell()

    @property
    def unsent_bytes(self) -> int:
        """What the kernel has not yet taken."""
        return self.transport.get_write_buffer_size()

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be written to it for now."""
        return self.unsent_bytes > self.limit_bytes

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
        """Remember what changed for the time when this reader is told again."""
        for answer in rules.matching(self.lens.filter, answers):
            self.changed[answer.sku] = answer
        if self.is_stalled and not self.lens.filter.is_list and len(self.changed) > self.owed_max:
            self.end(ByeReason.SLOW)

    def look_through(self, lens: Lens) -> None:
        """Take another lens; what was noted and is not seen through it is forgotten."""
        self.lens, self.next_lens = lens, None
        for noted in (self.changed, self.own):
            for sku in [sku for sku in noted if not rules.lets_through(lens.filter, sku)]:
                del noted[sku]

    def stand_aside(self, seq: int) -> None:
        """Wake the handler: what changes after ``seq`` is noted from now on."""
        self.seq = seq
        self._turn.set()

    def interrupt(self, reason: ResetReason) -> None:
        """Have the reader start anew."""
        self.forget_owed()
        self.seq = None
        self.is_stalled = False
        self.interrupted = reason
        self._turn.set()

    def forget_owed(self) -> None:
        """Nothing is owed any more."""
        self.changed.clear()
        self.own.clear()

    def end(self, reason: ByeReason, *, reconnect: bool | None = None) -> None:
        """Say good-bye where that is still possible, and let the connection be closed."""
        if self.ended:
            return
        self.farewell = reason
        self.tail.drop(self)
        if self.started and not self.transport.is_closing():
            if reconnect is None:
                reconnect = reason is not ByeReason.AUTH
            self.transport.write(frames.bye(self.lens, reason, retry_ms=self.retry_ms, reconnect=reconnect))
            count("bye", 1)
            metrics.feed_byes.labels(reason.value).inc()
            # A peer that does not read would keep the closing connection for ever.
            asyncio.get_running_loop().call_later(BYE_GRACE_S, self.transport.abort)

    def finish(self) -> None:
        """Wake the handler, which then returns."""
        self.ended = True
        self.forget_owed()
        self._turn.set()

    async def turn(self) -> None:
        """Wait until the reader is interrupted, ended or put aside."""
        await self._turn.wait()
        if not self.ended:
            self._turn.clear()

    def begin(self) -> ResetReason | None:
        """Take the interruption, if any, and start catching up."""
        reason, self.interrupted = self.interrupted, None
        if not self.ended:
            self._turn.clear()
        return reason


def count(kind: str, frames_written: int) -> None:
    """Count frames written to connections."""
    _FRAMES[kind].inc(frames_written)
