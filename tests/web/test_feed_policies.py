"""What a merchant decides is what its readers see, and an edit reaches those who are connected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.feed import Client, Site, Store, serving_feed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.valkey import Valkey


@pytest.fixture
def store(valkey: Valkey, redis_url: str) -> Iterator[Store]:
    with valkey.client() as client:
        yield Store(client).name_history()


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with serving_feed(redis_url) as served:
        yield served


async def snapshot(client: Client) -> dict[str, int | None]:
    """What is told of each SKU up to the end of the next snapshot."""
    frames = await client.caught_up()
    return {
        item["sku"]: item["available"]
        for frame in frames
        if frame.event == "snap"
        for item in frame.data["items"]
    }


async def test_each_tier_sees_what_the_merchant_leaves_to_it(site: Site, store: Store) -> None:
    store.change("TEE", 10)
    store.change("MUG", 10)
    await site.decide("acme", {"scope": {"tier": "standard", "skus": ["TEE"]}, "set": {"buffer_units": 3}})
    async with site.connect() as client:
        assert await snapshot(client) == {"TEE": 7, "MUG": 10}
    async with site.connect(key="acme.shopper.trusted") as client:
        assert await snapshot(client) == {"TEE": 10, "MUG": 10}


async def test_an_edit_shows_everything_anew_to_who_is_connected(site: Site, store: Store) -> None:
    store.change("TEE", 10)
    async with site.connect() as client:
        assert await snapshot(client) == {"TEE": 10}
        await site.decide("acme", {"set": {"buffer_units": 4}})
        reset = await client.next("reset")
        assert reset.data["reason"] == "policy"
        assert await snapshot(client) == {"TEE": 6}
        store.change("TEE", 9)
        changed = await client.next("upd")
        assert changed.data["items"][0]["available"] == 5


async def test_an_edit_is_nothing_to_another_merchant_s_readers(site: Site, store: Store) -> None:
    other = Store(store.client, merchant="other").name_history()
    other.change("TEE", 10)
    async with site.connect(key="other.shopper") as client:
        assert await snapshot(client) == {"TEE": 10}
        await site.decide("acme", {"set": {"buffer_units": 4}})
        other.change("TEE", 9)
        assert (await client.next("upd", "reset")).event == "upd"


async def test_a_position_from_before_an_edit_is_not_continued(site: Site, store: Store) -> None:
    store.change("TEE", 10)
    async with site.connect() as client:
        last = (await client.caught_up())[-1].id
    await site.decide("acme", {"set": {"disclosure": "none"}})
    async with site.connect(last=last) as client:
        assert (await client.next("reset")).data["reason"] == "filter"
        assert await snapshot(client) == {"TEE": None}
