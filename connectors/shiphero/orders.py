"""What ShipHero says about orders that somebody else has taken.

The surprising fact: shipping changes nothing. The level is what is on hand less what is
allocated, so a unit leaves it when an order is allocated, and only that acknowledges a sale;
a shipment takes the same unit off both numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.shiphero.payloads import OrderAllocated, OrderCanceled, OrderDeallocated, ShipmentUpdate
from synchub.connector_kit.events import Ack, Tickle
from synchub.connector_kit.payloads import identifier, parse, quantity
from synchub.errors import PayloadRefused

if TYPE_CHECKING:
    from connectors.shiphero.payloads import AllocatedLine
    from synchub.connector_kit.events import StockEvent


def allocated(body: object) -> tuple[StockEvent, ...]:
    """Acknowledge the units of each line, and ask for a read of each SKU.

    A level has no version, so only a read that begins later is sure to be without the units.
    """
    told = parse(OrderAllocated, body)
    acks = [_ack(line, told) for line in told.line_items]
    reads = dict.fromkeys(Tickle(item=ack.item or "", location=ack.location) for ack in acks)
    return (*acks, *reads)


def deallocated(body: object) -> tuple[StockEvent, ...]:
    """Take back what was acknowledged under the allocation."""
    told = parse(OrderDeallocated, body)
    batch, order = identifier(told.allocation_reference, "allocation_reference"), _order(told)
    return (Ack(quantity=None, order=order, reference=order, key=f"deallocated/{batch}", batch=batch),)


def canceled(body: object) -> tuple[StockEvent, ...]:
    """Take back whatever was acknowledged of the order: no unit of it will be taken any more."""
    told = parse(OrderCanceled, body)
    order, number = _order(told), identifier(told.order_id, "order_id")
    return (Ack(quantity=None, order=order, reference=order, key=f"canceled/{number}"),)


def shipped(body: object) -> tuple[StockEvent, ...]:
    """Say nothing: the units were off the level before."""
    parse(ShipmentUpdate, body)
    return ()


def _ack(line: AllocatedLine, told: OrderAllocated) -> Ack:
    order, batch = _order(told), identifier(told.allocation_reference, "allocation_reference")
    units = quantity(line.quantity, "line_items.quantity")
    if units < 0:
        msg = "line_items.quantity is less than nothing."
        raise PayloadRefused(msg)
    given = line.partner_line_item_id
    return Ack(
        item=identifier(line.sku, "line_items.sku"),
        quantity=units,
        location=identifier(told.warehouse_id, "warehouse_id"),
        order=order,
        line=None if _is_missing(given) else identifier(given, "partner_line_item_id"),
        reference=order,
        key=f"{batch}/{identifier(line.id, 'line_items.id')}",
        batch=batch,
    )


def _order(told: OrderAllocated | OrderDeallocated | OrderCanceled) -> str:
    """Return the shop's name of the order, or ShipHero's number of one that was made there."""
    given = told.partner_order_id
    return identifier(told.order_id if _is_missing(given) else given, "partner_order_id")


def _is_missing(given: object) -> bool:
    return given is None or (isinstance(given, str) and not given)
