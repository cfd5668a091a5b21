"""An answer of the store is lost, once for every verb: nobody is told no, and nothing happens twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.buyers import left, line, open_shop, problem, told
from tests.support.deliveries import body_of, delta
from tests.support.proxy import Proxy
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.support.buyers import Buyer, Shop
    from tests.support.hub import Heard

pytestmark = pytest.mark.fault

SCRIPT = b"EVALSHA"


@pytest.fixture
async def line_to_store(redis_url: str) -> AsyncIterator[Proxy]:
    """What stands between the hub and its store."""
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    async with Proxy(port) as proxy:
        yield proxy


@pytest.fixture
async def shop(line_to_store: Proxy) -> AsyncIterator[Shop]:
    """A shop whose hub speaks with the store through the line."""
    async with open_shop(line_to_store.url) as one:
        await one.has(10)
        yield one


async def _until_answered(ask: Callable[[], Awaitable[Heard]], tries: list[Heard]) -> bool:
    tries.append(await ask())
    return tries[-1].status < 500


async def _repeated(proxy: Proxy, ask: Callable[[], Awaitable[Heard]]) -> Heard:
    """Lose the answer to the first try and repeat under the same key, as whoever got no answer does."""
    tries: list[Heard] = []
    proxy.drop_reply_once(SCRIPT)
    await eventually(lambda: _until_answered(ask, tries), what="an answer to a repeated request")
    assert problem(tries[0]) == (503, "outcome_unknown"), "the answer was not lost"
    return tries[-1]


async def test_a_hold_whose_answer_is_lost_is_granted_once(shop: Shop, line_to_store: Proxy) -> None:
    buyer = await shop.buyer()
    heard = await _repeated(line_to_store, lambda: buyer.post("", {"lines": [line(3)]}, once="k"))
    assert told(heard, 201)["status"] == "held"
    assert await left(buyer) == 7
    assert len(await shop.ledger()) == 1


@pytest.mark.parametrize(("verb", "after"), [("commit", 7), ("release", 10), ("renew", 7)])
async def test_a_change_of_a_hold_whose_answer_is_lost_happens_once(
    shop: Shop, line_to_store: Proxy, verb: str, after: int
) -> None:
    buyer = await shop.buyer()
    held = await buyer.hold(line(3), ttl_ms=2000)

    async def ask() -> Heard:
        return await _change(buyer, verb, held["id"])

    heard = await _repeated(line_to_store, ask)
    assert told(heard)["status"] in {"committed", "released", "held"}
    assert await left(buyer) == after
    assert len(await shop.ledger()) <= 2


@pytest.mark.parametrize("command", [SCRIPT, b"XADD"])
async def test_a_delivery_of_which_an_answer_is_lost_counts_once(
    shop: Shop, line_to_store: Proxy, command: bytes
) -> None:
    """Either the platform is told to send it again, or the worker handles it again; or both."""
    buyer = await shop.buyer()
    body = body_of(delta("TEE", -4))
    line_to_store.drop_reply_once(command)
    first = await shop.site.post(body, message_id="once")
    assert first.status == 202 or "Retry-After" in first.headers
    await eventually(lambda: _is_accepted(shop, body), what="a delivery accepted")
    await shop.site.drained()
    assert await left(buyer) == 6
    assert len(await shop.ledger("delta")) == 1


async def _is_accepted(shop: Shop, body: bytes) -> bool:
    return (await shop.site.post(body, message_id="once")).status == 202


async def _change(buyer: Buyer, verb: str, hold: str) -> Heard:
    body = {"commit": {"order_id": "1001"}, "release": None, "renew": {"ttl_ms": 2000}}[verb]
    return await buyer.post(f"/{hold}/{verb}", body, once="k")
