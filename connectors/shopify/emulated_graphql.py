"""The emulated shop's GraphQL API: it knows the client's documents by heart and reads no others.

As on the real one, a query is paid at its highest possible cost and gets back what it did not take,
and one for which there are too few points is answered with HTTP 200.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from connectors.shopify import queries
from connectors.shopify.addresses import global_id
from connectors.shopify.emulated_answers import Answers, GraphqlError
from synchub.connector_kit.emulation import name_call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from connectors.shopify.emulated_answers import EmulatedShop, Shown
    from connectors.shopify.emulated_hooks import SubscriptionBook

POINTS_A_SECOND: Final = 100
SECONDS_HELD: Final = 20
"""The bucket holds what is restored in so many seconds."""

_OPERATION = re.compile(r"(?:query|mutation) ([A-Za-z]+)")


@dataclass(slots=True)
class Points:
    """The bucket of one app in one shop."""

    a_second: float = POINTS_A_SECOND
    available: float = 0.0
    counted_at_s: float = 0.0

    def __post_init__(self) -> None:
        """Begin with a full bucket."""
        self.available, self.counted_at_s = self.most, time.monotonic()

    @property
    def most(self) -> float:
        """What the bucket holds."""
        return self.a_second * SECONDS_HELD

    def refill(self) -> None:
        """Add what has been restored since the last time."""
        now_s = time.monotonic()
        self.available = min(self.most, self.available + (now_s - self.counted_at_s) * self.a_second)
        self.counted_at_s = now_s


class Api:
    """The one endpoint."""

    def __init__(self, shop: EmulatedShop, hooks: SubscriptionBook, points: Points) -> None:
        self._shop = shop
        self._hooks = hooks
        self._points = points
        self._read = Answers(shop)
        self._answers: Mapping[str, Callable[[Any], Shown]] = {
            queries.LEVELS_QUERY: self._read.levels,
            queries.VARIANTS_QUERY: self._read.variants,
            queries.ITEMS_QUERY: self._read.items,
            queries.ORDERS_QUERY: self._read.orders,
            queries.ORDER_LINES_QUERY: self._read.order_lines,
            queries.ORDER_PARTS_QUERY: self._read.order_parts,
            queries.REFUND_LINES_QUERY: self._read.refund_lines,
            queries.LOCATIONS_QUERY: self._read.locations,
            queries.LOCATION_QUERY: self._read.location,
            queries.HOOKS_QUERY: self._subscriptions,
            queries.SUBSCRIBE: lambda asked: _changed(self._hooks.create(asked)),
            queries.RESUBSCRIBE: lambda asked: _changed(self._hooks.update(asked)),
            queries.CANARY_QUERY: self._canary,
            queries.CANARY_CHANGE: self._touch,
        }

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one query, if there are points for it."""
        asked = await request.json()
        read = self._answers.get(asked["query"])
        if read is None:
            return _errors("This double answers the connector's own queries only.", "BAD_REQUEST")
        found = _OPERATION.search(asked["query"])
        kind = found[1] if found else "query"
        name_call(request, kind)
        self._points.refill()
        if asked["query"].lstrip().startswith("mutation") and self._points.available < queries.MUTATION:
            name_call(request, kind, "throttled")
            return self.throttled(queries.MUTATION)
        try:
            data, requested, actual = read(asked.get("variables") or {})
        except GraphqlError as problem:
            return _errors(str(problem), problem.code)
        if requested > self._points.available:
            name_call(request, kind, "throttled")
            return self.throttled(requested)
        self._points.available -= actual
        cost = self._cost(requested, actual)
        return web.json_response({"data": data, "extensions": cost})

    def throttled(self, requested: float, *, available: float | None = None) -> web.Response:
        """Answer as to a query for which there are no points."""
        error = {"message": "Throttled", "extensions": {"code": "THROTTLED"}}
        return web.json_response(
            {"errors": [error], "extensions": self._cost(requested, None, available=available)}
        )

    def _cost(
        self, requested: float, actual: int | None, *, available: float | None = None
    ) -> dict[str, object]:
        status = {
            "maximumAvailable": float(self._points.most),
            "currentlyAvailable": int(self._points.available if available is None else available),
            "restoreRate": float(self._points.a_second),
        }
        return {
            "cost": {"requestedQueryCost": requested, "actualQueryCost": actual, "throttleStatus": status}
        }

    # What is changed.

    def _subscriptions(self, asked: Mapping[str, Any]) -> Shown:
        page = self._read.page(self._hooks.rows(), asked["first"], asked["after"])
        actual = queries.hooks_cost(len(page["nodes"]))
        return {"webhookSubscriptions": page}, queries.hooks_cost(asked["first"]), actual

    def _canary(self, asked: Mapping[str, Any]) -> Shown:
        sku = asked["query"].removeprefix("sku:").strip("'")
        shown = self._shop.items_shown()
        found = [item for item in shown if shown[item][0] == sku][:5]
        nodes = [{"id": global_id("InventoryItem", item), "sku": sku} for item in found]
        cost = queries.CONNECTION + len(nodes)
        return {"inventoryItems": {"nodes": nodes}}, queries.CONNECTION + 5, cost

    def _touch(self, asked: Mapping[str, Any]) -> Shown:
        code = str(asked["input"].get("harmonizedSystemCode", ""))
        if not re.fullmatch(r"[0-9]{6,13}", code):
            return _changed(_refused("Harmonized system code must be 6 to 13 digits"))
        if not self._shop.touch(asked["id"].rpartition("/")[2], code):
            return _changed(_refused("The inventory item does not exist"))
        return _changed({"userErrors": []})


def _changed(outcome: dict[str, Any]) -> Shown:
    return {"outcome": outcome}, queries.MUTATION, queries.MUTATION


def _refused(message: str) -> dict[str, Any]:
    return {"userErrors": [{"message": message}]}


def _errors(message: str, code: str) -> web.Response:
    return web.json_response({"errors": [{"message": message, "extensions": {"code": code}}]})
