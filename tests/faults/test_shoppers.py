"""The shoppers themselves: what they write down of a server that is known to be right, or wrong."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.linearizability import Act, Operation, Outcome, completed, lifetimes, violations
from tests.support.shoppers import Habits, Shoppers, ledger_effects
from tests.support.small_hub import SmallHub
from tests.support.wait import eventually

if TYPE_CHECKING:
    from redis import Redis

    from tests.support.valkey import Valkey

UNITS: Final = 60
BRIEF: Final = Habits(clients=16, ttl_ms=200, think_s=0.02, timeout_s=0.5, commits=0.01, repeats=0.1)


async def shop(hub: SmallHub, seconds: float = 0.8) -> tuple[Shoppers, list[Operation]]:
    """Shop for a while; return the shoppers and the completed history."""
    until = time.monotonic() + seconds
    async with Shoppers(lambda: hub.url, "sak_any", sku="HOT", seed=1, habits=BRIEF) as shoppers:
        await shoppers.shop_until(lambda: time.monotonic() > until)
        await eventually(lambda: not hub.live, what="the end of all holds")
    return shoppers, completed(shoppers.calls, hub.effects, read_at=time.monotonic_ns())


async def test_a_server_that_is_right_is_found_right_whatever_is_lost() -> None:
    async with SmallHub(units=UNITS, loss=0.2).running() as hub:
        shoppers, history = await shop(hub)
    assert shoppers.broken == []
    assert violations(history, UNITS) == []
    assert lifetimes(history, late_ms=1_000) == []
    assert shoppers.answers["no answer"] > 0
    assert shoppers.answers["503 store_unavailable"] > 0


async def test_every_kind_of_answer_occurs() -> None:
    async with SmallHub(units=UNITS).running() as hub:
        shoppers, history = await shop(hub)
    wanted = {"grant done", "grant refused", "release done", "renew done"}
    assert wanted <= set(shoppers.answers), shoppers.answers
    assert any(one.act is Act.EXPIRE for one in history)


async def test_a_call_whose_outcome_is_unknown_is_repeated_with_its_key() -> None:
    async with SmallHub(units=UNITS, loss=0.3).running() as hub:
        shoppers, _ = await shop(hub)
    assert max(Counter(hub.keys).values()) > 1
    assert not any(call.outcome is Outcome.UNKNOWN for call in shoppers.calls)


async def test_a_server_that_grants_too_much_is_found_out() -> None:
    async with SmallHub(units=UNITS, oversells=True).running() as hub:
        _, history = await shop(hub)
    assert violations(history, UNITS) != []


class TestLedger:
    @pytest.fixture
    def client(self, valkey: Valkey) -> Redis:
        valkey.flush()
        return valkey.client()

    @staticmethod
    def write(client: Redis, seq: int, before: str, after: str, **more: Any) -> None:
        told: dict[Any, Any] = {
            "sku": "HOT",
            "field": "hold",
            "item": "e.1",
            "from": before,
            "to": after,
            "at": 5,
            **more,
        }
        client.xadd("ledger", told, id=f"{seq}-0")

    def test_grants_and_ends_are_read_and_nothing_else(self, client: Redis) -> None:
        with client:
            self.write(client, 1, "", "held:2")
            self.write(client, 2, "held:2", "held:2")
            self.write(client, 3, "", "held:7", sku="OTHER")
            self.write(client, 4, "held:2", "confirming:2")
            self.write(client, 5, "confirming", "committed")
            self.write(client, 6, "", "K5", field="level")
            self.write(client, 7, "held:1", "expired", item="e.0")
            effects = ledger_effects(client, "ledger", "HOT")
        assert [(one.seq, one.act, one.hold, one.units, one.at_ms) for one in effects] == [
            (1, Act.GRANT, "e.1", 2, 5),
            (4, Act.COMMIT, "e.1", 0, 5),
            (7, Act.EXPIRE, "e.0", 0, 5),
        ]
