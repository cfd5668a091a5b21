"""The client on a real hub: it follows, survives what happens to the hub, and refuses when it must."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from synchub_client import ChangeKind, FeedClient, HubRefused, Stale, Unknown
from synchub_client.errors import AccessEnded
from tests.support.deliveries import body_of, level
from tests.support.hub import Site, running_hub
from tests.support.proxy import Proxy
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from synchub_client import Change, Changes

TRANSPORTS = ("sse", "websocket")
_sequences = itertools.count(1)


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with running_hub(redis_url) as running:
        await stocked(running, TEE=5, CAP=7)
        yield running


async def stocked(site: Site, of: Site | None = None, **levels: int) -> None:
    """Report levels for a merchant, and return when they count."""
    rows = (level(sku, units) for sku, units in levels.items())
    body = body_of(*rows, sequence=next(_sequences))
    heard = await site.post(body, merchant=(of or site).merchant)
    assert heard.status == 202, heard
    await site.drained()


def client(site: Site, **choices: Any) -> FeedClient:
    return FeedClient(choices.pop("url", site.url), choices.pop("key", site.merchant.key), **choices)


def available(feed: FeedClient, sku: str) -> int | None:
    """What the client tells, None while it refuses."""
    try:
        return feed.get(sku).available
    except (Stale, Unknown):
        return None


async def told(feed: FeedClient, sku: str, units: int) -> None:
    await eventually(lambda: available(feed, sku) == units, what=f"{units} of {sku}")


async def ready(feed: FeedClient) -> None:
    async with asyncio.timeout(10):
        await feed.ready()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_it_follows_what_changes(site: Site, transport: str) -> None:
    async with client(site, transport=transport) as feed:
        await ready(feed)
        assert (feed.get("TEE").available, feed.get("CAP").state) == (5, "IN_STOCK")
        assert feed.age("TEE") < timedelta(seconds=1)
        with pytest.raises(Unknown):
            feed.get("NONE")
        await stocked(site, TEE=2)
        await told(feed, "TEE", 2)
        assert set(feed.items()) == {"TEE", "CAP"}


async def test_every_change_reaches_the_loop_with_its_latest_item(site: Site) -> None:
    async with client(site, skus=["TEE"]) as feed:
        changes = feed.changes()
        first = await next_of(changes)
        assert (first.sku, first.kind) == ("TEE", ChangeKind.UPDATED)
        for units in (4, 3, 2, 1):
            await stocked(site, TEE=units)
        await told(feed, "TEE", 1)
        # The loop was away: what came in between does not wait for it.
        latest = await next_of(changes)
        assert latest.item is not None
        assert latest.item.available == 1


async def test_a_sku_that_is_not_followed_is_read_through(site: Site) -> None:
    async with client(site, skus=["TEE"]) as feed:
        await ready(feed)
        with pytest.raises(Unknown):
            feed.get("CAP")
        items = await asyncio.gather(*(feed.read("CAP") for _ in range(20)))
        assert {item.available for item in items} == {7}
        assert feed.get("CAP").available == 7
        assert (await feed.read("NO/SUCH %2F thing")).state == "UNKNOWN_SKU"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_feed_of_versions_reads_what_is_wanted(site: Site, transport: str) -> None:
    async with client(site, mode="inv", transport=transport) as feed:
        await ready(feed)
        assert (await feed.read("TEE")).available == 5
        assert feed.get("TEE").available == 5
        changes = feed.changes()
        await stocked(site, TEE=1)
        assert (await next_of(changes)).kind is ChangeKind.INVALIDATED
        assert available(feed, "TEE") is None
        assert (await feed.read("TEE")).available == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_link_that_is_cut_is_made_anew_and_nothing_is_missed(site: Site, transport: str) -> None:
    async with (
        Proxy(site.port) as proxy,
        client(site, url=f"http://127.0.0.1:{proxy.port}", transport=transport) as feed,
    ):
        await ready(feed)
        await proxy.down()
        await stocked(site, TEE=1)
        await eventually(lambda: available(feed, "TEE") is None, what="a refusal")
        assert feed.age("TEE") > timedelta(seconds=1)
        await eventually(lambda: feed.problem is not None, what="a problem")
        await proxy.up()
        await told(feed, "TEE", 1)
        assert feed.problem is None


async def test_a_link_that_says_nothing_is_given_up_and_meanwhile_nothing_is_told(site: Site) -> None:
    async with (
        Proxy(site.port) as proxy,
        client(site, url=f"http://127.0.0.1:{proxy.port}", bound_ms=500) as feed,
    ):
        await ready(feed)
        connections = proxy.connections
        proxy.hole()
        await eventually(lambda: available(feed, "TEE") is None, what="a refusal")
        await eventually(lambda: proxy.connections > connections, what="a new attempt")
        proxy.mend()
        await told(feed, "TEE", 5)


async def test_it_goes_on_where_it_was_after_a_restart_of_the_hub(redis_url: str) -> None:
    async with contextlib.AsyncExitStack() as outer:
        async with running_hub(redis_url, server={"drain_ms": 200}) as first:
            await stocked(first, TEE=5)
            feed = await outer.enter_async_context(client(first))
            await ready(feed)
            changes = feed.changes()
        again = {"port": first.port, "drain_ms": 200}
        async with running_hub(redis_url, server=again) as second:
            await stocked(second, first, TEE=3)
            await told(feed, "TEE", 3)
            # It came back by its position: nothing was dropped, only the change was told.
            assert how_it_came_back(feed) == "replay"
            change = await next_of(changes)
            assert (change.kind, change.item) == (ChangeKind.UPDATED, feed.get("TEE"))
            assert second.port == first.port


async def test_while_the_hub_cannot_read_its_store_the_link_lives_and_nothing_is_told(
    own_valkey: Callable[..., Any],
) -> None:
    store = own_valkey()
    async with running_hub(store.url, redis={"command_timeout_ms": 500}) as site:
        await stocked(site, TEE=5)
        async with client(site) as feed:
            await ready(feed)
            store.freeze()
            try:
                await eventually(lambda: available(feed, "TEE") is None, what="a refusal")
                with pytest.raises(Stale):
                    await feed.read("TEE")
                await eventually(lambda: feed.is_degraded, what="the hub's own word")
                assert feed.problem is None
            finally:
                store.thaw()
            await told(feed, "TEE", 5)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_second_connection_takes_over_while_the_first_still_runs(
    site: Site, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synchub_client.following.anchor_life_s", lambda bound_s: bound_s)
    monkeypatch.setattr("synchub_client.core.anchor_life_s", lambda bound_s: bound_s)
    monkeypatch.setattr("synchub_client.following.LOOK_S", 0.1)
    async with client(site, transport=transport) as feed:
        await ready(feed)
        anchors = []

        def is_renewed() -> bool:
            link = feed._core._link
            assert link is not None
            if link.anchor not in anchors:
                anchors.append(link.anchor)
            assert feed.is_fresh
            return len(anchors) >= 3

        await eventually(is_renewed, what="two new anchors")
        assert feed.problem is None


async def test_a_key_that_is_not_known_ends_the_feed_with_a_clear_word(site: Site) -> None:
    async with client(site, key="sak_nobody") as feed:
        with pytest.raises(HubRefused) as refused:
            await ready(feed)
        assert (refused.value.status, refused.value.code) == (401, "key_unknown")
        with pytest.raises(HubRefused):
            feed.get("TEE")


async def test_a_key_that_is_revoked_ends_the_feed_and_its_loops(site: Site) -> None:
    async with client(site) as feed:
        await ready(feed)
        changes = feed.changes()
        agent = site.hub.directory.find_agent(site.merchant.key)
        assert agent is not None
        site.hub.feed.dismiss(agent.merchant, agent.name)
        with pytest.raises(AccessEnded):
            await all_of(changes)
        with pytest.raises(AccessEnded):
            feed.get("TEE")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_is_followed_can_be_changed_while_it_streams(site: Site, transport: str) -> None:
    async with client(site, skus=["TEE"], transport=transport) as feed:
        await ready(feed)
        await feed.follow("CAP")
        await told(feed, "CAP", 7)
        await stocked(site, MUG=3)
        await feed.follow("MUG")
        await told(feed, "MUG", 3)
        await feed.unfollow("TEE", "CAP")
        await eventually(lambda: set(feed.items()) == {"MUG"}, what="only the mug")
        await stocked(site, MUG=1)
        await told(feed, "MUG", 1)


async def test_a_list_too_long_for_an_address_becomes_a_set(site: Site) -> None:
    names = [f"A-VERY-LONG-NAME-OF-A-SKU-{number:06}" for number in range(3000)]
    async with client(site, skus=["TEE", *names]) as feed:
        await ready(feed)
        assert (feed.get("TEE").available, feed.get(names[-1]).state) == (5, "UNKNOWN_SKU")


def how_it_came_back(feed: FeedClient) -> str:
    link = feed._core._link
    assert link is not None
    assert link.hello is not None
    return link.hello.resume


async def all_of(changes: Changes) -> list[Change]:
    async with asyncio.timeout(10):
        return [change async for change in changes]


async def next_of(changes: Changes) -> Change:
    async with asyncio.timeout(10):
        return await anext(changes)
