"""What the parts of one process share: clocks, chance, and whether the store can be asked.

The store is asked beside every call, so it must never hold one up: an answer that takes too long counts as
none, and after one that failed nobody asks again until a task of its own has found the store back.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.exceptions import RedisError

from synchub import metrics
from synchub.errors import Fault
from synchub.kit.clock import monotonic_ms
from synchub.logs import get_logger
from synchub.redis import LOST
from synchub.upstream import store

if TYPE_CHECKING:
    from synchub.lua import Executes
    from synchub.sync_settings import UpstreamSettings

STORE_WAIT_S: Final = 0.2
"""The store answers a thousand times as fast; a call to a platform waits no longer for it."""
TROUBLE: Final = (Fault, RedisError, *LOST)
"""Whatever is wrong with the store is no reason not to call a platform."""
_log: Final = get_logger()
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Where time and chance come from."""

    now_ms: Callable[[], int] = monotonic_ms
    """This process's, for its own waits."""
    store_ms: Callable[[], int] = lambda: 0
    """What the scripts take for the present; 0: the store's own clock."""
    chance: Callable[[], float] = random.random
    """Between 0 and 1."""
    sleep: Callable[[float], Coroutine[Any, Any, Any]] = asyncio.sleep


@dataclass(slots=True)
class Reach:
    """The store as one process sees it."""

    redis: Executes
    settings: UpstreamSettings
    times: Times
    process: str = field(default_factory=lambda: secrets.token_hex(6))
    """What it is called among those who wait."""
    is_away: bool = False
    _spawned: set[asyncio.Task[Any]] = field(default_factory=set)

    async def ask(self, question: Callable[[], Coroutine[Any, Any, _Answer]]) -> _Answer | None:
        """Return the store's answer, or None where the process has to decide by itself."""
        if self.is_away:
            return None
        try:
            async with asyncio.timeout(STORE_WAIT_S):
                return await question()
        except TROUBLE as trouble:
            self._say(is_away=True, reason=f"{type(trouble).__name__}: {trouble}")
            return None

    async def look(self) -> None:
        """Find out whether the store is back."""
        try:
            async with asyncio.timeout(STORE_WAIT_S):
                await store.is_there(self.redis)
        except TROUBLE:
            return
        self._say(is_away=False, reason="")

    def spawn(self, work: Coroutine[Any, Any, _Answer]) -> asyncio.Task[_Answer]:
        """Begin what is to be finished even if nobody waits for it any more."""
        task = asyncio.create_task(work, name="upstream")
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)
        return task

    async def finish(self) -> None:
        """Return when everything that was begun has ended."""
        while self._spawned:
            await asyncio.wait(set(self._spawned))

    def _say(self, *, is_away: bool, reason: str) -> None:
        if is_away is not self.is_away:
            self.is_away = is_away
            metrics.upstream_store_away.set(is_away)
            if is_away:
                _log.warning("upstream_counts_alone", reason=reason)
            else:
                _log.info("upstream_counts_together")
