"""What changes when a setting of the way in is changed."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any, Final

from synchub.ingress.consumer import Consumer
from synchub.keyspace import MerchantKeys, dead_letters, quarantine
from synchub.kit.clock import now_ms
from synchub.kit.tasks import end
from synchub.pipeline import apply_deliveries
from synchub.redis import CoalescingRedis
from synchub.settings import IngressSettings
from synchub.stock import operations as stock
from tests.support.deliveries import body_of, level
from tests.support.hub import running_hub
from tests.support.registry import settings_for
from tests.support.rows import push
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from synchub.ingress.model import Queued
    from tests.support.hub import Site

QUICK: Final = {"claim_idle_ms": 100, "claim_every_ms": 50}


async def aside(site: Site, where: str) -> list[bytes]:
    """The bodies that were put aside, oldest first."""
    return [fields[b"b"] for _, fields in await site.hub.client.xrange(where)]


def a_breaking_connector(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let every delivery meet a fault; returns the numbers of the tries that are made."""
    tries: list[int] = []

    def breaking(queued: Queued, *_: Any, **__: Any) -> Any:
        tries.append(queued.tries)
        raise ZeroDivisionError

    monkeypatch.setattr("synchub.ingress.operations.understand", breaking)
    return tries


# ------------------------------------------------------------------------------------------- how much at once


async def test_a_worker_takes_no_more_than_a_batch_at_once(redis_url: str) -> None:
    sizes: list[int] = []
    async with running_hub(redis_url, works=False, ingress={"batch_max": 3}) as site:
        for number in range(1, 11):
            await site.post(body_of(level("TEE", number), sequence=number))

        async def handle(batch: Sequence[Queued]) -> None:
            sizes.append(len(batch))
            await apply_deliveries(site.hub, batch)

        consumer = Consumer("one", site.hub.settings, handle)
        working = asyncio.create_task(consumer.run())
        await site.drained()
        await end(working)
        await consumer.close()
    assert sizes == [3, 3, 3, 1]


class Counting:
    """Counts the scripts that are run."""

    def __init__(self, redis: CoalescingRedis) -> None:
        self.scripts = 0
        self._redis = redis

    async def execute(self, *command: str | bytes | float) -> Any:
        """Pass it on."""
        self.scripts += str(command[0]).startswith("EVAL")
        return await self._redis.execute(*command)


async def test_a_script_applies_no_more_changes_than_a_batch(redis_url: str) -> None:
    settings = settings_for(redis_url).model_copy(update={"ingress": IngressSettings(batch_max=4)})
    redis = CoalescingRedis(settings.redis)
    rows = [push(number, at=now_ms(), version=number) for number in range(1, 11)]
    # The first call may find the script unknown to the server and has to send it once.
    await stock.apply(redis, MerchantKeys("first"), rows[:1], settings=settings)
    counting = Counting(redis)
    await stock.apply(counting, MerchantKeys("acme"), rows, settings=settings)
    await redis.close()
    assert counting.scripts == 3


# ------------------------------------------------------------------------------------- tries and their limits


async def test_a_failed_delivery_is_tried_again_as_soon_as_the_claim_times_say(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = a_breaking_connector(monkeypatch)
    async with running_hub(redis_url, ingress={**QUICK, "tries_max": 5}) as site:
        await site.post(body_of(level("TEE", 1), sequence=1))
        # With the default of either time the fifth try would come after four seconds or more.
        await eventually(lambda: len(tries) == 5, within_s=3, what="the fifth try")
        await site.drained()


async def test_a_delivery_that_failed_so_many_times_is_a_dead_letter(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = a_breaking_connector(monkeypatch)
    async with running_hub(redis_url, ingress={**QUICK, "tries_max": 2}) as site:
        body = body_of(level("TEE", 1), sequence=1)
        await site.post(body)
        await site.drained()
        assert await aside(site, dead_letters()) == [body]
    assert tries == [1, 2]


async def test_no_more_dead_letters_are_kept_than_the_limit_and_these_are_the_newest(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_breaking_connector(monkeypatch)
    bodies = [body_of(level("TEE", number), sequence=number) for number in range(1, 9)]
    async with running_hub(redis_url, ingress={"tries_max": 1, "dead_max": 3}) as site:
        for body in bodies:
            await site.post(body)
        await site.drained()
        assert await aside(site, dead_letters()) == bodies[-3:]


async def test_no_more_is_quarantined_than_the_limit_and_this_is_the_newest(redis_url: str) -> None:
    bodies = [b"nonsense %d" % number for number in range(8)]
    async with running_hub(redis_url, ingress={"quarantine_max": 3}) as site:
        for body in bodies:
            await site.post(body)
        await site.drained()
        assert await aside(site, quarantine()) == bodies[-3:]


# --------------------------------------------------------------------------------------------- future_skew_ms


async def test_a_source_time_further_ahead_than_the_skew_is_quarantined(redis_url: str) -> None:
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)).isoformat()
    body = body_of(level("TEE", 4, as_of=soon), sequence=1)
    async with running_hub(redis_url, ingress={"future_skew_ms": 5000}) as site:
        await site.post(body)
        await site.drained()
        assert await aside(site, quarantine()) == [body]
        assert (await site.stock("TEE"))["state"] == "UNKNOWN_SKU"
