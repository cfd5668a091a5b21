"""Whether the store is there: what everybody else need not find out by waiting.

The store is tried four times a second with a step that it accepts only where it would
also accept the hub's own: one that loads, hangs, may not write or is a replica is away
as well. The first trial that succeeds ends it: by then the connection has been
objected to, since that comes before any command (``operations.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from synchub import metrics
from synchub.errors import Fault
from synchub.kit.tasks import end, is_ending
from synchub.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.redis import CoalescingRedis

LOOK_EVERY_S: Final = 0.25

_TRIAL: Final = ("EVAL", "#!lua flags=allow-oom\nreturn 1", 0)
"""Not marked as reading only, so it is refused wherever a write would be; it needs no memory."""

_log: Final = get_logger(part="history")


class Presence:
    """Watches the store that the hot path uses; ``after_ms`` is how long it may be missing."""

    def __init__(self, redis: CoalescingRedis, *, after_ms: int) -> None:
        self.is_away = False
        """Nothing is sent to the store but trials: whoever asks is told so at once."""
        self._redis = redis
        self._after_s = after_ms / 1000
        self._missing_since: float | None = None

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch for as long as the block runs."""
        metrics.store_away.set(0)
        task = asyncio.create_task(self._watch(), name="look-for-store")
        try:
            yield
        finally:
            await end(task)

    async def _watch(self) -> None:
        while not is_ending():
            await self._look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        begun = asyncio.get_running_loop().time()
        trial = asyncio.create_task(self._try(), name="try-store")
        try:
            while not trial.done():
                await asyncio.wait((trial,), timeout=LOOK_EVERY_S)
                if not trial.done() or not trial.result():
                    self._miss(begun)
        finally:
            await end(trial)
        if trial.result():
            self._find()

    async def _try(self) -> bool:
        try:
            await self._redis.try_out(*_TRIAL)
        except (Fault, RedisError):
            return False
        return True

    def _miss(self, since: float) -> None:
        if self._missing_since is None:
            self._missing_since = since
        missing_s = asyncio.get_running_loop().time() - self._missing_since
        if self.is_away or missing_s < self._after_s:
            return
        self.is_away = True
        metrics.store_away.set(1)
        _log.error("store_away", missing_s=round(missing_s, 1))
        self._redis.shut()

    def _find(self) -> None:
        since, self._missing_since = self._missing_since, None
        if not self.is_away or since is None:
            return
        self.is_away = False
        metrics.store_away.set(0)
        self._redis.reopen()
        _log.info("store_back", missing_s=round(asyncio.get_running_loop().time() - since, 1))
