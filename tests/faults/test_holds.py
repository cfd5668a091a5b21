"""64 clients quarrel about 500 units while processes and the store are killed: nobody gets what is not there.

The clients' answers and the ledger together must be what one counter explains, every
hold must end when it was due, and what is left in the end must be what was not sold.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from tests.faults.acts import kill_api, kill_everything, kill_store, kill_worker
from tests.support.deliveries import body_of, level, signed
from tests.support.linearizability import Act, completed, lifetimes, violations
from tests.support.merchants import add_merchant
from tests.support.shoppers import Shoppers, ledger_effects
from tests.support.wait import eventually, lasting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.linearizability import Effect, Operation
    from tests.support.merchants import Merchant
    from tests.support.processes import Deployment

pytestmark = [
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.xdist_group("holds"),
]

SKU: Final = "HOT"
UNITS: Final = 500
LATE_MS: Final = 1_000
ACTS: Final = (kill_worker, kill_api, kill_store, kill_everything)
STORE_IS_AWAY: Final = frozenset({kill_store, kill_everything})


@dataclass(kw_only=True)
class Outcome:
    """What is left of a trial: both halves of the history, and when the store was away."""

    shoppers: Shoppers
    ledger: Sequence[Effect] = ()
    history: Sequence[Operation] = ()
    away: list[tuple[int, int]] = field(default_factory=list)
    available: int = -1

    @property
    def sold(self) -> int:
        """Units of all holds that were committed."""
        units = {effect.hold: effect.units for effect in self.ledger if effect.act is Act.GRANT}
        return sum(units[effect.hold] for effect in self.ledger if effect.act is Act.COMMIT)

    def most_granted(self) -> int:
        """The most units that were held or sold at one time, by the ledger alone."""
        units = {effect.hold: effect.units for effect in self.ledger if effect.act is Act.GRANT}
        signs = {Act.GRANT: 1, Act.COMMIT: 0, Act.RELEASE: -1, Act.EXPIRE: -1}
        return max(accumulate(signs[effect.act] * units[effect.hold] for effect in self.ledger), default=0)


async def test_no_unit_is_granted_twice_and_no_hold_outlives_its_time(hub: Deployment, seed: int) -> None:
    outcome = await quarrel(hub, random.Random(seed), seed)
    assert outcome.shoppers.broken == []
    assert outcome.most_granted() <= UNITS
    assert violations(outcome.history, UNITS) == []
    assert lifetimes(outcome.history, late_ms=LATE_MS, away=outcome.away) == []
    assert outcome.available == UNITS - outcome.sold
    # It was a quarrel: all the stock was out at times, calls stayed unanswered, every kind of end occurred.
    answers = outcome.shoppers.answers
    assert answers["grant refused"] > 0, answers
    assert answers["no answer"] > 0, answers
    assert {effect.act for effect in outcome.ledger} >= {Act.COMMIT, Act.RELEASE, Act.EXPIRE}


async def quarrel(hub: Deployment, chance: random.Random, seed: int) -> Outcome:
    """Let them shop while one process after the other dies, and until all holds have ended."""
    merchant = await add_merchant(hub.valkey.url)
    await stock_up(hub, merchant)
    over = asyncio.Event()
    async with Shoppers(lambda: hub.url, merchant.key, sku=SKU, seed=seed) as shoppers:
        outcome = Outcome(shoppers=shoppers)
        shopping = asyncio.create_task(shoppers.shop_until(over.is_set))
        try:
            for act in ACTS:
                await lasting(chance.uniform(0.8, 1.4))
                began_ms = _now_ms()
                await act(hub, chance, 0)
                await _answered_again(shoppers)
                if act in STORE_IS_AWAY:
                    outcome.away.append((began_ms, _now_ms()))
            await lasting(0.8)
        finally:
            over.set()
            await shopping
    await eventually(lambda: not _live(_ledger_of(hub, merchant)), what="the end of all holds")
    outcome.ledger = _ledger_of(hub, merchant)
    outcome.history = completed(shoppers.calls, outcome.ledger, read_at=time.monotonic_ns())
    outcome.available = await _available(hub, merchant)
    return outcome


async def stock_up(hub: Deployment, merchant: Merchant) -> None:
    """Have the merchant's platform report the units, and wait until agents are told of them."""
    body = body_of(level(SKU, UNITS), sequence=1)

    async def is_told() -> bool:
        async with aiohttp.ClientSession() as http:
            async with http.post(
                hub.url + merchant.hook, data=body, headers=signed(merchant, body)
            ) as answer:
                accepted = answer.ok
            return accepted and await _available(hub, merchant) == UNITS

    await eventually(is_told, what="the stock")


async def _answered_again(shoppers: Shoppers) -> None:
    """Return when a call that began after now has been answered."""
    now = time.monotonic_ns()
    first = len(shoppers.calls)
    await eventually(
        lambda: any(call.invoked > now for call in shoppers.calls[first:]),
        within_s=20,
        what="an answer after the kill",
    )


async def _available(hub: Deployment, merchant: Merchant) -> int:
    headers = {"Authorization": f"Bearer {merchant.key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(f"{hub.url}/v1/stock/{SKU}") as answer,
    ):
        body: dict[str, Any] = await answer.json()
        return int(body.get("available", -1))


def _ledger_of(hub: Deployment, merchant: Merchant) -> list[Effect]:
    with hub.valkey.client() as client:
        return ledger_effects(client, merchant.keys.ledger, SKU)


def _live(ledger: Sequence[Effect]) -> set[str]:
    ended = {effect.hold for effect in ledger if effect.act is not Act.GRANT}
    return {effect.hold for effect in ledger if effect.act is Act.GRANT} - ended


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
