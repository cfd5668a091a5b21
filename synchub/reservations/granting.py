"""Requests for holds that come in one moment are decided in one step of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from synchub import metrics
from synchub.kit.clock import now_ms
from synchub.kit.together import Together
from synchub.reservations import store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.reservations.store import Answered, Request
    from synchub.settings import Settings


class Granter:
    """Has requests decided, first come, first served."""

    def __init__(self, redis: Executes, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._together: Together[MerchantKeys, Request, Answered] = Together(
            self._decide, most=settings.reservations.batch_max, name="grant"
        )

    def grant(self, keys: MerchantKeys, request: Request) -> Awaitable[Answered]:
        """Have one request decided; await what is returned.

        Raises:
            OutcomeUnknown, StoreUnavailable: as the store says of the whole step.
            ResponseError: the script has a fault; what it did is undone nowhere, so ask with a key.
        """
        return self._together.ask(keys, request)

    async def _decide(self, keys: MerchantKeys, requests: Sequence[Request]) -> list[Answered | Exception]:
        metrics.grants_at_once.observe(len(requests))
        answers = await store.grant(self._redis, keys, requests, now_ms=now_ms(), settings=self._settings)
        return [_fault(answer) if answer.did == "failed" else answer for answer in answers]


def _fault(answer: Answered) -> ResponseError:
    return ResponseError(answer.first.decode(errors="replace"))
