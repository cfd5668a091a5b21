"""The way from whoever sells to the warehouse that ships: everything once, whatever gets lost on it."""

from __future__ import annotations

from typing import Final

import pytest

from synchub.demo.model import Order
from synchub.demo.orders import OrderDesk

SKU: Final = "TEE-0001"


class Platform:
    """Keeps orders and tells changed ones, as an emulator does."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.loses = 0
        """Answers that will get lost after their effect."""
        self._changed: list[str] = []

    def has(self, name: str, ordered: int, units: int, reference: str = "") -> None:
        """Take or change an order."""
        self.orders[name] = Order(
            name=name, sku=SKU, ordered=ordered, units=units, reference=reference, at_us=1
        )
        self._changed.append(name)

    async def changed_orders(self) -> list[Order]:
        changed, self._changed = self._changed, []
        return [self.orders[name] for name in dict.fromkeys(changed)]

    async def order(self, sku: str, units: int, reference: str) -> None:
        assert sku == SKU
        self.has(f"W{len(self.orders)}", units, units, reference)
        self._answer()

    async def cancel(self, name: str, units: int) -> None:
        order = self.orders[name]
        self.has(name, order.ordered, order.units - units, order.reference)
        self._answer()

    def _answer(self) -> None:
        if self.loses:
            self.loses -= 1
            raise TimeoutError

    def shipped(self) -> dict[str, tuple[int, int]]:
        """Ordered and open units by the name under which they were sold."""
        return {order.reference: (order.ordered, order.units) for order in self.orders.values()}


@pytest.fixture
def shop() -> Platform:
    return Platform()


@pytest.fixture
def warehouse() -> Platform:
    return Platform()


@pytest.fixture
def desk(shop: Platform, warehouse: Platform) -> OrderDesk:
    return OrderDesk([shop], warehouse)  # type: ignore[list-item, arg-type]  # only what it calls


async def test_an_order_of_a_channel_is_shipped_once(
    desk: OrderDesk, shop: Platform, warehouse: Platform
) -> None:
    shop.has("1001", 2, 2)
    await desk.pass_on()
    await desk.pass_on()
    assert warehouse.shipped() == {"1001": (2, 2)}
    assert (desk.is_done, desk.taken) == (True, 1)


async def test_a_cancellation_follows_its_order(desk: OrderDesk, shop: Platform, warehouse: Platform) -> None:
    shop.has("1001", 3, 3)
    await desk.pass_on()
    shop.has("1001", 3, 1)
    await desk.pass_on()
    assert warehouse.shipped() == {"1001": (3, 1)}


async def test_an_order_that_was_cancelled_before_it_was_passed_on_is_passed_on_whole(
    desk: OrderDesk, shop: Platform, warehouse: Platform
) -> None:
    shop.has("1001", 3, 0)
    await desk.pass_on()
    assert warehouse.shipped() == {"1001": (3, 0)}


async def test_an_order_whose_answer_was_lost_is_not_placed_twice(
    desk: OrderDesk, shop: Platform, warehouse: Platform
) -> None:
    shop.has("1001", 3, 3)
    warehouse.loses = 1
    with pytest.raises(TimeoutError):
        await desk.pass_on()
    assert not desk.is_done
    await desk.pass_on()
    assert (warehouse.shipped(), desk.is_done) == ({"1001": (3, 3)}, True)


async def test_what_the_agent_bought_is_shipped_under_its_reservation(
    desk: OrderDesk, warehouse: Platform
) -> None:
    desk.sell("k7.1", SKU, 2, 1)
    assert not desk.is_done
    await desk.pass_on()
    assert (warehouse.shipped(), desk.is_done, desk.taken) == ({"k7.1": (2, 2)}, True, 0)


async def test_what_channels_sold_is_told_to_whoever_measures(desk: OrderDesk, shop: Platform) -> None:
    shop.has("1001", 2, 2)
    await desk.pass_on()
    assert [one.sku for one in desk.traded()] == [SKU]
    assert desk.traded() == []
