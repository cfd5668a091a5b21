"""A small Shopify: signed webhooks, and the GraphQL API paid for in points.

As on the real one, times of change stop at the second, so two changes of one level
within a second cannot be told apart by them; and a query that costs more points than
there are is answered with HTTP 200. ``--credential header_prefix=Shopify-`` sends the
newer family of headers.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Final

from aiohttp import web

from connectors.shopify.addresses import API_VERSION, global_id
from connectors.shopify.client import LEVELS_QUERY, VARIANTS_QUERY
from connectors.shopify.emulated_forms import OrderIds, order_body, refund_body, shop_time, triggered_at
from synchub.connector_kit.emulation import Change, Emulator, Options, Order, Outgoing, run
from synchub.connector_kit.signatures import sign_hmac_sha256_base64

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST_ITEM: Final = 271878346596884000
FIRST_LOCATION: Final = 24826418
FIRST_PRODUCT: Final = 788032119674292000
FIRST_VARIANT: Final = 278032119674290000
FIRST_ORDER: Final = 820_000_000_000_000_000
FIRST_LINE: Final = 866_000_000_000_000_000

POINTS_MAX: Final = 2000
POINTS_A_SECOND: Final = 100
# What the levels query costs: each item, its variants with their products, its levels with
# location and quantities; a connection is two points besides what it holds.
POINTS_AN_ITEM: Final = 1 + (2 + 2 * 2) + 2
POINTS_A_LEVEL: Final = 3
POINTS_A_VARIANT: Final = 2


@dataclass(slots=True)
class Points:
    """The bucket of one app in one shop."""

    available: float = POINTS_MAX
    counted_at_s: float = 0.0

    def refill(self, now_s: float) -> None:
        """Add what has been restored since the last time."""
        restored = (now_s - self.counted_at_s) * POINTS_A_SECOND
        self.available = min(POINTS_MAX, self.available + restored)
        self.counted_at_s = now_s


class ShopifyEmulator(Emulator):
    """One shop with one app."""

    platform: ClassVar[str] = "shopify"
    credentials_needed: ClassVar[tuple[str, ...]] = ("client_secret",)

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._points = Points(counted_at_s=time.monotonic())
        started_us = time.time_ns() // 1000
        self._changed_us = {(item, place): started_us for item in self.skus for place in self.locations}

    def item_id(self, index: int) -> str:
        """Return an inventory item id beyond what a double can hold."""
        return str(FIRST_ITEM + index)

    def location_id(self, name: str) -> str:
        """Return the id of a named location; an unknown name stays as it is."""
        names = self.options.locations
        return str(FIRST_LOCATION + names.index(name)) if name in names else name

    def catalogue_deliveries(self, item: str) -> list[Outgoing]:
        """Return the ``inventory_items/create`` of an item."""
        now_us = time.time_ns() // 1000
        body = {
            "id": int(item),
            "sku": self.skus[item],
            "created_at": shop_time(now_us),
            "updated_at": shop_time(now_us),
            "requires_shipping": True,
            "cost": None,
            "country_code_of_origin": None,
            "province_code_of_origin": None,
            "harmonized_system_code": None,
            "tracked": True,
            "country_harmonized_system_codes": [],
            "admin_graphql_api_id": global_id("InventoryItem", item),
        }
        return [self._signed("inventory_items/create", item, body, now_us)]

    def level_deliveries(self, change: Change) -> list[Outgoing]:
        """Return the ``inventory_levels/update`` of a change and note its time for the API."""
        self._changed_us[change.item, change.location] = change.at_us
        level_id = f"{global_id('InventoryLevel', change.location)}?inventory_item_id={change.item}"
        body = {
            "inventory_item_id": int(change.item),
            "location_id": int(change.location),
            "available": change.quantity,
            "updated_at": shop_time(change.at_us),
            "admin_graphql_api_id": level_id,
        }
        return [self._signed("inventory_levels/update", change.item, body, change.at_us)]

    def order_id(self, order: Order) -> str:
        """Return an order id beyond what a double can hold."""
        return str(FIRST_ORDER + order.number)

    def placed_deliveries(self, order: Order) -> list[Outgoing]:
        """Return the ``orders/create`` of an order; one that says where was made at a till."""
        return [self._order("orders/create", order)]

    def cancelled_deliveries(self, order: Order) -> list[Outgoing]:
        """Return what Shopify sends for units taken out of an order, or for the whole of it."""
        if not order.quantity:
            return [self._order("orders/cancelled", order), self._order("orders/updated", order)]
        latest = refund_body(order, self._ids(order), len(order.cancellations) - 1)
        refunded = self._signed("refunds/create", order.item, latest, order.changed_at_us)
        return [refunded, self._order("orders/updated", order)]

    def _order(self, topic: str, order: Order) -> Outgoing:
        return self._signed(topic, order.item, order_body(order, self._ids(order)), order.changed_at_us)

    def _ids(self, order: Order) -> OrderIds:
        return OrderIds(
            order=int(self.order_id(order)),
            line=FIRST_LINE + order.number,
            variant=FIRST_VARIANT + int(order.item) - FIRST_ITEM,
            product=FIRST_PRODUCT + int(order.item) - FIRST_ITEM,
            location=int(order.location),
        )

    def add_routes(self, app: web.Application) -> None:
        """Add the GraphQL endpoint of the one API version that the client speaks."""
        app.router.add_post(f"/admin/api/{API_VERSION}/graphql.json", self._graphql)

    def throttled(self) -> web.Response:
        """Answer as to a query for which there are no points."""
        return self._throttled(POINTS_A_SECOND, available=0)

    def _signed(self, topic: str, item: str, content: Mapping[str, object], at_us: int) -> Outgoing:
        body = json.dumps(content, separators=(",", ":")).replace("/", "\\/").encode()
        prefix = self.options.credentials.get("header_prefix", "X-Shopify-")
        headers = {
            "Topic": topic,
            "Hmac-Sha256": sign_hmac_sha256_base64(body, self.options.credentials["client_secret"]),
            "Shop-Domain": "example.myshopify.com",
            "API-Version": API_VERSION,
            "Webhook-Id": str(uuid.uuid4()),
            "Event-Id": str(uuid.uuid4()),
            "Triggered-At": triggered_at(at_us),
        }
        named = {prefix + name: value for name, value in headers.items()}
        return Outgoing(item=item, headers={"Content-Type": "application/json"} | named, body=body)

    async def _graphql(self, request: web.Request) -> web.Response:
        wanted = self.options.credentials.get("access_token")
        token = request.headers.get("X-Shopify-Access-Token", "")
        if not token or (wanted and token != wanted):
            return web.json_response({"errors": "[API] Invalid API key or access token"}, status=401)
        asked = await request.json()
        if asked["query"] == VARIANTS_QUERY:
            return self._variants(asked["variables"])
        if asked["query"] != LEVELS_QUERY:
            return web.json_response({"errors": [{"message": "This double answers two queries only."}]})
        return self._answer(asked["variables"])

    def _variants(self, asked: Mapping[str, object]) -> web.Response:
        ids = asked["ids"]
        if not isinstance(ids, list):
            return web.json_response({"errors": [{"message": "Variables are of the wrong type."}]})
        requested = len(ids) * POINTS_A_VARIANT
        self._points.refill(time.monotonic())
        if requested > self._points.available:
            return self._throttled(requested, available=int(self._points.available))
        self._points.available -= requested
        nodes = [self._variant_node(variant.rpartition("/")[2]) for variant in ids]
        cost = self._cost(requested, requested, int(self._points.available))
        return web.json_response({"data": {"nodes": nodes}, "extensions": cost})

    def _variant_node(self, variant: str) -> dict[str, object] | None:
        item = str(int(variant) - FIRST_VARIANT + FIRST_ITEM)
        sku = self.skus.get(item)
        return None if sku is None else {**self._variant(item), "sku": sku}

    def _variant(self, item: str) -> dict[str, object]:
        index = int(item) - FIRST_ITEM
        product = {"id": global_id("Product", str(FIRST_PRODUCT + index))}
        return {"id": global_id("ProductVariant", str(FIRST_VARIANT + index)), "product": product}

    def _answer(self, asked: Mapping[str, object]) -> web.Response:
        ids, first, after = asked["ids"], asked["first"], asked["after"]
        if not isinstance(ids, list) or not isinstance(first, int):
            return web.json_response({"errors": [{"message": "Variables are of the wrong type."}]})
        requested = len(ids) * (POINTS_AN_ITEM + first * POINTS_A_LEVEL)
        self._points.refill(time.monotonic())
        if requested > self._points.available:
            return self._throttled(requested, available=int(self._points.available))
        start = int(after) if isinstance(after, str) else 0
        nodes = [self._node(item.rpartition("/")[2], start, first) for item in ids]
        shown = sum(len(self.locations[start : start + first]) for node in nodes if node)
        actual = sum(POINTS_AN_ITEM for node in nodes if node) + shown * POINTS_A_LEVEL
        self._points.available -= actual
        cost = self._cost(requested, actual, int(self._points.available))
        return web.json_response({"data": {"nodes": nodes}, "extensions": cost})

    def _node(self, item: str, start: int, first: int) -> dict[str, object] | None:
        if item not in self.skus:
            return None
        places, end = self.locations[start : start + first], start + first
        page = {"hasNextPage": end < len(self.locations), "endCursor": str(end) if places else None}
        return {
            "id": global_id("InventoryItem", item),
            "sku": self.skus[item],
            "tracked": True,
            "variants": {"nodes": [self._variant(item)]},
            "inventoryLevels": {"nodes": [self._level(item, place) for place in places], "pageInfo": page},
        }

    def _level(self, item: str, location: str) -> dict[str, object]:
        changed = datetime.fromtimestamp(self._changed_us[item, location] // 1_000_000, UTC)
        return {
            "location": {"id": global_id("Location", location)},
            "isActive": True,
            "updatedAt": changed.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "quantities": [{"name": "available", "quantity": self.levels[item][location]}],
        }

    def _throttled(self, requested: int, *, available: int) -> web.Response:
        error = {"message": "Throttled", "extensions": {"code": "THROTTLED"}}
        return web.json_response({"errors": [error], "extensions": self._cost(requested, None, available)})

    def _cost(self, requested: int, actual: int | None, available: int) -> dict[str, object]:
        status = {
            "maximumAvailable": float(POINTS_MAX),
            "currentlyAvailable": available,
            "restoreRate": float(POINTS_A_SECOND),
        }
        return {
            "cost": {"requestedQueryCost": requested, "actualQueryCost": actual, "throttleStatus": status}
        }


if __name__ == "__main__":
    run(ShopifyEmulator)
