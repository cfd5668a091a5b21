"""Taking applied deliveries off the ingest stream, a moment later and many at once.

With a store that syncs every write, finishing each batch before the next one is
taken would cost every delivery another sync. A delivery that was applied and not
finished when its worker died is applied again, which changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from synchub.ingress import store
from synchub.ingress.model import Understood
from synchub.redis import LOST

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis.asyncio as aioredis

    from synchub.ingress.model import Failed, Misunderstood

FINISH_EVERY_S: Final = 0.05
FINISH_AT_ONCE: Final = 1024
"""Most deliveries taken off in one step; also how many may wait for it."""


class Finisher:
    """Collects what has been applied and finishes it soon."""

    def __init__(self, client: aioredis.Redis) -> None:
        self._client = client
        self._ids: list[str] = []
        self._task: asyncio.Task[None] | None = None

    async def finish(self, verdicts: Iterable[Understood | Misunderstood | Failed]) -> None:
        """Have the applied ones finished; returns at once unless too many wait."""
        self._ids += [verdict.queued.id for verdict in verdicts if isinstance(verdict, Understood)]
        if len(self._ids) >= FINISH_AT_ONCE:
            await self._flush()
        elif self._ids and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._flush_soon(), name="finish-deliveries")

    async def close(self) -> None:
        """Finish what waits, if the store lets it."""
        if self._task is not None:
            await self._task
        await self._flush()

    async def _flush_soon(self) -> None:
        await asyncio.sleep(FINISH_EVERY_S)
        await self._flush()

    async def _flush(self) -> None:
        ids, self._ids = self._ids, []
        # What cannot be finished now is taken over later, recognized, and finished then.
        with contextlib.suppress(RedisError, *LOST):
            await store.finish(self._client, ids)
