"""What one process hears, added up in memory and handed in once a second."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from synchub.errors import Fault
from synchub.ingress.model import Understood
from synchub.kit.clock import now_ms
from synchub.kit.tasks import end, is_ending
from synchub.redis import LOST
from synchub.stock.model import Outcome
from synchub.stock.rules import told_ms
from synchub.sync_lag import store
from synchub.sync_lag.delays import step_of
from synchub.sync_lag.model import Heard, Second

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from synchub.ingress.model import Failed, Misunderstood
    from synchub.lua import Executes

FLUSH_EVERY_S: Final = 1.0
SIGN_EVERY: Final = 5
"""A receiver gives a sign of life after so many flushes, though it has nothing to tell."""
ACCOUNTS_MAX: Final = 2000
"""Accounts in one second; what comes of further ones is not counted."""
OLD_MS: Final = 600_000
"""A delivery that arrived so long ago is no news of its sender."""
_NOTHING_NEW: Final = frozenset({Outcome.DUPLICATE, Outcome.SUPERSEDED})


@dataclass(slots=True)
class _Topic:
    count: int = 0
    first_ms: int = 0
    last_ms: int = 0
    newest_ms: int = 0
    delays: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Account:
    topics: dict[str, _Topic] = field(default_factory=dict)
    echo_ms: int = 0
    canary_ms: int = 0
    canary_every_ms: int = 0
    refused: int = 0


class Arrivals:
    """Counts deliveries by account and topic; a crash loses a second of it."""

    def __init__(self, redis: Executes) -> None:
        self._redis = redis
        self._accounts: dict[str, _Account] = {}
        self._behind_ms = 0
        self._flushes = 0
        self.receives = False
        """Whether this process takes deliveries: then it says now and then that it is there."""

    @contextlib.asynccontextmanager
    async def noting(self) -> AsyncIterator[None]:
        """Hand in what is heard, once a second, as long as the block runs."""
        task = asyncio.create_task(self._hand_in(), name="note-arrivals")
        try:
            yield
        finally:
            await end(task)
            await self.flush()

    def note(self, verdicts: Iterable[Understood | Misunderstood | Failed]) -> None:
        """Note a batch that was handled: what was understood, and whether it told anything new."""
        for verdict in verdicts:
            if isinstance(verdict, Understood):
                self._note(verdict)

    def refuse(self, account: str) -> None:
        """Note a delivery that nobody's secret had signed."""
        heard = self._of(account)
        if heard is not None:
            heard.refused += 1

    async def flush(self) -> None:
        """Hand in what has been heard; what the store does not take is lost."""
        accounts, self._accounts = self._accounts, {}
        behind_ms, self._behind_ms = self._behind_ms, 0
        self._flushes += 1
        if not accounts and not (self.receives and self._flushes % SIGN_EVERY == 1):
            return
        seconds = {name: _second_of(heard) for name, heard in accounts.items()}
        with contextlib.suppress(RedisError, Fault, *LOST):
            await store.note_heard(self._redis, seconds, behind_ms=behind_ms, receives=self.receives)

    async def _hand_in(self) -> None:
        while not is_ending():
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.flush()

    def _of(self, account: str) -> _Account | None:
        if account not in self._accounts and len(self._accounts) >= ACCOUNTS_MAX:
            return None
        return self._accounts.setdefault(account, _Account())

    def _note(self, verdict: Understood) -> None:
        delivery, now = verdict.queued.delivery, now_ms()
        arrived_ms = delivery.arrived_at_us // 1000
        self._behind_ms = max(self._behind_ms, now - int(verdict.queued.id.partition("-")[0]))
        # What is retried after a person has looked at it says nothing about now, nor what a poll had brought.
        if now - arrived_ms > OLD_MS or not verdict.topic:
            return
        heard = self._of(delivery.account)
        if heard is None:
            return
        for beat in verdict.heartbeats:
            heard.canary_ms = max(heard.canary_ms, arrived_ms)
            heard.canary_every_ms = beat.every_ms or 0
        if any(result.outcome not in _NOTHING_NEW for result in verdict.results):
            _note_topic(heard.topics.setdefault(verdict.topic, _Topic()), verdict, arrived_ms)
        elif verdict.results:
            heard.echo_ms = max(heard.echo_ms, arrived_ms)


def _note_topic(topic: _Topic, verdict: Understood, arrived_ms: int) -> None:
    topic.count += 1
    topic.first_ms = min(topic.first_ms or arrived_ms, arrived_ms)
    topic.last_ms = max(topic.last_ms, arrived_ms)
    newest_ms = min(arrived_ms, max(map(told_ms, verdict.rows), default=0))
    if newest_ms:
        topic.newest_ms = max(topic.newest_ms, newest_ms)
        step = step_of(arrived_ms - newest_ms)
        topic.delays[step] = topic.delays.get(step, 0) + 1


def _second_of(heard: _Account) -> Second:
    return Second(
        heard=tuple(
            Heard(
                topic=name,
                count=topic.count,
                first_ms=topic.first_ms,
                last_ms=topic.last_ms,
                newest_ms=topic.newest_ms,
                delays=topic.delays,
            )
            for name, topic in heard.topics.items()
        ),
        echo_ms=heard.echo_ms,
        canary_ms=heard.canary_ms,
        canary_every_ms=heard.canary_every_ms,
        refused=heard.refused,
    )
