"""Keeps one connection to the hub, for as long as the feed lasts.

Before drift eats the bound the clocks are related anew: by a message where the
connection can carry one, otherwise by a second connection that takes over while the
first still runs, so nothing is ever missing in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from synchub_client.anchor import anchor_life_s
from synchub_client.core import Verdict
from synchub_client.errors import AccessEnded, HubUnavailable, ProtocolBroken
from synchub_client.frames import Anchored, Hello, SnapEnd, Upd
from synchub_client.links import Silence
from synchub_client.pacing import pause_s

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from synchub_client.clock import Clock
    from synchub_client.core import FeedCore, Link
    from synchub_client.frames import Frame
    from synchub_client.links import Connection

RETRY_MS: Final = 1000
"""Until the hub has said what it wants."""
PATIENCE_S: Final = 10.0
"""Silence before a connection has brought us up to date: no heartbeats come yet, and the hub may be busy."""
HEARTBEATS_MISSED: Final = 4
SILENT_MIN_S: Final = 1.0
LOOK_S: Final = 2.0
"""How often it is looked whether the anchor is due: a machine that slept must not wait on."""
_EARLY: Final = 0.8
"""An anchor is replaced after this share of its life at the earliest, so that agents do not come together."""

_log = logging.getLogger("synchub_client")


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection whose answer has begun."""

    link: Link
    connection: Connection


Connect: TypeAlias = "Callable[[str], Awaitable[Connection]]"


class Follower:
    """Connects, reads, and comes back."""

    def __init__(self, core: FeedCore, connect: Connect, clock: Clock, on_told: Callable[[], None]) -> None:
        self._core = core
        self._connect = connect
        self._clock = clock
        self._on_told = on_told
        self._failures = 0
        self._retry_ms = RETRY_MS
        self._asked: tuple[int, float] = (0, 0.0)
        self._moving = asyncio.Event()
        self.problem: Exception | None = None
        """Why there is no connection at the moment."""

    async def run(self) -> None:
        """Follow until cancelled.

        Raises:
            HubRefused: the hub refuses, and would again.
        """
        opened: Opened | None = None
        while True:
            if opened is None:
                opened = await self._open_patiently()
            opened = await self._stay(opened)

    def move(self) -> None:
        """Take a new connection in place of the present one, because other SKUs are to be followed."""
        self._moving.set()

    async def _open_patiently(self) -> Opened:
        while True:
            try:
                return await self._open()
            except HubUnavailable as problem:
                self._lost(problem)
                await self._pause(problem.retry_after_s or 0.0)

    async def _open(self) -> Opened:
        link = self._core.open(self._clock())
        return Opened(link, await self._connect(link.cursor))

    async def _stay(self, opened: Opened) -> Opened | None:
        """Read a connection to its end; return the one that has taken its place, if one has."""
        reading = asyncio.create_task(self._read(opened), name="synchub-feed-reading")
        renewing = asyncio.create_task(self._renew(opened), name="synchub-feed-renewing")
        successor: Opened | None = None
        try:
            await asyncio.wait({reading, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if renewing.done():
                successor = renewing.result()
                return successor
        finally:
            reading.cancel()
            renewing.cancel()
            await asyncio.gather(reading, renewing, return_exceptions=True)
            await opened.connection.close()
            await _close_unless(successor, renewing)
        await self._after(opened.link, reading)
        return None

    async def _read(self, opened: Opened) -> Verdict:
        link, verdict = opened.link, Verdict.GO_ON
        silence = Silence(PATIENCE_S)

        def take(frame: Frame) -> bool:
            nonlocal verdict
            verdict = self._core.accept(link, frame, self._clock())
            self._heed(link, frame, silence)
            self._on_told()
            return verdict is Verdict.GO_ON

        await opened.connection.read(take, silence)
        return verdict

    def _heed(self, link: Link, frame: Frame, silence: Silence) -> None:
        """Do what a frame means for the connection itself."""
        if link.is_settled and link.hello is not None:
            silence.allow(max(SILENT_MIN_S, HEARTBEATS_MISSED * link.hello.hb_ms / 1000))
        else:
            silence.allow(PATIENCE_S)
        match frame:
            case Hello():
                self._retry_ms = frame.retry_ms
            case Upd() | SnapEnd() if not link.fault and self._failures + (self.problem is not None):
                self._failures, self.problem = 0, None
                _log.info("following the feed")
            case Anchored(number=number, st=st) if number == self._asked[0]:
                self._core.renew_anchor(link, sent_at=self._asked[1], st_ms=st)
            case _:
                pass

    async def _after(self, link: Link, reading: asyncio.Task[Verdict]) -> None:
        """Wait as the end of a connection demands."""
        problem = reading.exception()
        if problem is not None and not isinstance(problem, HubUnavailable | ProtocolBroken):
            raise problem
        if link.bye is not None:
            if not link.bye.reconnect:
                raise AccessEnded(link.bye.reason)
            # Drawn by the hub for each of its readers: no chance of ours on top.
            await asyncio.sleep(link.bye.retry_ms / 1000)
            return
        self._lost(problem or HubUnavailable(link.fault or "the hub has closed the connection"))
        if not link.fault or self._failures > 1:
            await self._pause()

    def _lost(self, problem: Exception) -> None:
        if self.problem is None:
            _log.warning("the feed is interrupted: %s", problem)
        self.problem = problem
        self._failures += 1

    async def _pause(self, at_least_s: float = 0.0) -> None:
        chance = random.random()  # noqa: S311 - spreads reconnects, hides nothing
        failures = max(0, self._failures - 1)
        await asyncio.sleep(pause_s(failures, retry_ms=self._retry_ms, chance=chance, at_least_s=at_least_s))

    async def _renew(self, opened: Opened) -> Opened | None:
        """Have the anchor replaced in time; return the connection that brings a new one, if it takes one.

        None when no second connection was granted for so long that the first must go.
        """
        life_s = anchor_life_s(self._core.bound_s)
        early_s = life_s * random.uniform(0, 1 - _EARLY)  # noqa: S311 - spreads reconnects, hides nothing
        jumps, failures = self._clock.jumps, 0
        while True:
            due_at = self._core.anchor_due_at(opened.link) - early_s
            await self._idle(due_at, jumps)
            jumps = self._clock.jumps
            try:
                if not self._moving.is_set() and await self._is_anchored_anew(opened.connection):
                    continue
                successor = await self._open()
            except HubUnavailable:
                failures += 1
                if self._clock() > due_at + life_s:
                    return None
                chance = random.random()  # noqa: S311 - as above
                await asyncio.sleep(pause_s(failures, retry_ms=self._retry_ms, chance=chance))
            else:
                self._moving.clear()
                return successor

    async def _idle(self, until: float, jumps: int) -> None:
        """Wait for a moment of the clock, for a jump of it, or until a new connection is wanted."""
        while (left_s := until - self._clock()) > 0 and self._clock.jumps == jumps:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, LOOK_S)):
                    await self._moving.wait()
                return

    async def _is_anchored_anew(self, connection: Connection) -> bool:
        """Ask for a new anchor and give the answer time to come; false where only a new connection helps."""
        self._asked = (self._asked[0] + 1, self._clock())
        if not await connection.ask_anchor(self._asked[0]):
            return False
        await asyncio.sleep(LOOK_S)
        return True


async def _close_unless(taken: Opened | None, renewing: asyncio.Task[Opened | None]) -> None:
    """Close a connection that was opened at the very moment when nobody wanted it any more."""
    if renewing.cancelled() or renewing.exception() is not None:
        return
    opened = renewing.result()
    if opened is not None and opened is not taken:
        await opened.connection.close()
