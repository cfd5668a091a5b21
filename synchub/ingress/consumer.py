"""The loop that takes deliveries from the ingest stream, in every worker process.

Whatever happens to the store (restart, flush, fail-over, loading), the loops
build their group anew and go on; a delivery taken by a worker that died is
taken over by another one. Deliveries are only finished by their handler, so a
crash anywhere means that they are handled again.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError, ResponseError

from synchub import metrics
from synchub.errors import Fault
from synchub.ingress import store
from synchub.kit.backoff import full_jitter_s
from synchub.kit.tasks import is_ending
from synchub.logs import get_logger
from synchub.redis import LOST, CoalescingRedis, open_redis

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from synchub.ingress.model import Queued
    from synchub.settings import Settings

_BLOCK_MS: Final = 1000
_SIGN_EVERY_S: Final = 2.0
_PAUSE_BASE_S: Final = 0.05
_PAUSE_MAX_S: Final = 1.0
TROUBLE: Final = (RedisError, Fault, *LOST)


class Consumer:
    """Takes batches and hands them to ``handle``, which finishes them."""

    def __init__(
        self, name: str, settings: Settings, handle: Callable[[Sequence[Queued]], Awaitable[object]]
    ) -> None:
        self.name = name
        self._settings = settings
        self._handle = handle
        self._reader = CoalescingRedis(settings.redis, blocking_ms=_BLOCK_MS)
        self._client = open_redis(settings.redis, connections_max=2)
        self._log = get_logger(worker=name)
        self._healthy = True
        self.failures = 0
        """Failed rounds in a row; 0 while the store is well."""

    async def run(self) -> None:
        """Consume until cancelled."""
        with contextlib.suppress(*TROUBLE):  # the loops build it again when it is missing
            await store.ensure_group(self._client)
        if is_ending():  # the client may have taken the cancellation for a lost connection
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._forever(self._take_new), name="take-new")
            tasks.create_task(self._forever(self._take_over), name="take-over")
            tasks.create_task(self._forever(self._sign_life), name="sign-life")

    async def close(self) -> None:
        """Give the connections back."""
        with contextlib.suppress(*TROUBLE):
            await store.end_life(self._client, self.name)
        await self._reader.close()
        await self._client.aclose()

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        tries = 0
        while not is_ending():
            try:
                await step()
                tries = 0
                self._is_well()
            except TROUBLE as trouble:
                tries += 1
                self._is_ill(trouble)
                await asyncio.sleep(full_jitter_s(tries, base_s=_PAUSE_BASE_S, max_s=_PAUSE_MAX_S))
                await self._restore_group(trouble)

    async def _take_new(self) -> None:
        size = self._settings.ingress.batch_max
        batch = await store.take_new(self._reader, self.name, count=size, block_ms=_BLOCK_MS)
        if batch:
            await self._handle(batch)

    async def _take_over(self) -> None:
        await asyncio.sleep(self._settings.ingress.claim_every_ms / 1000)
        batch = await store.take_over(
            self._client,
            self.name,
            count=self._settings.ingress.batch_max,
            idle_ms=self._settings.ingress.claim_idle_ms,
        )
        if batch:
            metrics.deliveries_taken_over.inc(len(batch))
            await self._handle(batch)

    async def _sign_life(self) -> None:
        await store.sign_life(self._client, self.name)
        await asyncio.sleep(_SIGN_EVERY_S)

    async def _restore_group(self, trouble: BaseException) -> None:
        """A flushed or replaced store has lost the group; other troubles leave it alone."""
        if isinstance(trouble, ResponseError) and "NOGROUP" in str(trouble):
            try:
                await store.ensure_group(self._client)
            except TROUBLE as again:
                self._is_ill(again)

    def _is_well(self) -> None:
        if not self._healthy:
            self._log.info("ingest_resumed", failures=self.failures)
        self._healthy, self.failures = True, 0

    def _is_ill(self, trouble: BaseException) -> None:
        if self._healthy:
            self._log.warning("ingest_interrupted", reason=f"{type(trouble).__name__}: {trouble}")
        self._healthy = False
        self.failures += 1
