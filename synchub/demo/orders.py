"""Takes every sale to the warehouse that ships it, as a merchant's order system does.

The hub is told of a sale by whoever sold it, and by the warehouse once its level is without the units.
The two never talk to each other through the hub; this is the way between them.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import aiohttp

from synchub.demo.model import Order, Traded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.demo.emulators import Platform

EVERY_S: Final = 0.3
"""Real order systems take minutes; meanwhile the hub itself keeps the units off the number."""


class OrderDesk:
    """Compares what was sold with what the warehouse was told, and tells it the difference."""

    def __init__(self, channels: Sequence[Platform], warehouse: Platform) -> None:
        self.taken = 0
        """Orders that the channels took."""
        self._channels = channels
        self._warehouse = warehouse
        self._sold: dict[str, Order] = {}
        """Not yet at the warehouse as they should be, by the name that the warehouse is given."""
        self._shipments: dict[str, Order] = {}
        """At the warehouse, by the same name."""
        self._names: set[str] = set()
        self._traded: list[Traded] = []

    def is_shipped(self, name: str) -> bool:
        """Whether the warehouse has an order of that name."""
        return name in self._shipments

    @property
    def is_done(self) -> bool:
        """Whether the warehouse has been told of everything."""
        return not self._sold

    def sell(self, name: str, sku: str, units: int, at_us: int) -> None:
        """Take an order that the agent has placed."""
        self._sold[name] = Order(name=name, sku=sku, ordered=units, units=units, reference="", at_us=at_us)

    def traded(self) -> list[Traded]:
        """Return what the channels have sold or cancelled since the last call."""
        traded, self._traded = self._traded, []
        return traded

    async def run(self) -> None:
        """Pass orders on until cancelled; whatever is away for a moment is asked again."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                await self.pass_on()
            await asyncio.sleep(EVERY_S)

    async def pass_on(self) -> None:
        """Look at the channels once, and tell the warehouse what it does not know yet."""
        for channel in self._channels:
            for order in await channel.changed_orders():
                self.taken += order.name not in self._names
                self._names.add(order.name)
                self._sold[order.name] = order
                self._traded.append(Traded(sku=order.sku, at_us=order.at_us))
        for order in list(self._sold.values()):
            await self._tell(order)

    async def _tell(self, order: Order) -> None:
        # Looked at first: an order whose answer was lost is not placed twice.
        shipment = await self._shipment(order.name)
        if shipment is None:
            await self._warehouse.order(order.sku, order.ordered, order.name)
            shipment = await self._shipment(order.name)
        if shipment is not None and shipment.units > order.units:
            await self._warehouse.cancel(shipment.name, shipment.units - order.units)
        if shipment is not None and self._sold.get(order.name) is order:
            del self._sold[order.name]

    async def _shipment(self, name: str) -> Order | None:
        for order in await self._warehouse.changed_orders():
            self._shipments[order.reference] = order
        return self._shipments.get(name)
