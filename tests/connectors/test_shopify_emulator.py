"""The Shopify connector against its emulator: a process of its own, over real HTTP."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from connectors.shopify.addresses import API_VERSION
from synchub.connector_kit.events import Catalogue, Level, OrderLine, StockEvent
from synchub.errors import UpstreamFailed, UpstreamRefused, UpstreamThrottled
from tests.support.shopify import FIRST_ITEM, TOKEN, client, emulator, receiver, set_level

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def levels(events: list[StockEvent] | tuple[StockEvent, ...]) -> dict[tuple[str, str], int | None]:
    return {(event.item, event.location): event.quantity for event in events if isinstance(event, Level)}


@pytest.mark.parametrize("prefix", ["X-Shopify-", "Shopify-"])
async def test_the_emulator_announces_its_catalogue_and_levels_with_signatures_that_hold(prefix: str) -> None:
    header_family = f"--credential=header_prefix={prefix}"
    async with receiver() as hub, emulator(hub.url, "--skus=3", "--locations=WH1,WH2", header_family):
        await hub.has(3 + 6)
    skus = {event.item: event.sku for event in hub.events if isinstance(event, Catalogue)}
    assert skus[FIRST_ITEM] == "TEE-0001"
    assert len(skus) == 3
    assert len(levels(hub.events)) == 6
    assert hub.refused == 0


async def test_what_is_read_back_is_what_was_pushed() -> None:
    async with receiver() as hub, emulator(hub.url, "--skus=4", "--locations=WH1,WH2") as shop:
        await hub.has(4 + 8)
        async with client(shop) as api:
            read = await api.fetch_levels([item for item, _ in levels(hub.events)])
    assert levels(read) == levels(hub.events)
    assert set(filter(None, read)) >= {event for event in hub.events if isinstance(event, Level)}


async def test_an_item_at_more_locations_than_one_page_holds_is_read_whole() -> None:
    places = ",".join(f"WH{number}" for number in range(65))
    async with (
        receiver() as hub,
        emulator(hub.url, "--skus=1", f"--locations={places}", "--paused") as shop,
        client(shop) as api,
    ):
        read = await api.fetch_levels([FIRST_ITEM, "271878346596884999"])
    assert len(levels(read)) == 65


async def test_a_change_on_demand_arrives_and_is_read_back() -> None:
    async with receiver() as hub, emulator(hub.url, "--skus=2", "--paused") as shop:
        assert await set_level(shop, "TEE-0001", "WH1", 41) == 200
        async with client(shop) as api:
            read = await api.fetch_levels([FIRST_ITEM])
    assert list(levels(hub.events).values()) == [41]
    assert list(levels(read).values()) == [41]


async def test_an_order_s_variant_is_resolved_to_its_sku() -> None:
    async with receiver() as hub, emulator(hub.url, "--skus=2", "--paused") as shop:
        wish = {"sku": "TEE-0002", "quantity": 1}
        async with aiohttp.ClientSession() as http, http.post(f"{shop}/_emulator/order", json=wish) as placed:
            assert (await placed.json())["status"] == 200
        (line,) = (event for event in hub.events if isinstance(event, OrderLine))
        async with client(shop) as api:
            by_variant = await api.fetch_levels([line.item, "variant/1"])
            by_item = await api.fetch_levels([str(int(FIRST_ITEM) + 1)])
    assert [event.sku for event in by_variant if isinstance(event, Catalogue)] == ["TEE-0002"]
    assert by_variant[0] in by_item


async def test_a_forged_delivery_is_refused() -> None:
    async with receiver() as hub, emulator(hub.url, "--skus=1", "--paused", "--fault=forge@0-60") as shop:
        await set_level(shop, "TEE-0001", "WH1", 41)
    assert hub.refused == 1
    assert list(levels(hub.events).values()) == [41]


async def test_the_emulator_throttles_as_the_platform_does() -> None:
    async with (
        receiver() as hub,
        emulator(hub.url, "--paused", "--fault=throttle@0-60") as shop,
        client(shop) as api,
    ):
        with pytest.raises(UpstreamThrottled) as refusal:
            await api.fetch_levels([FIRST_ITEM])
    assert refusal.value.retry_after_s == 1


async def test_points_that_are_spent_are_waited_for() -> None:
    items = [str(int(FIRST_ITEM) + number) for number in range(25)]
    places = ",".join(f"WH{number}" for number in range(10))
    async with (
        receiver() as hub,
        emulator(hub.url, "--skus=25", f"--locations={places}", "--paused") as shop,
        client(shop) as api,
    ):
        with pytest.raises(UpstreamThrottled) as refusal:
            await asyncio.gather(*(api.fetch_levels(items) for _ in range(10)))
    assert refusal.value.retry_after_s is not None
    assert 1 <= refusal.value.retry_after_s <= 10


async def test_another_shop_s_token_is_refused() -> None:
    async with (
        receiver() as hub,
        emulator(hub.url, "--paused") as shop,
        client(shop, "shpat_other") as api,
    ):
        with pytest.raises(UpstreamRefused):
            await api.fetch_levels([FIRST_ITEM])


@asynccontextmanager
async def shop_answering(status: int, body: str) -> AsyncIterator[str]:
    """A shop's API that gives one and the same answer; gives its address."""

    async def give(_request: web.Request) -> web.Response:
        return web.Response(status=status, text=body, headers={"Retry-After": "2", "Location": "/"})

    app = web.Application()
    app.router.add_post(f"/admin/api/{API_VERSION}/graphql.json", give)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (200, UpstreamFailed),
        (302, UpstreamFailed),
        (401, UpstreamRefused),
        (402, UpstreamRefused),
        (403, UpstreamRefused),
        (429, UpstreamThrottled),
        (502, UpstreamFailed),
    ],
)
async def test_a_page_of_html_says_by_its_status_who_must_act(status: int, failure: type[Exception]) -> None:
    async with shop_answering(status, "<html>We will be back</html>") as shop, client(shop) as api:
        with pytest.raises(failure):
            await api.fetch_levels([FIRST_ITEM])


async def test_no_failure_repeats_the_token() -> None:
    async with shop_answering(403, TOKEN) as shop, client(shop) as api:
        with pytest.raises(UpstreamRefused) as refusal:
            await api.fetch_levels([FIRST_ITEM])
    assert TOKEN not in repr(refusal.value)
