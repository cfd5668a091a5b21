"""Readers see that a warehouse is silent although their cache is fresh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from synchub.keyspace import MerchantKeys
from synchub.kit.clock import monotonic_ms, now_ms
from tests.support.deliveries import body_of, level
from tests.support.feed import Client, Frame, Site, Store, serving_feed
from tests.support.hub import running_hub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.valkey import Valkey

KEYS = MerchantKeys("acme")


@pytest.fixture
def store(valkey: Valkey, redis_url: str) -> Iterator[Store]:
    with valkey.client() as client:
        store = Store(client).name_history()
        client.hset(KEYS.roles, mapping={"depot": "A|1|5000|s|p|0", "shop": "C|1|5000|p|p|0"})
        yield store


@pytest.fixture
async def site(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr("synchub.feed.follower.SOURCES_EVERY_S", 0.05)
    async with serving_feed(redis_url) as served:
        yield served


def heard(store: Store, at_ms: int, *, in_full: bool = False) -> None:
    """Have the warehouse heard last at a time, or known to be complete up to it."""
    store.client.hset(KEYS.watermarks if in_full else KEYS.heard, "depot", str(at_ms))


async def source(client: Client, status: str) -> Frame:
    while (frame := await client.next("source")).data["status"] != status:
        pass
    return frame


async def test_silence_and_its_end_are_told(site: Site, store: Store) -> None:
    heard(store, now_ms() - 1000)
    async with site.connect() as client:
        fresh = await source(client, "fresh")
        heard(store, now_ms() - 6000)
        stale = await source(client, "stale")
        heard(store, now_ms(), in_full=True)
        again = await source(client, "fresh")
    assert {frame.data["account"] for frame in client.seen if frame.event == "source"} == {"depot"}
    assert stale.data["asof"] < fresh.data["asof"] < again.data["asof"] <= monotonic_ms()
    assert fresh.id is None


async def test_one_that_was_never_heard_is_unknown(site: Site, store: Store) -> None:
    assert store.epoch
    async with site.connect() as client:
        assert (await source(client, "unknown")).data == {
            "account": "depot",
            "asof": None,
            "status": "unknown",
        }


async def test_who_comes_later_is_told_too(site: Site, store: Store) -> None:
    heard(store, now_ms())
    async with site.connect() as one:
        await source(one, "fresh")
        async with site.connect("?sku=TEE&mode=inv", key="acme.other") as other:
            await source(other, "fresh")


async def test_time_alone_makes_an_account_stale(site: Site, store: Store) -> None:
    heard(store, now_ms() - 4500)
    async with site.connect() as client:
        fresh = await source(client, "fresh")
        stale = await source(client, "stale")
    assert abs(stale.data["asof"] - fresh.data["asof"]) < 100


async def test_times_are_told_only_now_and_then(site: Site, store: Store) -> None:
    heard(store, now_ms() - 2000)
    async with site.connect() as client:
        await source(client, "fresh")
        heard(store, now_ms())
        later = await source(client, "fresh")
        rounds = len([frame for frame in client.seen if frame.event == "source"])
    assert rounds == 2
    assert later.data["asof"] > client.seen[0].data["st"] - 2000


async def test_a_warehouse_that_repeats_itself_is_not_silent(redis_url: str) -> None:
    async with running_hub(redis_url) as site:
        keys = MerchantKeys(site.merchant.name)
        told = []
        for sequence in (1, 2):
            await site.post(body_of(level("TEE", 5), sequence=sequence), message_id=f"same-{sequence}")
            await site.drained()
            told.append(int(await site.hub.redis.execute("HGET", keys.heard, site.merchant.account)))
        headers = {"Authorization": f"Bearer {site.merchant.key}"}
        async with site.session.get(f"{site.url}/v1/feed", headers=headers) as answer:
            text = b""
            while b"event: source" not in text:
                text += await answer.content.readline()
            text += await answer.content.readline()
    assert told[0] < told[1]
    assert b'"status":"fresh"' in text
