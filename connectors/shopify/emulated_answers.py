"""What the emulated shop's API shows: items, levels and orders, searched and in pages.

As on the real one, a search compares times that stop at the second, and the end of a page is a
cursor of the platform's own, which it forgets when it is started anew.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from connectors.shopify import queries
from connectors.shopify.addresses import global_id
from connectors.shopify.emulated_forms import order_node, utc_time
from synchub.connector_kit.emulation import Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from connectors.shopify.emulated_forms import OrderIds
    from synchub.connector_kit.emulated_orders import OrderBook
    from synchub.connector_kit.emulation import Order

CURSOR_LIVES_S: Final = 3600.0

Shown: TypeAlias = tuple[dict[str, Any], int, int]
"""The data, what it could have cost, and what it costs."""

_SINCE = re.compile(r"updated_at:>='([^']+)'")


class GraphqlError(Exception):
    """An answer that is all errors."""

    def __init__(self, message: str, code: str = "BAD_REQUEST") -> None:
        super().__init__(message)
        self.code = code


class EmulatedShop(Protocol):
    """What the API shows."""

    skus: dict[str, str]
    levels: dict[str, dict[str, int]]
    locations: list[str]
    orders: OrderBook

    def changed_us(self, item: str, location: str) -> int:
        """Return when a level changed last."""

    def product_of(self, item: str) -> dict[str, Any]:
        """Return the variant of an item, with its product."""

    def item_of(self, variant: str) -> str:
        """Return the item of a variant."""

    def items_shown(self) -> dict[str, tuple[str, int]]:
        """Return SKU and time of change of every item, the canary's too."""

    def ids_of(self, order: Order) -> OrderIds:
        """Return the numbers of an order and of what it names."""

    def touch(self, item: str, code: str) -> bool:
        """Give an item another customs code, and tell; False: there is no such item."""


