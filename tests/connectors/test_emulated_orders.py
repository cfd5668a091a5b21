"""The emulators' orders: really signed, in each platform's form, and adding up to the truth."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from connectors.shiphero.emulator import ShipHeroEmulator
from connectors.shopify.emulator import ShopifyEmulator
from connectors.standard.emulator import StandardEmulator
from synchub.connector_kit import emulated_orders
from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.discovery import discover
from synchub.connector_kit.emulation import Emulator, Options, _read_arguments
from synchub.connector_kit.events import Ack, Level, OrderLine, OrderStatus, StockEvent, Tickle
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRETS: Final = {
    "signing_secret": "whsec_YSBzaWduaW5nIHNlY3JldCBmb3IgdGVzdHMgb25seS4=",
    "client_secret": "shpss_emulated",
    "shared_signature_secret": "sh_emulated",
}
CONNECTORS: Final = discover()
PLATFORMS: Final = (StandardEmulator, ShopifyEmulator, ShipHeroEmulator)
SELLERS: Final = (StandardEmulator, ShopifyEmulator)
SKU: Final = "TEE-0001"


@dataclass
class Hub:
    """Verifies and reads what a platform posts, as the real one does."""

    platform: str
    secret: str
    topics: list[str] = field(default_factory=list)
    events: list[StockEvent] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        connector = CONNECTORS[self.platform]
        headers = {name.lower(): value for name, value in request.headers.items()}
        now_us = time.time_ns() // 1000
        sent = Delivery(account="acc", headers=headers, body=await request.read(), arrived_at_us=now_us)
        connector.verify(sent, [self.secret], now_ms=now_us // 1000)
        topic = connector.manifest.topic_of(sent)
        self.topics.append(topic)
        self.events += connector.normalize(topic, sent)
        answer = connector.manifest.answer
        return web.Response(status=answer.status, text=answer.body or None)

    def lines(self) -> list[OrderLine]:
        return [event for event in self.events if isinstance(event, OrderLine)]

    def acks(self) -> list[Ack]:
        return [event for event in self.events if isinstance(event, Ack)]

    def levels(self) -> dict[tuple[str, str], int | None]:
        found = [event for event in self.events if isinstance(event, Level)]
        return {(event.item, event.location): event.quantity for event in found}


@dataclass
class Run:
    """An emulator in this process, its hub, and somebody who orders."""

    emulator: Emulator
    hub: Hub
    client: TestClient[web.Request, web.Application]

    async def post(self, path: str, **wish: object) -> dict[str, Any]:
        async with self.client.post(f"/_emulator/{path}", json=wish) as answer:
            return dict(await answer.json())

    async def truth(self) -> dict[str, Any]:
        async with self.client.get("/_emulator/truth") as answer:
            return dict(await answer.json())

    async def stock(self, quantity: int, location: str = "WH1") -> None:
        await self.post("change", sku=SKU, location=location, quantity=quantity)
        self.hub.events.clear()
        self.hub.topics.clear()

    def level(self, place: int = 0) -> int:
        item = next(item for item, sku in self.emulator.skus.items() if sku == SKU)
        return self.emulator.levels[item][self.emulator.locations[place]]


@asynccontextmanager
async def running(kind: type[Emulator], **options: Any) -> AsyncIterator[Run]:
    hub = Hub(platform=kind.platform, secret=SECRETS[kind.credentials_needed[0]])
    app = web.Application()
    app.router.add_post("/hooks", hub.receive)
    async with TestServer(app) as server:
        chosen = Options(
            hook_url=str(server.make_url("/hooks")),
            credentials=SECRETS,
            **{"skus": 2, "locations": ("WH1", "WH2"), "rate": 0, "paused": True, **options},
        )
        emulator = kind(chosen)
        async with TestClient(TestServer(emulator.app())) as client:
            yield Run(emulator=emulator, hub=hub, client=client)


@pytest.mark.parametrize("kind", PLATFORMS)
async def test_an_order_takes_its_units_off_the_level_and_a_cancellation_gives_them_back(
    kind: type[Emulator],
) -> None:
    async with running(kind) as run:
        await run.stock(10)
        placed = await run.post("order", sku=SKU, quantity=3, location="WH1")
        assert (placed["status"] in {200, 202}, run.level()) == (True, 7)
        part = await run.post("cancel", order=placed["order"], quantity=1)
        assert (part["quantity"], run.level()) == (2, 8)
        rest = await run.post("cancel", order=placed["order"])
        assert (rest["quantity"], run.level()) == (0, 10)
        truth = await run.truth()
    assert truth["orders"][placed["order"]]["ordered"] == 3
    assert truth["orders"][placed["order"]]["quantity"] == 0
    assert list(run.hub.levels().values()) == [10]


@pytest.mark.parametrize("kind", SELLERS)
async def test_a_seller_states_its_order_each_time_it_changes(kind: type[Emulator]) -> None:
    async with running(kind) as run:
        placed = await run.post("order", sku=SKU, quantity=3, location="WH1", reference="k7.1")
        await run.post("cancel", order=placed["order"], quantity=1)
        await run.post("cancel", order=placed["order"])
    lines = run.hub.lines()
    assert {line.order for line in lines} == {placed["order"]}
    assert {line.references for line in lines} == {("k7.1",)}
    assert {line.location for line in lines} == {run.emulator.locations[0]}
    states = list(dict.fromkeys((line.quantity, line.status) for line in lines))
    assert states == [
        (3, OrderStatus.PLACED),
        (2, OrderStatus.PLACED),
        (0, OrderStatus.CANCELLED),
    ]


@pytest.mark.parametrize("kind", SELLERS)
async def test_an_order_without_a_location_is_taken_where_there_is_enough_and_does_not_say_so(
    kind: type[Emulator],
) -> None:
    async with running(kind) as run:
        await run.stock(1, "WH1")
        await run.stock(5, "WH2")
        placed = await run.post("order", sku=SKU, quantity=2)
        assert (run.level(0), run.level(1)) == (1, 3)
        await run.post("order", sku=SKU, quantity=9)
        assert (run.level(0), run.level(1)) == (-8, 3)
    assert placed["location"] == run.emulator.locations[1]
    assert {line.location for line in run.hub.lines()} == {None}


@pytest.mark.parametrize("kind", PLATFORMS)
async def test_what_cannot_be_ordered_or_cancelled_is_404(kind: type[Emulator]) -> None:
    async with running(kind) as run:
        placed = await run.post("order", sku=SKU, quantity=2, location="WH1")
        for wish in (
            {"sku": "TEE-9999", "quantity": 1},
            {"sku": SKU, "quantity": 0},
            {"sku": SKU, "quantity": 1, "location": "WH9"},
        ):
            assert "error" in await run.post("order", **wish)
        assert "error" in await run.post("cancel", order="unknown")
        assert "error" in await run.post("cancel", order=placed["order"], quantity=3)


async def test_a_shop_tells_a_part_by_a_refund_and_the_order_and_the_whole_by_its_own_topic() -> None:
    async with running(ShopifyEmulator) as run:
        placed = await run.post("order", sku=SKU, quantity=2, location="WH1")
        await run.post("cancel", order=placed["order"], quantity=1)
        await run.post("cancel", order=placed["order"])
    told = [topic for topic in run.hub.topics if not topic.startswith("inventory_levels")]
    assert told == ["orders/create", "refunds/create", "orders/updated", "orders/cancelled", "orders/updated"]
    assert int(placed["order"]) > 2**53
    assert all(line.item.startswith("variant/") for line in run.hub.lines())


async def test_the_generic_sender_acknowledges_its_own_orders_before_the_level_that_contains_them() -> None:
    async with running(StandardEmulator) as run:
        placed = await run.post("order", sku=SKU, quantity=3, location="WH1")
        await run.post("cancel", order=placed["order"], quantity=1)
    acks = run.hub.acks()
    assert [ack.quantity for ack in acks] == [3, -1]
    assert len({ack.key for ack in acks}) == 2
    versions = [event.version for event in run.hub.events if isinstance(event, Ack | Level)]
    numbers = [version.number for version in versions if version is not None]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 4


async def test_the_warehouse_acknowledges_by_its_allocations_and_takes_them_back() -> None:
    async with running(ShipHeroEmulator) as run:
        placed = await run.post("order", sku=SKU, quantity=3, location="WH1", reference="k7.1")
        await run.post("cancel", order=placed["order"], quantity=1)
        await run.post("cancel", order=placed["order"])
    first, ended, again, ended_again, canceled = run.hub.acks()
    assert [first.quantity, again.quantity] == [3, 2]
    assert (first.item, first.location, first.reference) == (SKU, run.emulator.locations[0], "k7.1")
    assert [ended.quantity, ended_again.quantity, canceled.quantity] == [None] * 3
    assert (ended.batch, ended_again.batch, canceled.batch) == (first.batch, again.batch, None)
    assert {ack.order for ack in run.hub.acks()} == {"k7.1"}
    assert Tickle(item=SKU, location=run.emulator.locations[0]) in run.hub.events


async def test_an_allocation_moves_nothing_between_bins() -> None:
    async with running(ShipHeroEmulator) as run:
        for _ in range(10):
            await run.post("order", sku=SKU, quantity=1, location="WH1")
    assert set(run.hub.topics) == {"Order Allocated", "Inventory Update"}


@pytest.mark.parametrize("kind", SELLERS)
async def test_random_orders_add_up(kind: type[Emulator], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated_orders, "SETTLED_US", 0)
    async with running(kind, orders=1.0, rate=400, paused=False) as run:

        def enough_has_happened() -> bool:
            orders = run.emulator.orders.truth().values()
            return len(orders) >= 25 and any(order["quantity"] < order["ordered"] for order in orders)

        await eventually(enough_has_happened)
        await run.post("pause")

        async def nothing_is_pending() -> bool:
            return not (await run.truth())["pending"]

        await eventually(nothing_is_pending)
        truth = await run.truth()
    open_units: dict[str, int] = defaultdict(int)
    for line in run.hub.lines():
        open_units[line.order] = min(line.quantity, open_units.get(line.order, line.quantity))
    assert open_units == {name: order["quantity"] for name, order in truth["orders"].items()}
    told = {(item, place): level for item, held in truth["levels"].items() for place, level in held.items()}
    assert run.hub.levels() == told
    assert min(told.values()) >= 0


@pytest.mark.parametrize("kind", PLATFORMS)
async def test_without_a_share_of_orders_there_are_none(kind: type[Emulator]) -> None:
    async with running(kind, rate=400, paused=False) as run:
        await eventually(lambda: len(run.hub.events) >= 30)
        truth = await run.truth()
    assert truth["orders"] == {}
    assert run.hub.lines() == []


async def test_only_so_many_orders_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated_orders, "ORDERS_MAX", 2)
    async with running(StandardEmulator) as run:
        names = [(await run.post("order", sku=SKU, quantity=1, location="WH1"))["order"] for _ in range(3)]
        assert "error" in await run.post("cancel", order=names[0])
        assert list((await run.truth())["orders"]) == names[1:]


def test_the_share_of_orders_is_given_on_the_command_line_and_is_none_by_itself() -> None:
    needed = ["--hook-url", "http://127.0.0.1:9/", "--credential", "signing_secret=s"]
    assert _read_arguments(StandardEmulator, needed)[1].orders == 0
    assert _read_arguments(StandardEmulator, [*needed, "--orders", "0.25"])[1].orders == 0.25


@pytest.mark.parametrize("kind", SELLERS)
async def test_random_orders_that_ship_elsewhere_name_no_place_are_not_acknowledged_and_never_end_whole(
    kind: type[Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulated_orders, "SETTLED_US", 0)
    async with running(kind, orders=1.0, rate=400, paused=False, ships_elsewhere=True) as run:

        def enough_has_happened() -> bool:
            orders = run.emulator.orders.truth().values()
            return len(orders) >= 25 and any(order["quantity"] < order["ordered"] for order in orders)

        await eventually(enough_has_happened)
        await run.post("pause")
        orders = run.emulator.orders.truth().values()
        await eventually(lambda: len(run.hub.lines()) >= len(orders))
    assert {line.location for line in run.hub.lines()} == {None}
    assert run.hub.acks() == []
    assert min(order["quantity"] for order in orders) >= 1


async def test_changed_orders_are_told_since_a_moment_and_each_once() -> None:
    async def changed(run: Run, after: int) -> dict[str, Any]:
        async with run.client.get(f"/_emulator/orders?after={after}") as answer:
            return dict(await answer.json())

    async with running(StandardEmulator) as run:
        await run.stock(10)
        first = (await run.post("order", sku=SKU, quantity=3, location="WH1"))["order"]
        second = (await run.post("order", sku=SKU, quantity=1, location="WH1"))["order"]
        told = await changed(run, 0)
        assert (told["upto"], list(told["orders"])) == (2, [first, second])
        await run.post("cancel", order=first, quantity=1)
        told = await changed(run, told["upto"])
        assert (told["upto"], list(told["orders"])) == (3, [first])
        assert (told["orders"][first]["ordered"], told["orders"][first]["quantity"]) == (3, 2)
        assert (await changed(run, told["upto"]))["orders"] == {}
