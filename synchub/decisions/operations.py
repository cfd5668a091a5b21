"""Noting decisions without anybody waiting for it.

The record is for looking back: what an agent was shown when it decided. Holds and
commits have their durable record in the ledger, so a decision may be lost with its
process, but never hold up or fail the answer that it is about.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from synchub import metrics
from synchub.decisions import rules, store
from synchub.decisions.model import DecisionKind
from synchub.errors import Fault
from synchub.keyspace import MerchantKeys
from synchub.kit.backoff import full_jitter_s
from synchub.kit.tasks import end, is_ending
from synchub.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from synchub.decisions.model import Decision
    from synchub.lua import Executes
    from synchub.settings import Settings

BATCH_MAX: Final = 64
"""Most decisions in one script; more would hold up the store."""

_PAUSE_BASE_S: Final = 0.05
_PAUSE_MAX_S: Final = 2.0
_LAST_TRY_S: Final = 2.0
_NOTED: Final = {kind: metrics.decisions_noted.labels(kind.value) for kind in DecisionKind}
_log = get_logger()

_Noted = tuple[str, str, "Decision"]
"""Merchant, the decision's id, and the decision."""


class DecisionLog:
    """What one process has to note, written to the store now and then."""

    def __init__(self, redis: Executes, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings.decisions
        self._waiting: deque[_Noted] = deque()
        self._process = secrets.token_hex(4)
        self._count = 0
        self._is_noted = asyncio.Event()
        self._is_full = asyncio.Event()
        self._in_hand = 0
        self._is_lost = False
        self._is_ending = False

    @property
    def waiting(self) -> int:
        """Decisions not yet in the store."""
        return len(self._waiting) + self._in_hand

    def note(self, merchant: str, decision: Decision) -> None:
        """Have a decision written within ``decisions.flush_ms``; never waits and never fails.

        When too many wait already the oldest goes, counted.
        """
        self._count += 1
        _NOTED[decision.kind].inc()
        self._waiting.append((merchant, f"{self._process}-{self._count}", decision))
        self._drop_excess()
        self._is_noted.set()
        if len(self._waiting) >= BATCH_MAX:
            self._is_full.set()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[DecisionLog]:
        """Write whatever is noted until the block ends, and what is left then, if the store is there."""
        task = asyncio.create_task(self.run(), name="write-decisions")
        try:
            yield self
        finally:
            # A write that is cancelled may have been done: let it end, so that nothing is written twice.
            self._is_ending = True
            self._is_noted.set()
            self._is_full.set()
            await asyncio.wait([task], timeout=_LAST_TRY_S)
            await end(task)
            with suppress(TimeoutError, RedisError, Fault):
                async with asyncio.timeout(_LAST_TRY_S):
                    await self.flush()

    async def run(self) -> None:
        """Write until cancelled; while the store is away, keep what fits and try again."""
        failures = 0
        while not (is_ending() or self._is_ending):
            await self._is_noted.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_full.wait(), self._settings.flush_ms / 1000)
            self._is_noted.clear()
            self._is_full.clear()
            try:
                await self.flush()
            except (RedisError, Fault) as problem:
                failures += 1
                self._is_noted.set()
                self._say_lost(problem)
                await asyncio.sleep(full_jitter_s(failures, base_s=_PAUSE_BASE_S, max_s=_PAUSE_MAX_S))
            else:
                failures = 0
                self._say_well()

    async def flush(self) -> None:
        """Write everything that waits.

        Raises:
            OutcomeUnknown, StoreUnavailable: what is not certain to be written waits on; it may be there
                twice, under the same id.
        """
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
            try:
                while batch:
                    self._in_hand = len(batch)
                    await self._write(batch[0][0], batch)
                    batch = [noted for noted in batch if noted[0] != batch[0][0]]
            except BaseException:
                # Also when it is cancelled: whatever the reason, nothing is lost without being counted.
                self._waiting.extendleft(reversed(batch))
                self._drop_excess()
                raise
            finally:
                self._in_hand = 0

    async def _write(self, merchant: str, batch: Sequence[_Noted]) -> None:
        rows = [rules.row_of(decision, own_id) for name, own_id, decision in batch if name == merchant]
        await store.append(self._redis, MerchantKeys(merchant), rows, stream_max=self._settings.stream_max)

    def _drop_excess(self) -> None:
        while len(self._waiting) > self._settings.buffer_max:
            self._waiting.popleft()
            metrics.decisions_dropped.inc()

    def _say_lost(self, problem: Exception) -> None:
        if not self._is_lost:
            _log.warning("decisions_held_back", reason=f"{type(problem).__name__}: {problem}")
        self._is_lost = True

    def _say_well(self) -> None:
        if self._is_lost:
            _log.info("decisions_written_again")
        self._is_lost = False
