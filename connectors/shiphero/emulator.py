"""A small double of ShipHero: webhooks with totals and one warehouse, GraphQL with credits.

It reads the body of the hub's answer as ShipHero does: a 200 without
``"code": "200"`` is a failed delivery. The emulated level is what the hub shall
see; the numbers around it (allocated, reserve, sell-ahead) differ by SKU.
"""

from __future__ import annotations

import base64
import json
import math
import re
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
from connectors.shiphero.signature import SIGNATURE_HEADER
from synchub.connector_kit.emulated_sender import WITHHELD
from synchub.connector_kit.emulation import Change, Emulator, Options, Order, Outgoing, run
from synchub.connector_kit.signatures import sign_hmac_sha256_base64

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST_WAREHOUSE: Final = 76733
CREDITS_MAX: Final = 4004
CREDITS_PER_S: Final = 60
MOVES_EACH: Final = 5
"""Every fifth change is told as a movement of one bin as well."""

_LISTING = re.compile(
    r"(?P<alias>\w+): warehouse_products\(sku: \$(?P<sku>\w+), customer_account_id: \$\w+\) "
    r"\{ data\(first: (?P<first>\d+), after: \$(?P<after>\w+)\) \{ \.\.\.page \} \}"
)


class Credits:
    """ShipHero's bucket: full at first, then refilled by the second."""

    def __init__(self, now_s: float) -> None:
        self._left: float = CREDITS_MAX
        self._at_s = now_s

    def missing_s(self, wanted: int, now_s: float) -> int:
        """Return for how many seconds there are fewer than wanted; 0 when there are enough."""
        self._left = min(CREDITS_MAX, self._left + (now_s - self._at_s) * CREDITS_PER_S)
        self._at_s = now_s
        return math.ceil(max(0.0, wanted - self._left) / CREDITS_PER_S)

    def charge(self, spent: int) -> None:
        """Take what the answer cost, which is less than what it might have."""
        self._left -= spent


class ShipHeroEmulator(Emulator):
    """One ShipHero account."""

    platform: ClassVar[str] = "shiphero"
    credentials_needed: ClassVar[tuple[str, ...]] = ("shared_signature_secret",)

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._credits = Credits(time.monotonic())
        self._ordered: Counter[tuple[str, str]] = Counter()
        self._references = count(time.time_ns() // 1000)
        self._batches: dict[int, int] = {}

    def location_id(self, name: str) -> str:
        """Return the number of a named warehouse; an unknown name stays as it is."""
        names = self.options.locations
        return str(FIRST_WAREHOUSE + names.index(name)) if name in names else name

    def level_deliveries(self, change: Change) -> list[Outgoing]:
        """Return the Inventory Update, and now and then the Inventory Change that came before it."""
        update = self._signed(change.item, self._inventory_update(change))
        # Units that are set aside stay where they lie: no bin changes.
        if change.number % MOVES_EACH or change.quantity == change.previous or change.by_order:
            return [update]
        ordered = self._ordered[change.item, change.location]
        return [self._signed(change.item, inventory_change(change, ordered)), update]

    def placed_deliveries(self, order: Order) -> list[Outgoing]:
        """Return the Order Allocated of an order that some shop has sent."""
        return [self._allocate(order)]

    def cancelled_deliveries(self, order: Order) -> list[Outgoing]:
        """Return the end of the allocation, and a new one of what is left or the end of the order."""
        batch = self._batches.pop(order.number)
        ended = self._signed(order.item, order_deallocated(order, batch))
        self._ordered[order.item, order.location] -= order.quantity + order.cancellations[-1][0]
        rest = self._allocate(order) if order.quantity else self._signed(order.item, order_canceled(order))
        return [ended, rest]

    def _allocate(self, order: Order) -> Outgoing:
        self._batches[order.number] = next(self._references)
        self._ordered[order.item, order.location] += order.quantity
        return self._signed(order.item, order_allocated(order, self._batches[order.number]))

    def add_routes(self, app: web.Application) -> None:
        """Add GraphQL, and a control route that moves units between bins without changing a level."""
        app.router.add_post("/graphql", self._graphql)
        app.router.add_post("/_emulator/move", self._move)

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

    def _signed(self, item: str, content: Mapping[str, Any]) -> Outgoing:
        body = json.dumps(content).encode()
        secret = self.options.credentials["shared_signature_secret"]
        headers = {
            "Content-Type": "application/json",
            SIGNATURE_HEADER: sign_hmac_sha256_base64(body, secret),
            # Not from the seed: a second run must not repeat the ids of the first.
            "X-Shiphero-Message-ID": str(uuid.uuid4()),
        }
        return Outgoing(item=item, headers=headers, body=body)

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
        status = await self.sender.send(
            self._signed(item, inventory_change(move, self._ordered[item, location]))
        )
        return web.json_response({"status": status})

    async def _graphql(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "")
        token = self.options.credentials.get("access_token")
        if not given.startswith("Bearer ") or token not in {None, given.removeprefix("Bearer ")}:
            return web.json_response({"message": "Unauthorized"}, status=401)
        asked = await request.json()
        if "webhook_create" in asked["query"]:
            self.restore_subscription()
            secret = self.options.credentials["shared_signature_secret"]
            return web.json_response({"data": {"webhook_create": {"shared_signature_secret": secret}}})
        listings = list(_LISTING.finditer(asked["query"]))
        if not listings:
            return _refused({"message": "Syntax Error: this emulator knows one query only."})
        return self._levels(listings, asked.get("variables") or {})

    def _levels(self, listings: list[re.Match[str]], variables: Mapping[str, str]) -> web.Response:
        wanted = sum(int(listing["first"]) + 1 for listing in listings)
        seconds = self._credits.missing_s(wanted, time.monotonic())
        if seconds:
            return _refused(no_credits(wanted=wanted, left=wanted - seconds * CREDITS_PER_S, seconds=seconds))
        data = {}
        for listing in listings:
            answer = self._listing(
                variables[listing["sku"]], int(listing["first"]), variables.get(listing["after"])
            )
            self._credits.charge(answer["complexity"])
            data[listing["alias"]] = answer
        return web.json_response({"data": data})

    def _listing(self, sku: str, first: int, after: str | None) -> dict[str, Any]:
        start = int(base64.b64decode(after).decode().removeprefix("arrayconnection:")) + 1 if after else 0
        held = list(self.levels.get(sku, {}).items())
        nodes = [node(sku, place, level, self._ordered[sku, place]) for place, level in held]
        rows = list(enumerate(nodes))[start : start + first]
        last = uuid_of("arrayconnection", str(rows[-1][0])) if rows else None
        page = {"hasNextPage": start + len(rows) < len(held), "endCursor": last}
        return {
            "request_id": uuid.uuid4().hex[:24],
            "complexity": len(rows) + 1,
            "data": {"pageInfo": page, "edges": [{"node": node} for _, node in rows]},
        }


def _refused(problem: Mapping[str, Any]) -> web.Response:
    return web.json_response({"errors": [problem], "data": None})


def _now_us() -> int:
    return time.time_ns() // 1000


if __name__ == "__main__":
    run(ShipHeroEmulator)
