"""A small Shopify: signed webhooks, and the GraphQL API paid for in points.

As on the real one, times of change stop at the second, so two changes of one level
within a second cannot be told apart by them; and a query that costs more points than
there are is answered with HTTP 200. Some of its ways are chosen by credentials:

- ``header_prefix=Shopify-`` sends the newer family of headers;
- ``points_a_second=1000`` is another plan than the smallest;
- ``throttle=429`` says 429 where the fault ``throttle`` shows;
- ``canary=none`` is a shop without the product that is there to be touched.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any, ClassVar, Final

from aiohttp import web

from connectors.shopify.addresses import API_VERSION, global_id
from connectors.shopify.emulated_forms import (
    OrderIds,
    item_body,
    order_body,
    refund_body,
    shop_time,
    triggered_at,
)
from connectors.shopify.emulated_graphql import POINTS_A_SECOND, Api, Points
from connectors.shopify.emulated_hooks import SubscriptionBook
from connectors.shopify.mapping import CANARY_SKU
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

# Items are numbered from 1, so this one is nobody else's.
CANARY: Final = str(FIRST_ITEM)
NO_CANARY: Final = "none"

CALLS_TOO_MANY: Final = "429"
"""The credential ``throttle`` of a shop that answers so instead of with the word in a 200."""


class ShopifyEmulator(Emulator):
    """One shop with one app."""

    platform: ClassVar[str] = "shopify"
    credentials_needed: ClassVar[tuple[str, ...]] = ("client_secret",)

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        started_us = time.time_ns() // 1000
        self._changed_us = {(item, place): started_us for item in self.skus for place in self.locations}
        self._items = {item: (sku, started_us) for item, sku in self.skus.items()}
        if options.credentials.get("canary") != NO_CANARY:
            self._items[CANARY] = (CANARY_SKU, started_us)
        self._hooks = SubscriptionBook(options.hook_url, self.sender)
        points = Points(a_second=float(options.credentials.get("points_a_second", POINTS_A_SECOND)))
        self._api = Api(self, self._hooks, points)

    def item_id(self, index: int) -> str:
        """Return an inventory item id beyond what a double can hold."""
        return str(FIRST_ITEM + index)

    def location_id(self, name: str) -> str:
        """Return the id of a named location; an unknown name stays as it is."""
        names = self.options.locations
        return str(FIRST_LOCATION + names.index(name)) if name in names else name

    def catalogue_deliveries(self, item: str) -> list[Outgoing]:
        """Return the ``inventory_items/create`` of an item."""
        return [self._item("inventory_items/create", item, time.time_ns() // 1000)]

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
        latest = refund_body(order, self.ids_of(order), len(order.cancellations) - 1)
        refunded = self._signed("refunds/create", order.item, latest, order.changed_at_us)
        return [refunded, self._order("orders/updated", order)]

    def ids_of(self, order: Order) -> OrderIds:
        """Return the numbers of an order and of what it names."""
        return OrderIds(
            order=int(self.order_id(order)),
            line=FIRST_LINE + order.number,
            variant=FIRST_VARIANT + int(order.item) - FIRST_ITEM,
            product=FIRST_PRODUCT + int(order.item) - FIRST_ITEM,
            location=int(order.location),
        )

    def changed_us(self, item: str, location: str) -> int:
        """Return when a level changed last."""
        return self._changed_us[item, location]

    def items_shown(self) -> dict[str, tuple[str, int]]:
        """Return SKU and time of change of every item, the canary's too, which has no levels."""
        return self._items

    def product_of(self, item: str) -> dict[str, Any]:
        """Return the variant of an item, with its product."""
        index = int(item) - FIRST_ITEM
        product = {"id": global_id("Product", str(FIRST_PRODUCT + index))}
        return {"id": global_id("ProductVariant", str(FIRST_VARIANT + index)), "product": product}

    def item_of(self, variant: str) -> str:
        """Return the item of a variant."""
        return str(int(variant) - FIRST_VARIANT + FIRST_ITEM)

    def touch(self, item: str, code: str) -> bool:
        """Give an item another customs code, and tell; False: there is no such item."""
        if item not in self._items:
            return False
        now_us = time.time_ns() // 1000
        self._items[item] = (self._items[item][0], now_us)
        self.send(self._item("inventory_items/update", item, now_us, code))
        return True

    def is_wanted(self, outgoing: Outgoing) -> bool:
        """Whether the app is subscribed to a delivery's topic at the hub's address."""
        topic = next(value for name, value in outgoing.headers.items() if name.endswith("Topic"))
        return self._hooks.is_wanted(topic)

    def add_routes(self, app: web.Application) -> None:
        """Add the GraphQL endpoint of the one API version that the client speaks."""
        app.router.add_post(f"/admin/api/{API_VERSION}/graphql.json", self._graphql)

    def throttled(self) -> web.Response:
        """Answer as to a query for which there are no points."""
        if self.options.credentials.get("throttle") == CALLS_TOO_MANY:
            return super().throttled()
        return self._api.throttled(POINTS_A_SECOND, available=0)

    def _order(self, topic: str, order: Order) -> Outgoing:
        return self._signed(topic, order.item, order_body(order, self.ids_of(order)), order.changed_at_us)

    def _item(self, topic: str, item: str, at_us: int, code: str | None = None) -> Outgoing:
        sku, tracked = self._items[item][0], item in self.skus
        return self._signed(topic, item, item_body(item, sku, at_us, tracked=tracked, code=code), at_us)

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
        return await self._api.answer(request)


if __name__ == "__main__":
    run(ShopifyEmulator)
