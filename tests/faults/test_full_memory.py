"""A store without memory refuses what is new and never what frees: every hold can be given back or bought."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.support.buyers import left, line, open_shop, problem
from tests.support.wait import eventually

if TYPE_CHECKING:
    from tests.conftest import StartValkey
    from tests.support.buyers import Buyer

pytestmark = pytest.mark.fault

HOLDS = 30


async def test_without_memory_nothing_is_granted_and_every_hold_can_end(
    own_valkey: StartValkey, seed: int
) -> None:
    store = own_valkey()
    async with open_shop(store.url) as shop:
        await shop.has(100)
        buyer = await shop.buyer()
        holds = [await buyer.hold(line(2), ttl_ms=15_000) for _ in range(HOLDS)]
        random.Random(seed).shuffle(holds)
        bought, renewed, given_back = holds[:10], holds[10:15], holds[10:]
        with store.client() as client:
            client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
            refused = await buyer.post("", {"lines": [line(1)]})
            delivery = await shop.site.post(b"{}")
            committed = [await buyer.commit(hold, order_id=f"O{n}") for n, hold in enumerate(bought)]
            longer = [await buyer.renew(hold, 15_000) for hold in renewed]
            released = [await buyer.release(hold) for hold in given_back]
            client.config_set("maxmemory", 0)
        assert problem(refused) == (503, "store_unavailable")
        assert "Retry-After" in refused.headers
        assert delivery.status == 503
        assert {heard.status for heard in (*committed, *longer, *released)} == {200}
        assert await left(buyer) == 100 - 2 * len(bought)
        await eventually(lambda: _is_granted(buyer), what="a hold when there is memory again")


async def _is_granted(buyer: Buyer) -> bool:
    return (await buyer.post("", {"lines": [line(1)]})).status == 201
