"""What an order says about its lines: how many units of a variant each of them takes now.

The surprising facts: every topic about an order but two carries the whole order, so any of
them states all lines anew; and ``current_quantity`` falls with a return or a mere refund of
money too, while the unit stays sold. What is open is therefore counted from the order's refunds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connectors.shopify.payloads import OrderBody
from synchub.connector_kit.events import OrderLine, OrderStatus
from synchub.connector_kit.payloads import identifier, latest_us, parse, time_us
from synchub.errors import PayloadRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from connectors.shopify.payloads import LineItem
    from synchub.connector_kit.events import StockEvent, Version

RESERVATION: Final = "synchub_reservation"
"""The note attribute, line property or beginning of a tag that holds a reservation's id."""

# An attribute that begins with an underscore is not shown to buyers.
NAMES: Final = (RESERVATION, f"_{RESERVATION}")

REFERENCES_MAX: Final = 16
"""Buyers can write note attributes; names beyond so many are not believed."""

NOT_SHIPPED: Final = frozenset({"cancelled", "error", "failure"})
POINT_OF_SALE: Final = "pos"
CANCELLED_UNITS: Final = "cancel"
"""The one way of restocking that means that the unit never left."""


def lines_of(content: Mapping[str, object], version_of: Callable[[str], Version]) -> tuple[StockEvent, ...]:
    """Return the state of each line that is sold from a variant; none for a test order.

    Raises:
        PayloadRefused: not an order of the documented form.
    """
    order = parse(OrderBody, content)
    version, happened_us = version_of(order.updated_at), latest_us(order.updated_at, "updated_at")
    ordered_us = time_us(order.processed_at or order.created_at, "processed_at")
    if order.test:
        return ()
    common = _references(order)
    return tuple(
        OrderLine(
            order=str(order.id),
            line=str(line.id),
            item=variant_item(str(line.variant_id)),
            location=_location(order),
            quantity=_open(order, line),
            status=_status(order, line),
            ordered_at_us=ordered_us,
            happened_at_us=happened_us,
            references=_usable([*common, *_named(line.properties)]),
            version=version,
        )
        for line in order.line_items
        if line.variant_id is not None
    )


def variant_item(variant: str) -> str:
    """Return the item that an order's line speaks of: a variant, not the inventory item behind it."""
    return f"variant/{variant}"


def _open(order: OrderBody, line: LineItem) -> int:
    """Return the units that are sold: after a cancellation only those that had left before it."""
    if order.cancelled_at is not None:
        return min(line.quantity, _shipped(order, line))
    cancelled = sum(
        row.quantity
        for refund in order.refunds
        for row in refund.refund_line_items
        if row.line_item_id == line.id and row.restock_type == CANCELLED_UNITS
    )
    return max(0, line.quantity - cancelled)


def _shipped(order: OrderBody, line: LineItem) -> int:
    return sum(
        row.quantity
        for fulfillment in order.fulfillments
        if fulfillment.status not in NOT_SHIPPED
        for row in fulfillment.line_items
        if row.id == line.id
    )


def _status(order: OrderBody, line: LineItem) -> OrderStatus:
    if order.cancelled_at is not None and not _shipped(order, line):
        return OrderStatus.CANCELLED
    return OrderStatus.PLACED


def _location(order: OrderBody) -> str | None:
    # Elsewhere than at a till the location of an order is not where its units lie.
    at_till = order.source_name == POINT_OF_SALE and order.location_id is not None
    return str(order.location_id) if at_till else None


def _references(order: OrderBody) -> list[str]:
    tags = (tag.strip() for tag in (order.tags or "").split(","))
    tagged = [tag.removeprefix(f"{RESERVATION}:") for tag in tags if tag.startswith(f"{RESERVATION}:")]
    return [*_named(order.note_attributes), *tagged]


def _named(attributes: object) -> list[str]:
    """Return the reservations among attributes, whatever else shops and buyers have put there."""
    rows = attributes if isinstance(attributes, list) else []
    found = [row.get("value") for row in rows if isinstance(row, dict) and row.get("name") in NAMES]
    return [name for value in found if isinstance(value, str) for name in value.replace(",", " ").split()]


def _usable(names: Iterable[str]) -> tuple[str, ...]:
    """Leave out what cannot be a name: nobody may keep an order from counting by a bad attribute."""
    usable: dict[str, None] = {}
    for name in names:
        try:
            usable[identifier(name, "reference")] = None
        except PayloadRefused:
            continue
    return tuple(usable)[:REFERENCES_MAX]
