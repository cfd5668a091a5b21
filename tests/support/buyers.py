"""A served hub whose merchant's time stands still, and agents that hold and buy there."""

from __future__ import annotations

import contextlib
import itertools
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from synchub.agents import operations as agents
from synchub.agents.operations import NewAgent
from synchub.kit.clock import now_ms
from synchub.policies import operations as policies
from synchub.stock import store as stock
from tests.support.deliveries import body_of, level
from tests.support.hub import Heard, Site, running_hub
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from synchub.keyspace import MerchantKeys

PATH: Final = "/v1/reservations"
AHEAD_MS: Final = 120_000
"""By how much a shop's time is ahead of the real one: until that is over it moves only when it is told to."""

_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Buyer:
    """One agent of the shop's merchant."""

    site: Site
    name: str
    key: str = field(repr=False)

    async def post(self, path: str, body: Any = None, *, once: str = "", **headers: str) -> Heard:
        """Post anything below ``/v1/reservations``."""
        sent = {"Authorization": f"Bearer {self.key}"} | headers
        if once:
            sent["Idempotency-Key"] = once
        about = {"data": body} if isinstance(body, bytes) else {"json": body}
        return await self.site.ask("POST", PATH + path, headers=sent, **about)

    async def hold(self, *lines: Mapping[str, Any], once: str = "", **about: Any) -> dict[str, Any]:
        """Ask for a hold that is granted."""
        heard = await self.post("", {"lines": lines or (line(),), **about}, once=once)
        return told(heard, 201)

    async def refused(self, *lines: Mapping[str, Any], once: str = "", **about: Any) -> dict[str, Any]:
        """Ask for a hold that is refused."""
        answer = told(await self.post("", {"lines": lines or (line(),), **about}, once=once))
        assert answer["status"] == "refused", answer
        return answer

    async def renew(self, held: Mapping[str, Any], ttl_ms: int, *, once: str = "") -> Heard:
        """Ask for a longer life."""
        return await self.post(f"/{held['id']}/renew", {"ttl_ms": ttl_ms}, once=once)

    async def commit(self, held: Mapping[str, Any], *, once: str = "", **about: Any) -> Heard:
        """Buy it."""
        return await self.post(f"/{held['id']}/commit", about, once=once)

    async def release(self, held: Mapping[str, Any], *, once: str = "") -> Heard:
        """Give it back."""
        return await self.post(f"/{held['id']}/release", {}, once=once)

    async def look(self, held: Mapping[str, Any]) -> dict[str, Any]:
        """Ask what it is now."""
        return told(await self.site.ask("GET", f"{PATH}/{held['id']}", headers=self.headers))

    async def stock(self, sku: str = "TEE", query: str = "") -> dict[str, Any]:
        """Ask what there is."""
        return told(await self.site.ask("GET", f"/v1/stock/{sku}{query}", headers=self.headers))

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.key}"}


@dataclass(frozen=True, kw_only=True)
class Shop:
    """What a test does to the merchant and its time."""

    site: Site
    _sequence: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def _client(self) -> Any:
        # Its annotations mix in the answers of the client that blocks.
        return self.site.hub.client

    @property
    def _keys(self) -> MerchantKeys:
        return self.site.merchant.keys

    async def buyer(self, **wanted: Any) -> Buyer:
        """Add an agent that may ask and hold."""
        about = {"merchant": self.site.merchant.name, "scopes": ["stock:read", "reservations"]} | wanted
        issued = await agents.add_agent(self.site.hub.redis, NewAgent(**about))
        await eventually(lambda: self.site.hub.directory.find_agent(issued.key) is not None)
        return Buyer(site=self.site, name=issued.agent.name, key=issued.key)

    async def has(self, units: int, sku: str = "TEE", *, location: str = "WH1") -> None:
        """Let the platform report a level."""
        await self.tell(body_of(level(sku, units, location=location), sequence=next(self._sequence)))

    async def sells(self, order: str = "1001", *, sku: str = "TEE", units: int = 1, **about: Any) -> None:
        """Let the platform tell of an order line."""
        row = {"order_id": order, "line": "1", "sku": sku, "quantity": str(units), "status": "placed"} | about
        await self.tell(body_of(orders=[row], sequence=next(self._sequence)))

    async def lists(self, sku: str = "TEE", **about: Any) -> None:
        """Let the platform's catalogue say something."""
        await self.tell(body_of(catalogue=[{"sku": sku, **about}]))

    async def tell(self, body: bytes) -> None:
        """Post a delivery and wait until it is applied."""
        heard = await self.site.post(body)
        assert heard.status == 202, heard
        await self.site.drained()
        assert not await self.site.hub.client.xlen("synchub:{ingest}:quarantine"), body

    async def decide(self, *rules: dict[str, Any], general: Mapping[str, Any] | None = None) -> None:
        """Make these the merchant's policies; the hub learns of them as it does."""
        hub, name = self.site.hub, self.site.merchant.name
        document = {"rules": rules} | ({"general": general} if general else {})
        form = policies.read_document(json.dumps(document).encode())
        version = hub.policies.version(name)
        await policies.replace(hub.redis, name, form, expected=version, author="anna", settings=hub.settings)

    async def set_clock(self, ms: int) -> None:
        """Let time go by of which nobody has noticed anything."""
        clock = int(await self._client.hget(self._keys.head, "clock") or 0)
        await self._client.hset(self._keys.head, "clock", str(clock + ms))

    async def later(self, ms: int) -> None:
        """Let time go by, and the reaper work until nothing is due."""
        await self.set_clock(ms)
        hub = self.site.hub
        while (await stock.lapse(hub.redis, self._keys, now_ms=now_ms(), settings=hub.settings)).left:
            pass

    async def ledger(self, field_: str = "hold") -> list[tuple[str, str, str]]:
        """SKU and both sides of each effect of a kind, in order."""
        entries = await self._client.xrange(self._keys.ledger)
        plain = [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]
        return [(one["sku"], one["from"], one["to"]) for one in plain if one["field"] == field_]


async def left(buyer: Buyer, sku: str = "TEE") -> int:
    """How many units the agent is told of."""
    available: int = (await buyer.stock(sku))["available"]
    return available


def millis(text: str) -> int:
    """A time of an answer as milliseconds."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def line(quantity: int = 1, sku: str = "TEE", **about: Any) -> dict[str, Any]:
    """One wanted line."""
    return {"sku": sku, "quantity": quantity, **about}


def told(heard: Heard, status: int = 200) -> dict[str, Any]:
    """The body of an answer with this status."""
    assert heard.status == status, heard
    body: dict[str, Any] = json.loads(heard.body)
    return body


def problem(heard: Heard) -> tuple[int, str]:
    """Status and code of a refusal."""
    return heard.status, heard.problem["code"]


@contextlib.asynccontextmanager
async def open_shop(redis_url: str) -> AsyncIterator[Shop]:
    """A shop without stock, at a standstill."""
    async with running_hub(redis_url, stock={"clock": "proposed"}) as site:
        shop = Shop(site=site)
        await shop.set_clock(now_ms() + AHEAD_MS)
        yield shop
