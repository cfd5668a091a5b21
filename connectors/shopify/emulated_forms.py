"""The forms in which the emulated shop speaks of orders, and how it writes times.

A cancellation of some units is a refund without money: that is how the order keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

from connectors.shopify.addresses import global_id
from connectors.shopify.orders import CANCELLED_UNITS, POINT_OF_SALE, RESERVATION

if TYPE_CHECKING:
    from synchub.connector_kit.emulation import Order

SHOP_ZONE: Final = timezone(timedelta(hours=-5))


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderIds:
    """The shop's numbers of an order and of what it names."""

    order: int
    line: int
    variant: int
    product: int
    location: int


def order_body(order: Order, ids: OrderIds) -> dict[str, Any]:
    """Return the order as it is now; only one made at a till says where its units lie."""
    cancelled = None if order.quantity else shop_time(order.changed_at_us)
    noted = [{"name": RESERVATION, "value": order.reference}] if order.reference else []
    return {
        "id": ids.order,
        "admin_graphql_api_id": global_id("Order", str(ids.order)),
        "cancel_reason": "customer" if cancelled else None,
        "cancelled_at": cancelled,
        "confirmed": True,
        "created_at": shop_time(order.placed_at_us),
        "currency": "EUR",
        "financial_status": "paid",
        "fulfillment_status": None,
        "location_id": ids.location if order.is_located else None,
        "name": f"#{order.number}",
        "note_attributes": noted,
        "processed_at": shop_time(order.placed_at_us),
        "source_name": POINT_OF_SALE if order.is_located else "web",
        "tags": "",
        "test": False,
        "updated_at": shop_time(order.changed_at_us),
        "fulfillments": [],
        "line_items": [_line(order, ids)],
        "refunds": [refund_body(order, ids, place) for place in range(len(order.cancellations))],
    }


def order_node(order: Order, ids: OrderIds) -> dict[str, Any]:
    """Return the order as GraphQL shows it; ``lines`` and ``refunds`` are whole, to be cut into pages."""
    noted = [{"key": RESERVATION, "value": order.reference}] if order.reference else []
    line = {
        "id": global_id("LineItem", str(ids.line)),
        "quantity": order.ordered,
        "variant": {"id": global_id("ProductVariant", str(ids.variant))},
        "customAttributes": [],
    }
    return {
        "id": global_id("Order", str(ids.order)),
        "test": False,
        "createdAt": utc_time(order.placed_at_us),
        "updatedAt": utc_time(order.changed_at_us),
        "processedAt": utc_time(order.placed_at_us),
        "cancelledAt": None if order.quantity else utc_time(order.changed_at_us),
        "sourceName": POINT_OF_SALE if order.is_located else "web",
        "tags": [],
        "retailLocation": {"id": global_id("Location", str(ids.location))} if order.is_located else None,
        "customAttributes": noted,
        "lines": [line],
        "refunds": [_refund_node(order, ids, place) for place in range(len(order.cancellations))],
    }


def _refund_node(order: Order, ids: OrderIds, place: int) -> dict[str, Any]:
    line = {"id": global_id("LineItem", str(ids.line))}
    units = {"quantity": order.cancellations[place][0], "restockType": "CANCEL", "lineItem": line}
    # Two digits more than its order's, so that it can be found again.
    return {"id": global_id("Refund", f"{ids.order}{place:02d}"), "lines": [units]}


def item_body(
    item: str, sku: str, at_us: int, *, tracked: bool = True, code: str | None = None
) -> dict[str, Any]:
    """Return an inventory item as its webhooks tell it."""
    return {
        "id": int(item),
        "sku": sku,
        "created_at": shop_time(at_us),
        "updated_at": shop_time(at_us),
        "requires_shipping": True,
        "cost": None,
        "country_code_of_origin": None,
        "province_code_of_origin": None,
        "harmonized_system_code": code,
        "tracked": tracked,
        "country_harmonized_system_codes": [],
        "admin_graphql_api_id": global_id("InventoryItem", item),
    }


def refund_body(order: Order, ids: OrderIds, place: int) -> dict[str, Any]:
    """Return the refund that one cancellation of units is kept as."""
    units, at_us = order.cancellations[place]
    row = {
        "id": ids.line + place,
        "line_item_id": ids.line,
        "location_id": ids.location,
        "quantity": units,
        "restock_type": CANCELLED_UNITS,
    }
    return {
        "id": ids.order + place,
        "order_id": ids.order,
        "created_at": shop_time(at_us),
        "refund_line_items": [row],
        "transactions": [],
    }


def utc_time(at_us: int) -> str:
    """Return a time as GraphQL writes it: to the second, in UTC."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shop_time(at_us: int) -> str:
    """Return a time as the webhooks write it: to the second, in the shop's own zone."""
    return datetime.fromtimestamp(at_us // 1_000_000, SHOP_ZONE).isoformat()


def triggered_at(at_us: int) -> str:
    """Return a time as the headers write it: UTC with nine fraction digits."""
    whole = datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{at_us % 1_000_000:06d}000Z"


def _line(order: Order, ids: OrderIds) -> dict[str, Any]:
    return {
        "id": ids.line,
        "admin_graphql_api_id": global_id("LineItem", str(ids.line)),
        "current_quantity": order.quantity,
        "fulfillable_quantity": order.quantity,
        "fulfillment_status": None,
        "gift_card": False,
        "product_exists": True,
        "product_id": ids.product,
        "properties": [],
        "quantity": order.ordered,
        "sku": order.sku,
        "variant_id": ids.variant,
        "variant_inventory_management": "shopify",
    }
