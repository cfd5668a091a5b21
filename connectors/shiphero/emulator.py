"""A small double of ShipHero: webhooks with totals and one warehouse, GraphQL with credits.

It reads the body of the hub's answer as ShipHero does: a 200 without
``"code": "200"`` is a failed delivery. The emulated level is what the hub shall
see; the numbers around it (allocated, reserve, sell-ahead) differ by SKU. What
the documents leave open is answered for the worst: an allocation does not
change ``updated_at``.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Final

from aiohttp import web

from connectors.shiphero.emulated_forms import (
    envelope,
    inventory_change,
    no_credits,
    node,
    numbers,
    order_allocated,
    order_canceled,
    order_deallocated,
    pushed,
    uuid_of,
)
from connectors.shiphero.emulated_graphql import (
    NOT_FOUND,
    Refused,
    answer_listings,
    change_in,
    hold_back,
    listings_in,
    operation_of,
    refuse,
)
from connectors.shiphero.emulated_hooks import EmulatedHooks
from connectors.shiphero.emulated_tokens import EmulatedTokens
from connectors.shiphero.hooks import CHANGE_CREDITS, SECRET, WANTED
from connectors.shiphero.signature import SIGNATURE_HEADER, secrets_in
from synchub.connector_kit.emulated_sender import WITHHELD
from synchub.connector_kit.emulation import (
    Bucket,
    Change,
    Emulator,
    Options,
    Order,
    Outgoing,
    name_call,
    run,
)
from synchub.connector_kit.signatures import sign_hmac_sha256_base64

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from connectors.shiphero.emulated_graphql import Listed

FIRST_WAREHOUSE: Final = 76733
CREDITS_MAX: Final = 4004
CREDITS_PER_S: Final = 60
MOVES_EACH: Final = 5
"""Every fifth change is told as a movement of one bin as well."""

QUIET_US: Final = 86_400_000_000
"""At the start no row has changed for a day."""


class ShipHeroEmulator(Emulator):
    """One ShipHero account."""

    platform: ClassVar[str] = "shiphero"
    credentials_needed: ClassVar[tuple[str, ...]] = ("shared_signature_secret",)

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._credits = Bucket(capacity=CREDITS_MAX, restored_per_s=CREDITS_PER_S)
        self._hooks = EmulatedHooks(options.hook_url, WANTED, secrets_in(options.credentials[SECRET])[-1])
        self._tokens = EmulatedTokens(options.credentials)
        self._updated: dict[tuple[str, str], int] = {}
        self._begun_us = _now_us() - QUIET_US
        self._ordered: Counter[tuple[str, str]] = Counter()
        self._references = count(time.time_ns() // 1000)
        self._batches: dict[int, int] = {}

    def location_id(self, name: str) -> str:
        """Return the number of a named warehouse; an unknown name stays as it is."""
        names = self.options.locations
        return str(FIRST_WAREHOUSE + names.index(name)) if name in names else name

    def set_level(
        self, item: str, location: str, quantity: int, *, by_order: bool = False
    ) -> list[asyncio.Future[int]]:
        """Change one level; an order does not change the row's time."""
        if not by_order and quantity != self.levels[item][location]:
            self._updated[item, location] = _now_us()
        answers = super().set_level(item, location, quantity, by_order=by_order)
        if not self._hooks.secrets_of("Inventory Update"):
            self._told[-1]["sent"] = False
        return answers

    def level_deliveries(self, change: Change) -> list[Outgoing]:
        """Return the Inventory Update, and now and then the Inventory Change that came before it."""
        update = self._signed(change.item, self._inventory_update(change))
        # Units that are set aside stay where they lie: no bin changes.
        if change.number % MOVES_EACH or change.quantity == change.previous or change.by_order:
            return update
        ordered = self._ordered[change.item, change.location]
        return [*self._signed(change.item, inventory_change(change, ordered)), *update]

    def placed_deliveries(self, order: Order) -> list[Outgoing]:
        """Return the Order Allocated of an order that some shop has sent."""
        return self._allocate(order)

    def cancelled_deliveries(self, order: Order) -> list[Outgoing]:
        """Return the end of the allocation, and a new one of what is left or the end of the order."""
        batch = self._batches.pop(order.number)
        ended = self._signed(order.item, order_deallocated(order, batch))
        self._ordered[order.item, order.location] -= order.quantity + order.cancellations[-1][0]
        rest = self._allocate(order) if order.quantity else self._signed(order.item, order_canceled(order))
        return [*ended, *rest]

    def _allocate(self, order: Order) -> list[Outgoing]:
        self._batches[order.number] = next(self._references)
        self._ordered[order.item, order.location] += order.quantity
        return self._signed(order.item, order_allocated(order, self._batches[order.number]))

    def add_routes(self, app: web.Application) -> None:
        """Add GraphQL, and control routes for bins, for the health of webhooks and for credits."""
        app.router.add_post("/graphql", self._graphql)
        app.router.add_post("/_emulator/move", self._move)
        app.router.add_post("/_emulator/health", self._rate)
        app.router.add_post("/_emulator/credits", self._grant)
        self._tokens.add_routes(app)

    def heard(self, status: int, body: bytes) -> int:
        """Take an answer for accepted only when its body says so too."""
        if status != web.HTTPOk.status_code:
            return status
        try:
            said = json.loads(body)
        except ValueError:
            return WITHHELD
        return status if isinstance(said, dict) and said.get("code") == "200" else WITHHELD

    def throttled(self) -> web.Response:
        """Say it as ShipHero does: status 200 and an error."""
        return _refused(no_credits(wanted=CREDITS_MAX, left=0, seconds=1))

    def _signed(self, item: str, content: Mapping[str, Any]) -> list[Outgoing]:
        """Return one delivery for each webhook of this topic that is on, signed with its own secret."""
        body = json.dumps(content).encode()
        secrets = self._hooks.secrets_of(content["webhook_type"])
        if not secrets:
            self.sender.counts["withheld"] += 1
        return [_outgoing(item, body, secret) for secret in secrets]

    def _inventory_update(self, change: Change) -> dict[str, Any]:
        levels = self.levels[change.item] | {change.location: change.quantity}
        counted = {
            place: numbers(change.sku, level, self._ordered[change.item, place])
            for place, level in levels.items()
        }
        here = counted[change.location]
        total = {name: sum(one[name] for one in counted.values()) for name in here}
        warehouse = {
            "warehouse_id": int(change.location),
            "warehouse_uuid": uuid_of("Warehouse", change.location),
            "identifier": "Primary",
        }
        row = {
            "sku": change.sku,
            "virtual": False,
            **pushed(total),
            "updated_warehouse": {**warehouse, **pushed(here)},
        }
        return {**envelope("Inventory Update"), "inventory": [row]}

    async def _move(self, request: web.Request) -> web.Response:
        wish = await request.json()
        item, location = str(wish["sku"]), self.location_id(str(wish["location"]))
        held = self.levels.get(item, {}).get(location)
        if held is None:
            return web.json_response({"error": "no such SKU or location here"}, status=404)
        move = Change(
            item=item, sku=item, location=location, quantity=held, previous=held, number=0, at_us=_now_us()
        )
        sent = self._signed(item, inventory_change(move, self._ordered[item, location]))
        statuses = [await self.sender.send(outgoing) for outgoing in sent]
        return web.json_response({"status": max(statuses, default=WITHHELD)})

    async def _rate(self, request: web.Request) -> web.Response:
        wish = await request.json()
        self._hooks.rate(str(wish["name"]), str(wish["health"]))
        return web.json_response({})

    async def _grant(self, request: web.Request) -> web.Response:
        wish = await request.json()
        self._credits = Bucket(capacity=wish["capacity"], restored_per_s=wish["restored_per_s"])
        return web.json_response({})

    async def _graphql(self, request: web.Request) -> web.Response:
        if not self._tokens.accepts(request):
            return web.json_response({"message": "Unauthorized"}, status=401)
        asked = await request.json()
        operation = operation_of(asked["query"])
        name_call(request, operation)
        try:
            data = self._data(asked["query"], asked.get("variables") or {})
        except Refused as refused:
            result = "throttled" if "required_credits" in refused.problem else "refused"
            name_call(request, operation, result)
            return _refused(refused.problem)
        return web.json_response({"data": data})

    def _data(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        if not self.sender.is_subscribed:
            self._hooks.disable_all()
        change = change_in(query)
        if change is not None:
            hold_back(self._credits, CHANGE_CREDITS)
            return {change[0]: self._change_hook(change[1], variables["data"])}
        listings = listings_in(query, variables)
        if not listings:
            refuse("Syntax Error: this emulator knows a few queries only.")
        return answer_listings(query, listings, self._credits, self._rows)

    def _change_hook(self, name: str, wish: Mapping[str, Any]) -> dict[str, Any]:
        if name == "webhook_delete":
            if self._hooks.delete(wish) is None:
                refuse("Webhook not found", NOT_FOUND)
            return {"request_id": uuid.uuid4().hex[:24], "complexity": CHANGE_CREDITS}
        is_new = name == "webhook_create"
        hook = self._hooks.create(wish) if is_new else self._hooks.enable(str(wish["webhook_id"]))
        if hook is None and is_new:
            refuse("Webhook already exists")
        if hook is None:
            refuse("Webhook not found", NOT_FOUND)
        self.restore_subscription()
        return {"webhook": hook.node() | {"shared_signature_secret": hook.secret if is_new else None}}

    def _rows(self, listing: Listed) -> Sequence[dict[str, Any]]:
        if listing.field == "webhooks":
            return self._hooks.nodes()
        since = str(listing.arguments.get("updated_from", ""))
        skus = [listing.arguments["sku"]] if "sku" in listing.arguments else list(self.levels)
        return [
            self._node(sku, place, level)
            for sku in skus
            for place, level in self.levels.get(sku, {}).items()
            if not since or self._updated_at(sku, place) >= since
        ]

    def _node(self, sku: str, place: str, level: int) -> dict[str, Any]:
        row = node(sku, place, level, self._ordered[sku, place])
        return row | {"account_id": uuid_of("Account", "63898"), "updated_at": self._updated_at(sku, place)}

    def _updated_at(self, sku: str, place: str) -> str:
        at_us = self._updated.get((sku, place), self._begun_us)
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_us // 1_000_000))


def _outgoing(item: str, body: bytes, secret: str) -> Outgoing:
    headers = {
        "Content-Type": "application/json",
        SIGNATURE_HEADER: sign_hmac_sha256_base64(body, secret),
        # Not from the seed: a second run must not repeat the ids of the first.
        "X-Shiphero-Message-ID": str(uuid.uuid4()),
    }
    return Outgoing(item=item, headers=headers, body=body)


def _refused(problem: Mapping[str, Any]) -> web.Response:
    return web.json_response({"errors": [problem], "data": None})


def _now_us() -> int:
    return time.time_ns() // 1000


if __name__ == "__main__":
    run(ShipHeroEmulator)
