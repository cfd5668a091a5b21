"""What changes when a setting of the feed is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.feed import Store, at_once, serving_feed
from tests.support.hub import running_hub
from tests.support.wait import eventually

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from tests.support.valkey import Valkey


@pytest.fixture
def store(valkey: Valkey, redis_url: str) -> Iterator[Store]:
    with valkey.client() as client:
        yield Store(client).name_history()


async def test_a_reader_that_asks_for_no_bound_is_granted_the_setting(redis_url: str) -> None:
    async with serving_feed(redis_url, bound_ms=5000) as site, site.connect() as client:
        hello = await client.next("hello")
    assert (hello.data["bound_ms"], hello.data["hb_ms"]) == (5000, 1666)


async def test_an_idle_feed_is_verified_as_often_as_one_read_waits(redis_url: str, store: Store) -> None:
    assert store.epoch
    async with serving_feed(redis_url, read_block_ms=1000) as site, site.connect("?bound_ms=500") as client:
        await client.caught_up()
        beats = [await client.next("hb") for _ in range(6)]
    # A heartbeat every sixth of a second tells the same time again until the next read has returned.
    assert len({beat.data["asof"] for beat in beats}) < len(beats)


async def test_no_more_changes_are_taken_in_one_read_than_the_limit(redis_url: str, store: Store) -> None:
    async with serving_feed(redis_url, read_max=2) as site, site.connect() as client:
        await client.caught_up()
        at_once(store, {f"S{number}": number for number in range(6)})
        updates = [await client.next("upd") for _ in range(3)]
    assert [len(update.skus) for update in updates] == [2, 2, 2]


async def test_a_part_of_a_snapshot_holds_no_more_items_than_the_limit(redis_url: str, store: Store) -> None:
    for sku in "ABCDE":
        store.change(sku)
    async with serving_feed(redis_url, snapshot_part=2) as site, site.connect() as client:
        frames = await client.caught_up()
    assert [len(frame.skus) for frame in frames if frame.event == "snap"] == [2, 2, 1]


async def test_a_reader_may_name_so_many_skus_and_no_more(redis_url: str) -> None:
    async with running_hub(redis_url, feed={"skus_max": 2}) as site:
        headers = {"Authorization": f"Bearer {site.merchant.key}"}
        for query, status in (("?sku=A&sku=B", 200), ("?sku=A&sku=B&sku=C", 422)):
            async with site.session.get(f"{site.url}/v1/feed{query}", headers=headers) as answer:
                assert answer.status == status


class Backlogged:
    """A connection whose peer has so many bytes still to take."""

    def __init__(self, transport: asyncio.Transport, unsent: int) -> None:
        self._transport = transport
        self._unsent = unsent

    def get_write_buffer_size(self) -> int:
        """What the kernel has not yet taken."""
        return self._unsent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@pytest.mark.parametrize(("limit", "is_put_aside"), [(8192, True), (65_536, False)])
async def test_a_reader_that_lets_more_than_the_buffer_pile_up_is_put_aside(
    redis_url: str, store: Store, limit: int, *, is_put_aside: bool
) -> None:
    async with serving_feed(redis_url, buffer_max_bytes=limit) as site, site.connect() as client:
        await client.caught_up()
        [reader] = site.feed._readers
        await eventually(lambda: not reader.tail.catching_up, what="a reader that follows")
        reader.transport = Backlogged(reader.transport, 10_000)  # type: ignore[assignment]  # a stand-in
        store.change("TEE")
        frame = await client.next("upd")
        assert frame.skus == ["TEE"]
        assert reader.is_stalled is is_put_aside
        assert len(reader.tail.audiences) == (0 if is_put_aside else 1)
