"""The feed stream as it is read, and how a history gets its name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from synchub.feed import store
from synchub.keyspace import MerchantKeys
from synchub.redis import CoalescingRedis, open_redis
from synchub.settings import RedisSettings
from tests.support.feed import EPOCH, Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import redis.asyncio as aioredis

    from tests.support.valkey import Valkey

KEYS = MerchantKeys("acme")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[CoalescingRedis]:
    client = CoalescingRedis(RedisSettings(url=redis_url))
    yield client
    await client.close()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[aioredis.Redis]:
    opened = open_redis(RedisSettings(url=redis_url), blocking_ms=100)
    yield opened
    await opened.aclose()


@pytest.fixture
def written(valkey: Valkey, redis_url: str) -> Iterator[Store]:
    with valkey.client() as opened:
        yield Store(opened).name_history()


class TestNames:
    async def test_a_history_without_a_name_gets_one_and_keeps_it(self, redis: CoalescingRedis) -> None:
        first, second = [await store.named_head(redis, KEYS) for _ in range(2)]
        assert first == second
        assert len(first.epoch) >= 11
        assert (first.seq, first.feed_seq) == (0, 0)

    async def test_of_many_that_rename_one_succeeds_and_all_agree(
        self, redis: CoalescingRedis, written: Store
    ) -> None:
        heads = await asyncio.gather(*(store.renew_epoch(redis, KEYS, expected=EPOCH) for _ in range(8)))
        assert len({head.epoch for head in heads}) == 1
        assert heads[0].epoch not in {EPOCH, ""}

    async def test_a_name_that_is_not_the_expected_one_stays(
        self, redis: CoalescingRedis, written: Store
    ) -> None:
        head = await store.renew_epoch(redis, KEYS, expected="an-older-one")
        assert head.epoch == EPOCH

    async def test_naming_leaves_the_sequences_alone(self, redis: CoalescingRedis, written: Store) -> None:
        written.change("TEE")
        written.effect()
        head = await store.renew_epoch(redis, KEYS, expected=EPOCH)
        assert (head.seq, head.feed_seq) == (2, 1)


class TestReading:
    async def test_the_oldest_position_is_that_before_the_first_entry(
        self, redis: CoalescingRedis, written: Store
    ) -> None:
        assert await store.read_oldest(redis, KEYS) is None
        written.effect()
        for sku in "ABC":
            written.change(sku)
        assert await store.read_oldest(redis, KEYS) == 0
        written.client.xtrim(KEYS.feed, maxlen=1, approximate=False)
        assert await store.read_oldest(redis, KEYS) == 3

    async def test_a_range_begins_after_one_position_and_ends_with_the_other(
        self, redis: CoalescingRedis, written: Store
    ) -> None:
        for sku in "ABCDE":
            written.change(sku, 4)
        entries = await store.read_range(redis, KEYS, after=1, upto=4, limit=10)
        assert [(entry.seq, entry.previous, entry.answer.sku) for entry in entries] == [
            (2, 1, "B"),
            (3, 2, "C"),
            (4, 3, "D"),
        ]
        assert entries[0].answer.ats == 4
        assert len(await store.read_range(redis, KEYS, after=0, upto=5, limit=2)) == 2

    async def test_news_are_told_per_feed_and_silence_is_an_empty_answer(
        self, client: aioredis.Redis, written: Store
    ) -> None:
        other = MerchantKeys("rival").feed
        assert await store.read_news(client, {KEYS.feed: 0}, block_ms=10, limit=5) == {}
        written.change("TEE")
        news = await store.read_news(client, {KEYS.feed: 0, other: 0}, block_ms=10, limit=5)
        assert list(news) == [KEYS.feed]
        assert [entry.answer.sku for entry in store.parsed(news[KEYS.feed])] == ["TEE"]

    async def test_a_proof_is_the_head_and_the_entry_we_stand_on(
        self, client: aioredis.Redis, written: Store
    ) -> None:
        written.change("TEE")
        written.effect()
        news = await store.read_news(client, {KEYS.feed: 0}, block_ms=10, limit=5)
        (head, entry), (_, absent) = await store.read_proofs(client, [(KEYS, 1), (KEYS, 2)])
        assert (head.epoch, head.seq, head.feed_seq) == (EPOCH, 2, 1)
        assert entry == news[KEYS.feed][0][1]
        assert absent is None
