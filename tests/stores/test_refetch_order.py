"""Which items are fetched first: those that wait longest, and fast sellers a little before them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from synchub.keyspace import MerchantKeys
from synchub.kit.clock import now_ms
from synchub.polling import store
from synchub.polling.store import LEAD_MS
from synchub.redis import CoalescingRedis
from synchub.settings import RedisSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEYS = MerchantKeys("acme")
DAY_MS = 86_400_000


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[CoalescingRedis]:
    client = CoalescingRedis(RedisSettings(url=redis_url))
    yield client
    await client.close()


async def test_the_longest_waiting_come_first(redis: CoalescingRedis) -> None:
    await _wish(redis, A=3, B=1, C=2)
    assert await _chosen(redis) == ["B", "C", "A"]
    assert await _chosen(redis, limit=2) == ["B", "C"]


async def test_what_is_not_due_is_not_fetched(redis: CoalescingRedis) -> None:
    await _wish(redis, A=3, LATER=now_ms() + 60_000)
    assert await _chosen(redis) == ["A"]


async def test_a_fast_seller_overtakes_what_came_a_little_earlier(redis: CoalescingRedis) -> None:
    await _moves(redis, "HOT", 500)
    await _moves(redis, "WARM", 24)
    await _wish(redis, COLD=100_000, WARM=101_000, HOT=102_000)
    assert await _chosen(redis) == ["HOT", "WARM", "COLD"]


async def test_nobody_is_overtaken_by_what_came_much_later(redis: CoalescingRedis) -> None:
    await _moves(redis, "HOT", 500)
    await _wish(redis, COLD=100_000, HOT=100_001 + LEAD_MS)
    assert await _chosen(redis) == ["COLD", "HOT"]


async def test_a_long_list_does_not_hide_what_has_just_come(redis: CoalescingRedis) -> None:
    await _moves(redis, "HOT", 500)
    await _wish(redis, **{f"COLD-{number:04d}": 100_000 + number for number in range(2000)}, HOT=102_500)
    assert (await _chosen(redis))[0] == "HOT"


async def test_a_mapped_item_is_as_fast_as_its_sku(redis: CoalescingRedis) -> None:
    await _moves(redis, "HOT", 500)
    await redis.execute("HSET", KEYS.items("wms"), "4711", "HOT")
    await _wish(redis, **{"COLD": 100_000, "4711": 101_000})
    assert await _chosen(redis) == ["4711", "COLD"]


async def _wish(redis: CoalescingRedis, **items: int) -> None:
    for item, at_ms in items.items():
        await redis.execute("ZADD", KEYS.refetch("wms"), at_ms, item)


async def _moves(redis: CoalescingRedis, sku: str, times: int) -> None:
    """Note so many movements of today, as the apply script does beside an answer."""
    today = now_ms() // DAY_MS
    await redis.execute("HSET", KEYS.sku(sku), "aside", f"1|{today}|0|{today}|{times}|0|1")


async def _chosen(redis: CoalescingRedis, limit: int = 10) -> list[str]:
    return await store.due_items(redis, KEYS, "wms", now_ms=now_ms(), limit=limit)
