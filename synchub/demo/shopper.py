"""What the demo's agent buys: it holds, and then commits, gives back, or lets the time pass, all over HTTP.

Every step has an idempotency key and is sent again with it until there is an answer, so a hub
that is away for a moment makes the agent wait and never buy twice.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from synchub.demo.model import Traded
from synchub.kit.backoff import full_jitter_s

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synchub.demo.agent import Agent
    from synchub.demo.orders import OrderDesk

EVERY_S: Final = 0.5
"""From one purchase to the next, on average."""

THINKS_S: Final = 0.4
"""From the hold to what becomes of it, at most."""

TTL_MS: Final = 2000
UNITS_MAX: Final = 2
AT_LEAST: Final = 3
"""Of a SKU with fewer units nothing is bought: others may be quicker."""

_SHARES: Final = {"commit": 6, "release": 2, "leave": 2}
_PAUSE_BASE_S: Final = 0.05
_PAUSE_MAX_S: Final = 1.0
_LATER: Final = frozenset({429, 503})
_CREATED: Final = 201
_OK: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hold:
    id: str
    sku: str
    units: int


class Shopper:
    """Buys a little, now and then; ``counts`` says what came of it."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, key: str, agent: Agent, desk: OrderDesk
    ) -> None:
        """It buys what the ``agent`` has heard of; the orders go to the ``desk``."""
        self.counts: Counter[str] = Counter()
        self._http = http
        self._url = f"{url}/v1/reservations"
        self._key = key
        self._agent = agent
        self._desk = desk
        self._chance = random.Random(AT_LEAST)
        self._left: list[_Hold] = []
        """Holds of which only the hub will say how they end."""
        self._traded: list[Traded] = []
        self._stopping = asyncio.Event()
        self._is_idle = True

    @property
    def is_done(self) -> bool:
        """Whether nothing is held any more."""
        return self._stopping.is_set() and self._is_idle and not self._left

    def stop(self) -> None:
        """Begin nothing new; what is held is brought to its end."""
        self._stopping.set()

    def traded(self) -> list[Traded]:
        """Return what was held, given back or left since the last call."""
        traded, self._traded = self._traded, []
        return traded

    async def run(self) -> None:
        """Buy until cancelled, or until ``stop`` and everything has ended."""
        while not self.is_done:
            if not self._stopping.is_set():
                self._is_idle = False
                await self._buy()
                self._is_idle = True
            self._left = [hold for hold in self._left if not await self._has_ended(hold)]
            await asyncio.sleep(self._chance.uniform(0, 2 * EVERY_S) if not self._stopping.is_set() else 0.1)

    async def _buy(self) -> None:
        skus = [sku for sku, number in self._agent.known.items() if number >= AT_LEAST]
        if not skus:
            return
        sku, units = self._chance.choice(skus), self._chance.randint(1, UNITS_MAX)
        self._note(sku)
        wish = {"lines": [{"sku": sku, "quantity": units}], "ttl_ms": TTL_MS, "session": "demo"}
        status, answer = await self._post("", wish)
        if status != _CREATED:
            self.counts["refused"] += 1
            return
        self.counts["held"] += 1
        hold = _Hold(id=answer["id"], sku=sku, units=units)
        await asyncio.sleep(self._chance.uniform(0, THINKS_S))
        await self._decide(hold)

    async def _decide(self, hold: _Hold) -> None:
        [choice] = self._chance.choices(list(_SHARES), list(_SHARES.values()))
        self._note(hold.sku)
        if choice == "leave":
            self._left.append(hold)
            return
        body = {"order_id": f"agent-{secrets.token_hex(6)}"} if choice == "commit" else {}
        status, answer = await self._post(f"/{hold.id}/{choice}", body)
        if status == _OK:
            self._end(hold, answer["current_status"])
        else:  # too late, or a fault of the hub: the hold itself will say
            self._left.append(hold)

    async def _has_ended(self, hold: _Hold) -> bool:
        status, answer = await self._ask("GET", f"/{hold.id}")
        if status != _OK or answer["current_status"] == "held":
            return False
        self._end(hold, answer["current_status"])
        self._note(hold.sku)
        return True

    def _end(self, hold: _Hold, status: str) -> None:
        self.counts[status] += 1
        if status == "committed":
            self.counts["sold"] += hold.units
            self._desk.sell(hold.id, hold.sku, hold.units, time.time_ns() // 1000)

    async def _post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return await self._ask("POST", path, json=body, headers={"Idempotency-Key": secrets.token_hex(12)})

    async def _ask(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **about: Any
    ) -> tuple[int, dict[str, Any]]:
        """Send a request until it is answered with something else than "later"."""
        told = {"Authorization": f"Bearer {self._key}", **(headers or {})}
        failures = 0
        while True:
            try:
                async with self._http.request(method, self._url + path, headers=told, **about) as answer:
                    if answer.status not in _LATER:
                        return answer.status, await answer.json(content_type=None)
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            failures += 1
            await asyncio.sleep(full_jitter_s(failures, base_s=_PAUSE_BASE_S, max_s=_PAUSE_MAX_S))

    def _note(self, sku: str) -> None:
        self._traded.append(Traded(sku=sku, at_us=time.time_ns() // 1000))
