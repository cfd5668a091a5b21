"""A reader that takes too little is told the latest of everything when it takes more, and disturbs nobody."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest

from synchub import metrics
from synchub.feed.model import Filter, Mode
from tests.support.feed import Site, Store, at_once, serving_feed
from tests.support.feed_pipe import CheckedReader
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from synchub.feed.readers import Reader
    from tests.support.valkey import Valkey

LIMIT = 4096
"""What a reader may leave unread in these tests."""
SKUS = [f"S{number:03}" for number in range(40)]


@pytest.fixture
def store(valkey: Valkey, redis_url: str) -> Iterator[Store]:
    with valkey.client() as client:
        store = Store(client).name_history()
        for sku in SKUS:
            store.change(sku)
        yield store


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with serving_feed(redis_url, buffer_max_bytes=LIMIT, owed_max=100) as served:
        yield served


@contextlib.asynccontextmanager
async def following(site: Site, chosen: Filter, **about: Any) -> AsyncIterator[CheckedReader]:
    """A reader that has caught up and takes nothing from now on."""
    reader = CheckedReader(site.feed, chosen, **about)
    reader.connect()
    try:
        await eventually(lambda: caught_up(reader), what="a reader that follows")
        reader.pipe.flows = False
        yield reader
    finally:
        await reader.leave()


def caught_up(reader: CheckedReader) -> bool:
    reader.read()
    return reader.seq is not None and not any(one.catching_up for one in reader.feed._follower.tails)


def holds(reader: CheckedReader, count: int) -> bool:
    reader.read()
    return len(reader.items) == count


def the_hubs(reader: CheckedReader) -> Reader:
    """The same reader as the hub sees it."""
    [found] = [one for one in reader.feed._readers if one.transport is reader.pipe]
    return found


async def pile_up(store: Store, reader: CheckedReader) -> Reader:
    """Change things until nothing more is written to the reader."""
    found = the_hubs(reader)
    for level in range(200):
        at_once(store, dict.fromkeys(SKUS, 100 + level))
        await eventually(lambda: found.tail.position >= store.seq, what="the changes read")
        if found.is_stalled:
            return found
    pytest.fail("the reader was never put aside")


async def at_the_end(reader: CheckedReader, store: Store) -> None:
    """Everything is taken, and the reader has the position of the store."""
    reader.pipe.flows = True
    reader.pipe.take()

    def is_there() -> bool:
        reader.read()
        return reader.seq is not None and reader.seq >= store.seq

    await eventually(is_there, what="the reader up to date")


async def test_the_latest_of_each_sku_is_told_once_when_it_takes_more(site: Site, store: Store) -> None:
    async with following(site, Filter(skus=frozenset(SKUS))) as reader:
        found = await pile_up(store, reader)
        for level in range(50):
            at_once(store, dict.fromkeys(SKUS[:20], 1000 + level))
        await eventually(lambda: found.tail.position >= store.seq, what="the changes read")
        assert found.is_stalled
        reader.read()
        reader.events.clear()
        await at_the_end(reader, store)
        assert reader.is_connected
    assert {sku: item["available"] for sku, item in reader.items.items()} == {
        sku: 1049 if sku in SKUS[:20] else reader.items[SKUS[-1]]["available"] for sku in SKUS
    }
    assert reader.broken == []
    # What had piled up before, and one frame for 1,000 changes.
    assert reader.events.count("upd") < 20
    assert not {"reset", "bye", "snap"} & set(reader.events)


async def test_what_is_kept_for_it_is_bounded_by_what_it_watches(site: Site, store: Store) -> None:
    chosen = Filter(skus=frozenset(SKUS))
    async with following(site, chosen) as reader, following(site, chosen, agent="other") as other:
        found = await pile_up(store, reader)
        biggest = reader.pipe.most_unsent
        for level in range(200):
            at_once(store, dict.fromkeys([*SKUS, f"NEW{level}"], 5000 + level))
        await eventually(lambda: found.tail.position >= store.seq, what="the changes read")
        assert set(found.changed) == set(SKUS)
        assert reader.pipe.most_unsent == biggest
        # No answer is kept twice, however many readers it is owed to.
        assert the_hubs(other).changed[SKUS[0]] is found.changed[SKUS[0]]


async def test_it_gets_no_heartbeat_and_no_news_of_sources_before_it_is_told(
    site: Site, store: Store
) -> None:
    async with (
        following(site, Filter(skus=frozenset(SKUS))) as reader,
        site.connect("?bound_ms=500") as client,
    ):
        await client.caught_up()
        await pile_up(store, reader)
        unsent = reader.pipe.get_write_buffer_size()
        for _ in range(4):
            await client.next("hb")
        assert reader.pipe.get_write_buffer_size() == unsent


async def test_one_of_everything_is_sent_away_when_too_much_is_owed(site: Site, store: Store) -> None:
    async with following(site, Filter()) as reader:
        found = await pile_up(store, reader)
        before = metrics.feed_byes.labels("slow")._value.get()
        at_once(store, {f"N{number}": 3 for number in range(70)})
        assert not found.ended
        at_once(store, {f"M{number}": 3 for number in range(70)})
        await eventually(lambda: found.ended, within_s=5, what="the reader sent away")
        assert metrics.feed_byes.labels("slow")._value.get() == before + 1
        assert not found.changed


async def test_one_that_takes_nothing_for_too_long_is_sent_away_and_resumes(
    redis_url: str, store: Store
) -> None:
    async with (
        serving_feed(redis_url, buffer_max_bytes=LIMIT, owed_max_ms=200) as site,
        following(site, Filter(skus=frozenset(SKUS))) as reader,
    ):
        await pile_up(store, reader)
        await eventually(lambda: not reader.is_connected, what="the reader sent away")
        reader.pipe.take()
        reader.read()
        assert reader.events[-1] == "bye"
        store.change(SKUS[3], 1)
        reader.connect()
        await at_the_end(reader, store)
        assert reader.items[SKUS[3]]["available"] == 1
    assert reader.broken == []
    assert "reset" not in reader.events


async def test_a_stopped_reader_costs_the_others_nothing(site: Site, store: Store) -> None:
    chosen = Filter(skus=frozenset(SKUS))
    async with following(site, chosen) as stopped, site.connect("?sku=" + "&sku=".join(SKUS)) as client:
        await client.caught_up()
        found = await pile_up(store, stopped)
        store.change(SKUS[0], 7777)
        while True:
            told = {item["sku"]: item["available"] for item in (await client.next("upd")).data["items"]}
            if told.get(SKUS[0]) == 7777:
                break
        assert found.is_stalled
        [audience] = found.tail.audiences
        assert found not in audience.readers


async def test_versions_are_owed_in_the_same_way(site: Site, store: Store) -> None:
    async with following(site, Filter(skus=frozenset(SKUS)), mode=Mode.INV) as reader:
        await pile_up(store, reader)
        store.change(SKUS[5], 1, whose=["shopper"])
        await at_the_end(reader, store)
    assert reader.broken == []
    assert reader.is_connected is False
    assert "reset" not in reader.events


async def test_a_set_that_changes_meanwhile_is_told_in_order(site: Site, store: Store) -> None:
    set_id = await site.new_set(*SKUS[:30])
    async with following(site, Filter(set_id=set_id)) as reader:
        await pile_up(store, reader)
        await site.sets("PATCH", set_id, add=SKUS[30:], remove=SKUS[:10])
        await eventually(lambda: the_hubs(reader).next_lens is not None, what="the change noticed")
        at_once(store, dict.fromkeys(SKUS, 9))
        await at_the_end(reader, store)
        await eventually(lambda: holds(reader, 30), what="the set told")
    assert {sku: item["available"] for sku, item in reader.items.items()} == dict.fromkeys(SKUS[10:], 9)
    assert reader.confirmed == set(SKUS[10:])
    assert reader.broken == []


@pytest.mark.parametrize("query", ["?bound_ms=500", "?bound_ms=500&mode=inv"])
async def test_over_a_socket_too_it_is_told_when_it_reads_again(
    redis_url: str, store: Store, query: str
) -> None:
    async with serving_feed(redis_url, buffer_max_bytes=LIMIT) as site, site.connect(query) as client:
        await client.caught_up()
        [found] = site.feed._readers
        assert client.response.connection is not None
        transport: Any = client.response.connection.transport
        transport.pause_reading()
        for end, side in ((transport, socket.SO_RCVBUF), (found.transport, socket.SO_SNDBUF)):
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, side, 4096)
        level = 0
        while not found.is_stalled:
            level += 1
            at_once(store, {f"{sku}-{'x' * 90}": level for sku in SKUS})
            await asyncio.sleep(0)
        store.change("LAST", 3)
        transport.resume_reading()
        while not any(frame.data.get("seq", 0) >= store.seq for frame in client.seen[-1:]):
            await client.next("upd", "hb")
    positions = [frame.data["seq"] for frame in client.seen if frame.event == "upd"]
    assert positions == sorted(positions)
    assert not {"bye", "reset"} & {frame.event for frame in client.seen}
