"""Calls to one account's platform on behalf of everybody who asks: together, once, and not too many.

Whoever asks for an item that is being asked for already gets that answer. Items that
wait for their turn leave in one call. What nobody waits for any more is not asked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.authority.model import Heard
from synchub.connector_kit.events import Level
from synchub.errors import Fault, StoreUnavailable
from synchub.kit.clock import now_ms
from synchub.kit.tasks import end
from synchub.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from synchub.connector_kit.events import StockEvent

    Call = Callable[[Sequence[str]], Awaitable[tuple[StockEvent, ...]]]

_TOO_LATE: Final = "The store is away, and the source did not answer in time."
_TOO_MANY: Final = "The store is away, and the source cannot be asked more often at the moment."
_FAILED: Final = "The store is away, and the source could not be read."

_log: Final = get_logger(part="authority")


@dataclass(slots=True, kw_only=True)
class _Asked:
    item: str
    until_s: float
    """Later nobody waits for it."""
    told: asyncio.Future[Heard | Fault]


class Lane:
    """One account; ``call`` reads levels of at most ``items_max`` items."""

    def __init__(self, call: Call, *, items_max: int, calls_per_s: float, deadline_s: float) -> None:
        self._call = call
        self._items_max = items_max
        self._deadline_s = deadline_s
        self._pace = Pace(calls_per_s)
        self._asked: dict[str, _Asked] = {}
        self._waiting: deque[_Asked] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()

    def ask(self, item: str) -> asyncio.Future[Heard | Fault]:
        """Have an item read; what is returned is shared and must not be cancelled."""
        loop = asyncio.get_running_loop()
        asked = self._asked.get(item)
        if asked is not None:
            return asked.told
        asked = _Asked(item=item, until_s=loop.time() + self._deadline_s, told=loop.create_future())
        wait_s = self._pace.wait_s(loop.time())
        if wait_s >= self._deadline_s:
            asked.told.set_result(StoreUnavailable(_TOO_MANY, retry_after_s=max(1, -int(-wait_s // 1))))
            return asked.told
        self._asked[item] = asked
        self._waiting.append(asked)
        metrics.authority_waiting.inc()
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(), name="ask-source")
        return asked.told

    async def close(self) -> None:
        """Give up whatever is under way."""
        await end(self._sending, *self._calls)
        for asked in list(self._asked.values()):
            self._tell(asked, StoreUnavailable(_FAILED, retry_after_s=1))

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            # At least to the end of this turn: what is asked for together is read together.
            await asyncio.sleep(self._pace.wait_s(loop.time()))
            batch = self._next_batch(loop.time())
            if batch and not self._pace.wait_s(loop.time()):
                self._pace.count(loop.time())
                call = asyncio.create_task(self._read(batch), name="read-source")
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
            else:
                self._waiting.extendleft(reversed(batch))

    def _next_batch(self, now_s: float) -> list[_Asked]:
        batch: list[_Asked] = []
        while self._waiting and len(batch) < self._items_max:
            asked = self._waiting.popleft()
            if asked.until_s <= now_s:
                self._tell(asked, StoreUnavailable(_TOO_MANY, retry_after_s=1))
            else:
                batch.append(asked)
        return batch

    async def _read(self, batch: Sequence[_Asked]) -> None:
        started_ms = now_ms()
        try:
            async with asyncio.timeout(self._deadline_s):
                events = await self._call([asked.item for asked in batch])
        except Fault as fault:
            failed: Fault = StoreUnavailable(_FAILED, retry_after_s=fault.retry_after_s or 1)
        except TimeoutError:
            failed = StoreUnavailable(_TOO_LATE, retry_after_s=1)
        except Exception as problem:  # noqa: BLE001 - whatever it is, those who wait must hear it
            _log.error("source_call_failed", fault=type(problem).__name__)
            failed = StoreUnavailable(_FAILED, retry_after_s=1)
        else:
            levels = [event for event in events if isinstance(event, Level)]
            for asked in batch:
                own = tuple(level for level in levels if level.item == asked.item)
                self._tell(asked, Heard(asked_ms=started_ms, levels=own))
            return
        for asked in batch:
            self._tell(asked, failed)

    def _tell(self, asked: _Asked, told: Heard | Fault) -> None:
        if self._asked.pop(asked.item, None) is not None:
            metrics.authority_waiting.dec()
        if not asked.told.done():
            asked.told.set_result(told)


class Pace:
    """So many calls in any second; with less than one a second, one in so many seconds."""

    def __init__(self, calls_per_s: float) -> None:
        self._window_s = max(1.0, 1 / calls_per_s)
        self._begun: deque[float] = deque(maxlen=max(1, int(calls_per_s)))

    def wait_s(self, now_s: float) -> float:
        """Return how long to wait before the next call may begin."""
        if len(self._begun) < (self._begun.maxlen or 1):
            return 0.0
        return max(0.0, self._begun[0] + self._window_s - now_s)

    def count(self, now_s: float) -> None:
        """Note that a call begins."""
        self._begun.append(now_s)
