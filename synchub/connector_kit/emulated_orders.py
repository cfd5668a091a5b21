"""Orders of an emulated platform: placed and cancelled on demand or at random, told by webhooks.

An order takes its units off the emulator's own level at once, below zero if need be: it
has been sold. What is told, and when the level follows, is the platform's own matter.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import web

from synchub.connector_kit.emulated_sender import WITHHELD

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Mapping

    from synchub.connector_kit.emulated_sender import Outgoing

ORDERS_MAX: Final = 10_000
"""Latest orders kept; older ones can no longer be cancelled."""

CANCEL_EACH: Final = 5
"""Of the random orders every fifth is a cancellation, as far as there is something to cancel."""

SETTLED_US: Final = 2_000_000
"""A younger order is not cancelled at random: times that stop at the second could not tell the two."""

UNITS_MAX: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order of one line, as it is now."""

    number: int
    """Unique over restarts, about 2^51."""
    item: str
    sku: str
    location: str
    """Where its units lie."""
    is_located: bool
    """Whether the order itself says so."""
    ordered: int
    reference: str
    placed_at_us: int
    cancellations: tuple[tuple[int, int], ...] = ()
    """Units and time of each."""

    @property
    def quantity(self) -> int:
        """Open units."""
        return self.ordered - sum(units for units, _ in self.cancellations)

    @property
    def changed_at_us(self) -> int:
        """When it came into its present state."""
        return self.cancellations[-1][1] if self.cancellations else self.placed_at_us


class Platform(Protocol):
    """What the orders need of their emulator."""

    skus: dict[str, str]
    levels: dict[str, dict[str, int]]
    locations: list[str]
    chance: random.Random

    def find(self, sku: str, location: str) -> tuple[str, str] | None:
        """Return item and location by a SKU and a location's name."""

    def set_level(
        self, item: str, location: str, quantity: int, *, by_order: bool
    ) -> list[asyncio.Future[int]]:
        """Change one level and tell it."""

    def send(self, outgoing: Outgoing) -> asyncio.Future[int]:
        """Post one webhook."""

    def order_id(self, order: Order) -> str:
        """Return the platform's id of an order."""

    def placed_deliveries(self, order: Order) -> list[Outgoing]:
        """Return the webhooks that tell a new order."""

    def cancelled_deliveries(self, order: Order) -> list[Outgoing]:
        """Return the webhooks that tell the latest cancellation of an order."""


