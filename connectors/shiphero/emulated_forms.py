"""The forms in which the emulated ShipHero speaks: parts of deliveries and of GraphQL answers.

Deliveries write three of their numbers as text and leave out what is allocated.
"""

from __future__ import annotations

import base64
import time
import uuid
import zlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synchub.connector_kit.emulation import Change, Order

ACCOUNT: Final = 63898
_AS_TEXT: Final = frozenset({"inventory", "backorder_quantity", "on_hand"})


def envelope(webhook_type: str) -> dict[str, Any]:
    """Return what every delivery begins with."""
    return {
        "webhook_type": webhook_type,
        "account_id": ACCOUNT,
        "account_uuid": uuid_of("Account", str(ACCOUNT)),
    }


def numbers(sku: str, available: int, ordered: int = 0) -> dict[str, int]:
    """Return ShipHero's numbers of one warehouse such that on_hand - allocated - reserve is the level.

    ``ordered`` units are allocated to orders besides those that always are.
    """
    kind = zlib.crc32(sku.encode())
    allocated, reserve, sell_ahead = kind % 4 + ordered, 5 * (kind % 3 == 0), 10 * (kind % 5 == 0)
    return {
        "inventory": available + sell_ahead,
        "backorder_quantity": 0,
        "on_hand": available + allocated + reserve,
        "allocated": allocated,
        "sell_ahead": sell_ahead,
        "qty_in_totes": 0,
        "reserve": reserve,
        "non_sellable": kind % 2,
    }


def pushed(counted: Mapping[str, int]) -> dict[str, Any]:
    """Return the numbers as a delivery writes them: three as text, and allocated left out."""
    return {
        name: str(number) if name in _AS_TEXT else number
        for name, number in counted.items()
        if name != "allocated"
    }


def inventory_change(change: Change, ordered: int = 0) -> dict[str, Any]:
    """Return the delivery about a movement of one bin, here the only one of its warehouse."""
    before = numbers(change.sku, change.previous, ordered)["on_hand"]
    after = numbers(change.sku, change.quantity, ordered)["on_hand"]
    return {
        **envelope("Inventory Change"),
        "warehouse_id": int(change.location),
        "warehouse_uuid": uuid_of("Warehouse", change.location),
        "user_id": 1,
        "user_uuid": uuid_of("User", "1"),
        "sku": change.sku,
        "quantity": after,
        "old_quantity": before,
        "previous_on_hand": before,
        "location_name": "A-01",
        "timestamp": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(change.at_us // 1_000_000)),
        "reason": "cycle count",
        "source": "manual",
        "lot_id": None,
        "lot_expiration": None,
    }


def node(sku: str, location: str, available: int, ordered: int = 0) -> dict[str, Any]:
    """Return one row of a GraphQL answer."""
    counted = numbers(sku, available, ordered)
    return {
        "sku": sku,
        "on_hand": counted["on_hand"],
        "allocated": counted["allocated"],
        "reserve_inventory": counted["reserve"],
        "warehouse": {"legacy_id": int(location)},
    }


def order_allocated(order: Order, batch: int) -> dict[str, Any]:
    """Return the delivery about an order's open units, set aside in its warehouse."""
    line = {
        "id": order.number,
        "item_uuid": uuid_of("LineItem", str(order.number)),
        # Whoever gave the order its name has said nothing of lines: it has one only.
        "partner_line_item_id": None if order.reference else f"{partner_order_id(order)}-1",
        "quantity": order.quantity,
        "sku": order.sku,
        "is_kit_component": False,
        "created_at": _seconds(order.placed_at_us),
    }
    return {
        **envelope("Order Allocated"),
        "allocation_reference": batch,
        "warehouse_id": int(order.location),
        "warehouse_uuid": uuid_of("Warehouse", order.location),
        "allocated_at": _seconds(order.changed_at_us),
        **_named(order),
        "line_items": [line],
        "ready_to_ship": 1,
    }


def order_deallocated(order: Order, batch: int) -> dict[str, Any]:
    """Return the delivery about an allocation that no longer holds: it names no line."""
    moment = {"allocation_reference": batch, "deallocated_at": _seconds(order.changed_at_us)}
    return {**envelope("Order Deallocated"), **moment, **_named(order)}


def order_canceled(order: Order) -> dict[str, Any]:
    """Return the delivery about an order that is not shipped: it names no line either."""
    number = partner_order_id(order)
    state = {"fulfillment-status": "canceled", "shop_name": "example", "shop_order_number": number}
    return {"webhook_type": "Order Canceled", **state, **_named(order)}


def partner_order_id(order: Order) -> str:
    """Return what the shop calls the order."""
    return order.reference or f"SHOP-{order.number}"


def _named(order: Order) -> dict[str, Any]:
    number = partner_order_id(order)
    return {
        "order_number": number,
        "order_id": order.number,
        "order_uuid": uuid_of("Order", str(order.number)),
        "partner_order_id": number,
    }


def _seconds(at_us: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_us // 1_000_000))


def no_credits(*, wanted: int, left: int, seconds: int) -> dict[str, Any]:
    """Return the error that a GraphQL answer holds when the bucket has run dry."""
    return {
        "message": f"There are not enough credits to perform the requested operation, which requires {wanted}"
        f" credits, but there are only {left} left. In {seconds} seconds you will have enough.",
        "code": 30,
        "operation": "warehouse_products",
        "request_id": uuid.uuid4().hex[:24],
        "required_credits": wanted,
        "remaining_credits": left,
        "time_remaining": f"{seconds} seconds",
    }


def uuid_of(kind: str, number: str) -> str:
    """Return what ShipHero calls a uuid: the kind and the number in base64."""
    return base64.b64encode(f"{kind}:{number}".encode()).decode()
