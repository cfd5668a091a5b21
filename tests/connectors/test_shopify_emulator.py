"""The Shopify connector against its emulator: a process of its own, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest
from aiohttp import web

from connectors.shopify import Client, normalize, verify
from connectors.shopify.addresses import API_VERSION
from synchub.connector_kit.contract import Access
from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.events import Catalogue, Level, OrderLine, StockEvent
from synchub.connector_kit.http import AiohttpPlatformHttp
from synchub.errors import SignatureRefused, UpstreamFailed, UpstreamRefused, UpstreamThrottled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET: Final = "shpss_emulated"
TOKEN: Final = "shpat_emulated"
FIRST_ITEM: Final = "271878346596884001"
PATIENCE_S: Final = 20


class Receiver:
    """A hub that verifies and reads what it is sent and keeps the events."""

    def __init__(self) -> None:
        self.events: list[StockEvent] = []
        self.refused = 0
        self.url = ""
        self._arrived = asyncio.Condition()

    async def receive(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        now_us = time.time_ns() // 1000
        sent = Delivery(account="shop", headers=headers, body=await request.read(), arrived_at_us=now_us)
        try:
            verify(sent, [SECRET], now_ms=now_us // 1000)
        except SignatureRefused:
            self.refused += 1
            return web.Response(status=401)
        topic = headers.get("x-shopify-topic") or headers["shopify-topic"]
        async with self._arrived:
            self.events += normalize(topic, sent)
            self._arrived.notify_all()
        return web.Response()

    async def has(self, count: int) -> None:
        """Wait until so many events have arrived."""
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            await self._arrived.wait_for(lambda: len(self.events) >= count)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    hub = Receiver()
    app = web.Application()
    app.router.add_post("/hook", hub.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        hub.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield hub
    finally:
        await runner.cleanup()


@asynccontextmanager
async def emulator(hook_url: str, *options: str) -> AsyncIterator[str]:
    """Run the emulator as a process; gives its address."""
    credentials = [f"--credential=client_secret={SECRET}", f"--credential=access_token={TOKEN}"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "connectors.shopify.emulator", "--hook-url", hook_url, "--rate", "0"),
        *credentials,
        *options,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            first_line = await process.stdout.readline()
        yield f"http://127.0.0.1:{json.loads(first_line)['port']}"
    finally:
        process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0


@asynccontextmanager
async def client(shop_domain: str, token: str = TOKEN) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(trust_env=False) as session:
        credentials = {"shop_domain": shop_domain, "access_token": token}
        yield Client(Access(http=AiohttpPlatformHttp(session), credentials=credentials))


async def set_level(shop: str, sku: str, location: str, quantity: int) -> int:
    wish = {"sku": sku, "location": location, "quantity": quantity}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{shop}/_emulator/change", json=wish) as answer,
    ):
        return int((await answer.json())["status"])


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