class OrderBook:
    """The orders of one emulator."""

    def __init__(self, platform: Platform, *, ships_itself: bool = True) -> None:
        """``ships_itself``: whether the units of random orders lie here."""
        self._platform = platform
        self._ships_itself = ships_itself
        self._changed: OrderedDict[str, int] = OrderedDict()
        """Orders by the number of their latest change, the oldest first."""
        self._changes = 0
        self._orders: OrderedDict[str, Order] = OrderedDict()
        self._next = time.time_ns() // 1000

    def place(
        self, item: str, location: str, quantity: int, *, reference: str = "", is_located: bool = True
    ) -> tuple[Order, list[asyncio.Future[int]]]:
        """Take units off the level and tell the order, then the level."""
        self._next += 1
        order = Order(
            number=self._next,
            item=item,
            sku=self._platform.skus[item],
            location=location,
            is_located=is_located,
            ordered=quantity,
            reference=reference,
            placed_at_us=time.time_ns() // 1000,
        )
        self._keep(order)
        return order, self._tell(order, self._platform.placed_deliveries(order), -quantity)

    def cancel(self, order: Order, units: int) -> tuple[Order, list[asyncio.Future[int]]]:
        """Give units back to the level and tell the order, then the level."""
        now_us = time.time_ns() // 1000
        order = replace(order, cancellations=(*order.cancellations, (units, now_us)))
        self._keep(order)
        return order, self._tell(order, self._platform.cancelled_deliveries(order), units)

    def change_at_random(self) -> None:
        """Place an order, or cancel one."""
        chance = self._platform.chance
        if chance.randrange(CANCEL_EACH) == 0:
            old_us = time.time_ns() // 1000 - SETTLED_US
            # What another system ships may have left already: something of it stays ordered.
            kept = 0 if self._ships_itself else 1
            open_ones = [
                one for one in self._orders.values() if one.quantity > kept and one.changed_at_us < old_us
            ]
            if open_ones:
                order = chance.choice(open_ones)
                self.cancel(order, chance.randint(1, order.quantity - kept))
                return
        item, location = chance.choice(list(self._platform.skus)), chance.choice(self._platform.locations)
        here = self._platform.levels[item][location]
        if here > 0:
            units = chance.randint(1, min(UNITS_MAX, here))
            self.place(item, location, units, is_located=self._ships_itself)

    def add_routes(self, app: web.Application) -> None:
        """Add the control routes."""
        app.router.add_get("/_emulator/orders", self._changed_since)
        app.router.add_post("/_emulator/order", self._place_on_demand)
        app.router.add_post("/_emulator/cancel", self._cancel_on_demand)

    def kept(self) -> dict[str, Order]:
        """Return the kept orders by the platform's ids."""
        return dict(self._orders)

    def truth(self) -> dict[str, dict[str, Any]]:
        """Return the kept orders by the platform's ids."""
        return {name: _shown(order) for name, order in self._orders.items()}

    def _keep(self, order: Order) -> None:
        name = self._platform.order_id(order)
        self._orders[name] = order
        self._changes += 1
        self._changed[name] = self._changes
        self._changed.move_to_end(name)
        while len(self._orders) > ORDERS_MAX:
            gone, _ = self._orders.popitem(last=False)
            del self._changed[gone]

    async def _changed_since(self, request: web.Request) -> web.Response:
        after = int(request.query.get("after", "0"))
        names = list(takewhile(lambda name: self._changed[name] > after, reversed(self._changed)))
        changed = {name: _shown(self._orders[name]) for name in reversed(names)}
        return web.json_response({"upto": self._changes, "orders": changed})

    def _tell(self, order: Order, deliveries: list[Outgoing], change: int) -> list[asyncio.Future[int]]:
        answers = [self._platform.send(outgoing) for outgoing in deliveries]
        here = self._platform.levels[order.item][order.location]
        told = self._platform.set_level(order.item, order.location, here + change, by_order=True)
        return [*answers, *told]

    def _shelf(self, wish: Mapping[str, Any], quantity: int) -> tuple[str, str] | None:
        """Return where an order's units come from: where it says, or the first place with enough."""
        if wish.get("location"):
            return self._platform.find(str(wish["sku"]), str(wish["location"]))
        places = self._platform.locations
        found = self._platform.find(str(wish["sku"]), places[0])
        if found is None:
            return None
        held = self._platform.levels[found[0]]
        return found[0], next((place for place in places if held[place] >= quantity), places[0])

    async def _place_on_demand(self, request: web.Request) -> web.Response:
        wish = await request.json()
        quantity = int(wish["quantity"])
        shelf = self._shelf(wish, quantity)
        if shelf is None or quantity < 1:
            return web.json_response({"error": "no such SKU or location here, or no units"}, status=404)
        reference, is_located = str(wish.get("reference") or ""), bool(wish.get("location"))
        order, answers = self.place(*shelf, quantity, reference=reference, is_located=is_located)
        name = self._platform.order_id(order)
        return web.json_response({"order": name, "location": order.location, "status": await _worst(answers)})

    async def _cancel_on_demand(self, request: web.Request) -> web.Response:
        wish = await request.json()
        order = self._orders.get(str(wish["order"]))
        units = int(wish.get("quantity") or (order.quantity if order else 0))
        if order is None or not 1 <= units <= order.quantity:
            return web.json_response({"error": "no such order here, or fewer units are open"}, status=404)
        order, answers = self.cancel(order, units)
        return web.json_response({"quantity": order.quantity, "status": await _worst(answers)})


def _shown(order: Order) -> dict[str, Any]:
    return {
        "sku": order.sku,
        "location": order.location,
        "ordered": order.ordered,
        "quantity": order.quantity,
        "reference": order.reference,
        "at_us": order.changed_at_us,
    }


async def _worst(answers: list[asyncio.Future[int]]) -> int:
    statuses: Awaitable[list[int]] = asyncio.gather(*answers)
    return max(await statuses, default=WITHHELD)
