"""What a ShipHero delivery says about stock.

The surprising fact: ``inventory`` already contains ``sell_ahead``, units that
may be sold before they arrive. They are taken out again, so that a level never
promises what the warehouse does not hold. ``orders.py`` reads what is about orders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connectors.shiphero import orders
from connectors.shiphero.payloads import InventoryChange, InventoryUpdate
from synchub.connector_kit.events import Level, LevelStatus, StockEvent, Tickle
from synchub.connector_kit.payloads import identifier, parse, quantity, read_json
from synchub.errors import PayloadRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectors.shiphero.payloads import InventoryRow
    from synchub.connector_kit.delivery import Delivery


def normalize(topic: str, delivery: Delivery) -> tuple[StockEvent, ...]:
    """Return the events of one delivery, in its order.

    Raises:
        PayloadRefused: another topic, or a body that is not of the documented form.
    """
    reader = _READERS.get(topic)
    if reader is None:
        msg = "The webhook is not one that this connector reads."
        raise PayloadRefused(msg)
    return reader(read_json(delivery.body))


def level(item: object, warehouse: object, *, plus: tuple[object, ...], minus: tuple[object, ...]) -> Level:
    """Return the level of one SKU in one warehouse: the sum of ``plus`` less the sum of ``minus``.

    A single null among the numbers makes the whole level unknown.

    Raises:
        PayloadRefused: an identifier or a quantity that cannot be one.
    """
    sku, location = identifier(item, "sku"), identifier(warehouse, "warehouse_id")
    if None in (*plus, *minus):
        return Level(item=sku, location=location, quantity=None, status=LevelStatus.UNKNOWN)
    available = sum(quantity(number, "a quantity") for number in plus)
    available -= sum(quantity(number, "a quantity") for number in minus)
    return Level(item=sku, location=location, quantity=quantity(available, "the available quantity"))


def _inventory_update(body: object) -> tuple[StockEvent, ...]:
    return tuple(_row_level(row) for row in parse(InventoryUpdate, body).inventory)


def _row_level(row: InventoryRow) -> Level:
    here = row.updated_warehouse
    return level(row.sku, here.warehouse_id, plus=(here.inventory,), minus=(here.sell_ahead,))


def _inventory_change(body: object) -> tuple[StockEvent, ...]:
    """Ask for a read: bins count units on hand, and the bin may be one that is not for sale."""
    change = parse(InventoryChange, body)
    item, location = identifier(change.sku, "sku"), identifier(change.warehouse_id, "warehouse_id")
    return (Tickle(item=item, location=location),)


_READERS: Final[dict[str, Callable[[object], tuple[StockEvent, ...]]]] = {
    "Inventory Update": _inventory_update,
    "Inventory Change": _inventory_change,
    "Order Allocated": orders.allocated,
    "Order Deallocated": orders.deallocated,
    "Order Canceled": orders.canceled,
    "Shipment Update": orders.shipped,
}
