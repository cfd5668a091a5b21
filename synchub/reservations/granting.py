"""Requests for holds that come in one moment are decided in one step of the store.

First come, first served still: they are decided in the order in which they came. A step
costs the store much the same for one request as for ten, and a popular SKU has many.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from synchub import metrics
from synchub.kit.clock import now_ms
from synchub.reservations import store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.reservations.store import Answered, Request
    from synchub.settings import Settings

_Waiting = tuple["Request", "asyncio.Future[Answered]"]


class Granter:
    """Collects what is asked in one turn of the event loop."""

    def __init__(self, redis: Executes, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._waiting: dict[MerchantKeys, list[_Waiting]] = {}
        self._deciding: set[asyncio.Task[None]] = set()

    async def grant(self, keys: MerchantKeys, request: Request) -> Answered:
        """Have one request decided.

        Raises:
            OutcomeUnknown, StoreUnavailable: as the store says of the whole step.
            ResponseError: the script has a fault; what it did is undone nowhere, so ask with a key.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answered] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.setdefault(keys, []).append((request, answer))
        return await answer

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        size = self._settings.reservations.batch_max
        for keys, requests in waiting.items():
            for start in range(0, len(requests), size):
                task = asyncio.create_task(self._decide(keys, requests[start : start + size]), name="grant")
                self._deciding.add(task)
                task.add_done_callback(self._deciding.discard)

    async def _decide(self, keys: MerchantKeys, waiting: Sequence[_Waiting]) -> None:
        requests = [request for request, _ in waiting]
        metrics.grants_at_once.observe(len(requests))
        try:
            answers = await store.grant(self._redis, keys, requests, now_ms=now_ms(), settings=self._settings)
        except Exception as problem:  # noqa: BLE001 - whatever it is, everybody who waits has to hear it
            for _, answer in waiting:
                if not answer.done():
                    answer.set_exception(problem)
            return
        for (_, answer), answered in zip(waiting, answers, strict=True):
            if answer.done():
                continue
            if answered.did == "failed":
                answer.set_exception(ResponseError(answered.first.decode(errors="replace")))
            else:
                answer.set_result(answered)