class Answers:
    """What is read of one shop."""

    def __init__(self, shop: EmulatedShop) -> None:
        self._shop = shop
        self._cursors = Tokens(live_s=CURSOR_LIVES_S)

    def levels(self, asked: Mapping[str, Any]) -> Shown:
        """Return what items have now, level by level."""
        ids, first = asked["ids"], asked["first"]
        nodes = [self._item(one.rpartition("/")[2], first, asked["after"]) for one in ids]
        shown = sum(len(node["inventoryLevels"]["nodes"]) for node in nodes if node)
        found = sum(1 for node in nodes if node)
        actual = found * (queries.ITEM + queries.CONNECTION) + shown * queries.LEVEL
        return {"nodes": nodes}, queries.levels_cost(len(ids), first), actual

    def _item(self, item: str, first: int, after: str | None) -> dict[str, Any] | None:
        if item not in self._shop.skus:
            return None
        rows = [(place, self._level(item, place) | _location_of(place)) for place in self._shop.locations]
        return self._item_head(item) | {"inventoryLevels": self.page(rows, first, after)}

    def _item_head(self, item: str) -> dict[str, Any]:
        return {
            "id": global_id("InventoryItem", item),
            "sku": self._shop.items_shown()[item][0],
            "tracked": item in self._shop.skus,
            "variants": {"nodes": [self._shop.product_of(item)]},
        }

    def _level(self, item: str, location: str) -> dict[str, Any]:
        return {
            "isActive": True,
            "updatedAt": utc_time(self._shop.changed_us(item, location)),
            "quantities": [{"name": "available", "quantity": self._shop.levels[item][location]}],
        }

    def variants(self, asked: Mapping[str, Any]) -> Shown:
        """Return which SKU variants are."""
        cost = len(asked["ids"]) * 2
        return {"nodes": [self._variant(one.rpartition("/")[2]) for one in asked["ids"]]}, cost, cost

    def _variant(self, variant: str) -> dict[str, Any] | None:
        item = self._shop.item_of(variant)
        sku = self._shop.skus.get(item)
        return None if sku is None else {**self._shop.product_of(item), "sku": sku}

    def items(self, asked: Mapping[str, Any]) -> Shown:
        """Return the items that changed."""
        since_us = _since_us(asked["query"])
        rows = [
            (item, self._item_head(item) | {"updatedAt": utc_time(at_us)})
            for item, (_, at_us) in sorted(self._shop.items_shown().items())
            if _second(at_us) >= since_us
        ]
        page = self.page(rows, asked["first"], asked["after"])
        actual = queries.items_cost(len(page["nodes"]))
        return {"inventoryItems": page}, queries.items_cost(asked["first"]), actual

    def orders(self, asked: Mapping[str, Any]) -> Shown:
        """Return the orders that changed."""
        since_us = _since_us(asked["query"])
        wants_open = asked["query"] == "status:open"
        found = [
            ((_second(order.changed_at_us), name), self._order(order))
            for name, order in self._shop.orders.kept().items()
            if _second(order.changed_at_us) >= since_us and not (wants_open and not order.quantity)
        ]
        page = self.page(sorted(found, key=lambda row: row[0]), asked["first"], asked["after"])
        actual = queries.CONNECTION + 10 * len(page["nodes"])
        return {"orders": page}, queries.orders_cost(asked["first"]), actual

    def _order(self, order: Order) -> dict[str, Any]:
        node = order_node(order, self._shop.ids_of(order))
        shown = node["refunds"][: queries.REFUNDS_SHOWN]
        refunds = [{"refundLineItems": _whole(refund["lines"])} for refund in shown]
        return node | {"lineItems": _whole(node["lines"]), "refunds": refunds}

    def _order_of(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        order = self._shop.orders.kept().get(asked["id"].rpartition("/")[2])
        return None if order is None else order_node(order, self._shop.ids_of(order))

    def order_lines(self, asked: Mapping[str, Any]) -> Shown:
        """Return the lines of an order."""
        node = self._order_of(asked)
        parts = {"parts": _whole(node["lines"])} if node else None
        return {"node": parts}, queries.lines_cost(asked["first"]), queries.lines_cost(1)

    def order_parts(self, asked: Mapping[str, Any]) -> Shown:
        """Return which refunds and shipments an order has."""
        node = self._order_of(asked)
        refunds = [{"id": refund["id"]} for refund in node["refunds"]] if node else []
        parts = {"refunds": refunds, "fulfillments": []} if node else None
        return {"node": parts}, 1 + 2 * queries.PARTS_MAX, 1 + len(refunds)

    def refund_lines(self, asked: Mapping[str, Any]) -> Shown:
        """Return the lines of a refund."""
        # A refund's id is its order's with two digits more.
        node = self._order_of({"id": asked["id"][:-2]})
        refunds = {refund["id"]: refund for refund in node["refunds"]} if node else {}
        refund = refunds.get(asked["id"])
        parts = {"parts": _whole(refund["lines"])} if refund else None
        return {"node": parts}, queries.lines_cost(asked["first"]), queries.lines_cost(1)

    def locations(self, asked: Mapping[str, Any]) -> Shown:
        """Return the levels that changed at the next locations."""
        places = [(place, place) for place in sorted(self._shop.locations)]
        page = self.page(places, queries.LOCATIONS_SHOWN, asked["after"])
        page["nodes"] = [self._place(place, asked, None) for place in page["nodes"]]
        shown = sum(len(place["inventoryLevels"]["nodes"]) for place in page["nodes"])
        actual = queries.CONNECTION + len(page["nodes"]) * queries.location_cost(0) + shown * queries.LEVEL
        return {"locations": page}, queries.locations_cost(asked["first"]), actual

    def location(self, asked: Mapping[str, Any]) -> Shown:
        """Return the levels that changed at one location."""
        place = asked["id"].rpartition("/")[2]
        known = place in self._shop.locations
        node = self._place(place, asked, asked["after"]) if known else None
        actual = queries.location_cost(len(node["inventoryLevels"]["nodes"]) if node else 0)
        return {"location": node}, queries.location_cost(asked["first"]), actual

    def _place(self, place: str, asked: Mapping[str, Any], after: str | None) -> dict[str, Any]:
        since_us = _since_us(asked["query"])
        changed = [
            (item, item)
            for item in sorted(self._shop.levels)
            if _second(self._shop.changed_us(item, place)) >= since_us
        ]
        page = self.page(changed, asked["first"], after)
        page["nodes"] = [self._level(item, place) | {"item": self._item_head(item)} for item in page["nodes"]]
        return {"id": global_id("Location", place), "inventoryLevels": page}

    def page(self, rows: Sequence[tuple[Any, Any]], first: int, after: str | None) -> dict[str, Any]:
        """Return the page after a cursor; rows are sorted by their keys."""
        last = None
        if after is not None:
            last = self._cursors.read(after)
            if last is None:
                msg = "Invalid cursor for current pagination sort."
                raise GraphqlError(msg)
        left = [row for row in rows if last is None or row[0] > last]
        shown = left[:first]
        end = self._cursors.issue(shown[-1][0]) if shown else None
        return {
            "nodes": [row for _, row in shown],
            "pageInfo": {"hasNextPage": len(left) > first, "endCursor": end},
        }


def _second(at_us: int) -> int:
    return at_us // 1_000_000 * 1_000_000


def _since_us(search: str | None) -> int:
    found = _SINCE.search(search or "")
    return int(datetime.fromisoformat(found[1]).timestamp()) * 1_000_000 if found else 0


def _location_of(place: str) -> dict[str, Any]:
    return {"location": {"id": global_id("Location", place)}}


def _whole(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"nodes": nodes, "pageInfo": {"hasNextPage": False, "endCursor": None}}
