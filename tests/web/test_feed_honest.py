"""No frame says more than was verified: with the store stalled, behind a black hole, slow, or another one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from synchub.kit.clock import monotonic_ms
from tests.support.fault_proxy import FaultProxy
from tests.support.feed import EPOCH, Client, Frame, Store, at_once, covers_follow, serving_feed
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.valkey import Valkey

pytestmark = pytest.mark.fault

TOLD_WITHIN_MS = 3000
"""By then readers know that nothing is being verified."""
QUERIES = ["?bound_ms=500", "?bound_ms=60000&sku=TEE", "?mode=inv&prefix=T"]


@pytest.fixture
def server(own_valkey: Callable[..., Valkey]) -> Valkey:
    return own_valkey()


@pytest.fixture
def store(server: Valkey) -> Iterator[Store]:
    with server.client() as client:
        store = Store(client).name_history()
        store.change("TEE")
        yield store


async def until_degraded(client: Client, since_ms: int) -> int:
    """Read until the reader is told, and return how many ms after the fault that was."""
    while not (await client.next("hb", "upd", within_s=15)).data.get("degraded"):
        pass
    return monotonic_ms() - since_ms


async def until_fresh(client: Client, since_ms: int) -> Frame:
    """Read until something newer than the fault has been verified."""
    while (frame := await client.next("hb", "upd", "snap_end", within_s=15)).data["asof"] <= since_ms:
        pass
    return frame


def claims(client: Client, start: int) -> list[int]:
    """What the frames since the ``start``-th say to be complete at."""
    return [frame.data["asof"] for frame in client.seen[start:] if frame.event in {"hb", "upd", "snap_end"}]


@pytest.mark.parametrize("query", QUERIES)
async def test_behind_a_black_hole_time_stands_still_and_readers_are_told(
    server: Valkey, store: Store, query: str
) -> None:
    async with (
        FaultProxy(server.port) as proxy,
        serving_feed(proxy.url) as site,
        site.connect(query) as client,
    ):
        await client.caught_up()
        start = len(client.seen)
        proxy.hole()
        holed_at = monotonic_ms()
        store.change("TEE", 3)
        told_after = await until_degraded(client, holed_at)
        claimed = claims(client, start)
        proxy.mend()
        await until_fresh(client, holed_at)
    assert max(claimed) <= holed_at
    assert told_after <= TOLD_WITHIN_MS
    assert any("TEE" in str(frame.data) for frame in client.seen[start:] if frame.event == "upd")
    assert covers_follow(client)
    assert "reset" not in {frame.event for frame in client.seen}


@pytest.mark.parametrize("query", QUERIES)
async def test_of_a_stalled_store_nothing_is_claimed_and_readers_are_told(
    server: Valkey, store: Store, query: str
) -> None:
    assert store.epoch
    async with serving_feed(server.url) as site, site.connect(query) as client:
        await client.caught_up()
        start = len(client.seen)
        server.freeze()
        frozen_at = monotonic_ms()
        told_after = await until_degraded(client, frozen_at)
        claimed = claims(client, start)
        server.thaw()
        fresh = await until_fresh(client, frozen_at)
    assert max(claimed) <= frozen_at
    assert told_after <= TOLD_WITHIN_MS
    assert "degraded" not in fresh.data


async def test_that_it_is_over_is_told_at_once_and_not_with_the_next_heartbeat(
    server: Valkey, store: Store
) -> None:
    assert store.epoch
    async with serving_feed(server.url) as site, site.connect("?bound_ms=60000") as client:
        hello, *_ = await client.caught_up()
        server.freeze()
        await until_degraded(client, monotonic_ms())
        server.thaw()
        fresh = await client.next("hb", "upd", within_s=15)
    assert hello.data["hb_ms"] == 20_000
    assert "degraded" not in fresh.data


async def test_a_slow_line_to_the_store_makes_claims_older_and_not_wrong(
    server: Valkey, store: Store
) -> None:
    async with (
        FaultProxy(server.port) as proxy,
        serving_feed(proxy.url) as site,
        site.connect("?bound_ms=500") as client,
    ):
        await client.caught_up()
        # Answers are on their way for so long that several heartbeats come before the next one.
        proxy.replies.latency_s = 0.4
        told: dict[str, int] = {}
        for level in range(20, 26):
            # So that it happens while an answer is on its way that does not tell of it yet.
            await client.next("hb")
            at_once(store, {"TEE": level, "CAP": level})
            wrote_at, claimed = monotonic_ms(), 0
            while claimed <= wrote_at:
                frame = await client.next("hb", "upd")
                claimed = frame.data["asof"]
                told |= {item["sku"]: item["available"] for item in frame.data.get("items", [])}
            assert told == {"TEE": level, "CAP": level}


async def test_a_store_that_takes_over_with_less_is_another_history(
    server: Valkey, store: Store, own_valkey: Callable[..., Valkey]
) -> None:
    successor = own_valkey()
    with successor.client() as client:
        behind = Store(client).name_history()
        behind.change("TEE")
        async with (
            FaultProxy(server.port) as proxy,
            serving_feed(proxy.url) as site,
            site.connect("?bound_ms=500") as reader,
        ):
            await reader.caught_up()
            store.change("LOST", 3)
            await reader.next("upd")
            start = len(reader.seen)
            turned_at = monotonic_ms()
            proxy.turn_to(successor.port)
            reset, *_, end = await reader.caught_up()
            before = [frame for frame in reader.seen[start:] if frame.event in {"hb", "upd"}]
    assert reset.event == "reset"
    assert (reset.data["reason"], reset.data["epoch"]) == ("continuity", behind.epoch)
    assert behind.epoch != EPOCH
    assert all(frame.data["asof"] <= turned_at for frame in before)
    assert end.data["asof"] > turned_at
    assert end.data["seq"] == 1


async def test_a_store_that_takes_over_with_everything_is_only_a_pause(
    server: Valkey, store: Store, own_valkey: Callable[..., Valkey]
) -> None:
    successor = own_valkey()
    with successor.client() as client:
        client.replicaof("127.0.0.1", server.port)
        await eventually(lambda: bool(client.exists("{acme}:head")), what="the replica filled")
        async with (
            FaultProxy(server.port) as proxy,
            serving_feed(proxy.url) as site,
            site.connect("?bound_ms=500") as reader,
        ):
            await reader.caught_up()
            store.change("TEE", 3)
            await reader.next("upd")
            await asyncio.to_thread(store.client.wait, 1, 5000)
            client.replicaof("NO", "ONE")
            turned_at = monotonic_ms()
            proxy.turn_to(successor.port)
            store.client, old = client, store.client
            await asyncio.to_thread(store.change, "TEE", 2)
            while (frame := await reader.next("upd", "reset", within_s=15)).event == "upd":
                if frame.data["items"] and frame.data["items"][0]["available"] == 2:
                    break
            store.client = old
            await until_fresh(reader, turned_at)
    assert "reset" not in {frame.event for frame in reader.seen}
    assert covers_follow(reader)


async def test_who_comes_while_nothing_can_be_read_is_refused_and_promised_nothing(
    server: Valkey, store: Store
) -> None:
    assert store.epoch
    async with (
        FaultProxy(server.port) as proxy,
        serving_feed(proxy.url) as site,
        site.connect() as client,
    ):
        await client.caught_up()
        proxy.hole()
        async with await site.get("?sku=TEE") as refused:
            assert refused.status == 503
        proxy.mend()
