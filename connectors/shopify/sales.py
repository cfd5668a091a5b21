"""Orders as a search finds them, written as their webhooks write them.

The surprising fact: an order is read by one code whether it came by webhook or by search. So the
search's answer is put into the webhook's words first, and nothing is decided here. Few orders have
more lines or refunds than a search shows at once; the rest of those is asked for one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from connectors.shopify.addresses import number_of
from connectors.shopify.answers import OrderedLine, PartsOf, PartsOfOrder, RefundedUnits, ShippedUnits
from connectors.shopify.queries import (
    ORDER_LINES_QUERY,
    ORDER_PARTS_QUERY,
    PARTS_MAX,
    REFUND_LINES_QUERY,
    REFUNDS_SHOWN,
    SHIPMENT_LINES_QUERY,
    lines_cost,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from connectors.shopify.answers import Attribute, ChangedOrder, NodeT, OrderParts
    from connectors.shopify.graphql import Shop

LINES_A_PAGE: Final = 250
PAGES_MAX: Final = 40
"""Further answers about the lines of one order, refund or shipment: 10 000 lines."""


class Sales:
    """The orders of one shop."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    async def whole(self, order: ChangedOrder) -> dict[str, Any] | None:
        """Return an order with all its lines, as a webhook writes it; raises as the shop's query does.

        ``None``: it has been deleted meanwhile.
        """
        lines: Sequence[OrderedLine] = order.lines.nodes
        if (after := order.lines.following(None)) is not None:
            rest = await self._all(ORDER_LINES_QUERY, order.id, PartsOf[OrderedLine], after)
            lines = [*lines, *rest]
        if not _needs_parts(order):
            refunds = [_refund(refund.lines.nodes) for refund in order.refunds]
            return _written(order, lines, refunds, [])
        parts = await self._parts(order)
        if parts is None:
            return None
        refunds = [await self._refunded(refund.id) for refund in parts.refunds]
        shipments = await self._shipments(parts) if order.cancelled_at else []
        return _written(order, lines, refunds, shipments)

    async def _parts(self, order: ChangedOrder) -> OrderParts | None:
        cost = 1 + 2 * PARTS_MAX
        answer = await self._shop.query(ORDER_PARTS_QUERY, {"id": order.id}, PartsOfOrder, cost=cost)
        return answer.node

    async def _refunded(self, refund: str) -> dict[str, Any]:
        return _refund(await self._all(REFUND_LINES_QUERY, refund, PartsOf[RefundedUnits]))

    async def _shipments(self, parts: OrderParts) -> list[dict[str, Any]]:
        return [
            _shipment(
                shipment.status,
                await self._all(SHIPMENT_LINES_QUERY, shipment.id, PartsOf[ShippedUnits]),
            )
            for shipment in parts.fulfillments
        ]

    async def _all(
        self, query: str, whole: str, model: type[PartsOf[NodeT]], after: str | None = None
    ) -> list[NodeT]:
        """Return all parts of something from a position on; none when it has been deleted."""
        parts: list[NodeT] = []
        for _ in range(PAGES_MAX):
            variables = {"id": whole, "first": LINES_A_PAGE, "after": after}
            answer = await self._shop.query(query, variables, model, cost=lines_cost(LINES_A_PAGE))
            if answer.node is None:
                break
            parts += answer.node.parts.nodes
            after = answer.node.parts.following(after)
            if after is None:
                break
        return parts


def _needs_parts(order: ChangedOrder) -> bool:
    """Whether more is to be asked: the list of refunds does not say that it is cut off."""
    cut_off = len(order.refunds) >= REFUNDS_SHOWN
    cut_off = cut_off or any(refund.lines.page_info.has_next_page for refund in order.refunds)
    # What had left before a cancellation stands in the shipments.
    return cut_off or order.cancelled_at is not None


def _written(
    order: ChangedOrder,
    lines: Iterable[OrderedLine],
    refunds: list[dict[str, Any]],
    shipments: list[dict[str, Any]],
) -> dict[str, Any]:
    place = order.retail_location
    return {
        "id": _number(order.id),
        "test": order.test,
        "created_at": order.created_at,
        "updated_at": order.updated_at,
        "processed_at": order.processed_at,
        "cancelled_at": order.cancelled_at,
        "source_name": order.source_name,
        "location_id": _number(place.id) if place else None,
        "tags": ", ".join(order.tags),
        "note_attributes": _attributes(order.attributes),
        "line_items": [_line(line) for line in lines],
        "refunds": refunds,
        "fulfillments": shipments,
    }


def _line(line: OrderedLine) -> dict[str, Any]:
    return {
        "id": _number(line.id),
        "variant_id": _number(line.variant.id) if line.variant else None,
        "quantity": line.quantity,
        "properties": _attributes(line.attributes),
    }


def _refund(rows: Iterable[RefundedUnits]) -> dict[str, Any]:
    lines = [
        {
            "line_item_id": _number(row.line.id),
            "quantity": row.quantity,
            "restock_type": row.restock_type.lower(),
        }
        for row in rows
    ]
    return {"refund_line_items": lines}


def _shipment(status: str, rows: Iterable[ShippedUnits]) -> dict[str, Any]:
    lines = [{"id": _number(row.line.id), "quantity": row.quantity} for row in rows]
    return {"status": status.lower(), "line_items": lines}


def _attributes(attributes: Iterable[Attribute]) -> list[dict[str, Any]]:
    return [{"name": attribute.key, "value": attribute.value} for attribute in attributes]


def _number(global_id: str) -> int:
    return int(number_of(global_id))
