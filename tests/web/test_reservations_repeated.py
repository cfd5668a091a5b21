"""Requests that come again under one key, and holds that take the place of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.buyers import left, line, open_shop, problem, told
from tests.support.wait import eventually

if TYPE_CHECKING:
    from tests.conftest import StartValkey
    from tests.support.buyers import Buyer, Shop


# idempotency


async def test_a_repeat_gets_the_first_answer_and_the_present_status(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(line(3), once="k1", ttl_ms=2000)
    assert await buyer.hold(line(3), once="k1", ttl_ms=2000) == held
    assert await left(buyer) == 7
    committed = told(await buyer.commit(held, order_id="1001", once="k2"))
    assert told(await buyer.commit(held, order_id="1001", once="k2")) == committed
    again = await buyer.hold(line(3), once="k1", ttl_ms=2000)
    assert again == {**held, "current_status": "committed"}
    assert await left(buyer) == 7


async def test_the_present_status_is_that_of_the_clock(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(once="k1", ttl_ms=2000)
    renewed = told(await buyer.renew(held, 2000, once="k2"))
    await shop.set_clock(2000)
    assert (await buyer.hold(once="k1", ttl_ms=2000))["current_status"] == "expired"
    assert told(await buyer.renew(held, 2000, once="k2")) == {**renewed, "current_status": "expired"}


async def test_a_refusal_is_repeated_too(shop: Shop, buyer: Buyer) -> None:
    first = await buyer.refused(line(11), once="k1")
    await shop.has(20)
    again = await buyer.refused(line(11), once="k1")
    assert [again[name] for name in ("reason", "available", "seq")] == [
        first[name] for name in ("reason", "available", "seq")
    ]
    assert again["answer"]["available"] == 20
    await buyer.hold(line(11), once="k2")


@pytest.mark.parametrize(
    "other", [{"lines": [line(2)]}, {"ttl_ms": 2000}, {"mode": "cart"}, {"session": "s"}, {"replaces": "x.1"}]
)
async def test_a_key_is_for_one_request(buyer: Buyer, other: dict[str, Any]) -> None:
    await buyer.hold(once="k1")
    heard = await buyer.post("", {"lines": [line(1)]} | other, once="k1")
    assert problem(heard) == (409, "idempotency_mismatch")
    assert await left(buyer) == 9


async def test_a_key_is_for_one_verb_and_one_reservation(buyer: Buyer) -> None:
    one, two = await buyer.hold(once="k1"), await buyer.hold()
    assert problem(await buyer.release(one, once="k1")) == (409, "idempotency_mismatch")
    told(await buyer.commit(one, order_id="1", once="k2"))
    assert problem(await buyer.commit(one, order_id="2", once="k2")) == (409, "idempotency_mismatch")
    assert problem(await buyer.commit(two, order_id="1", once="k2")) == (409, "idempotency_mismatch")


async def test_a_key_is_remembered_when_the_store_was_killed(own_valkey: StartValkey) -> None:
    server = own_valkey()
    async with open_shop(server.url) as shop:
        await shop.has(10)
        buyer = await shop.buyer()
        held = await buyer.hold(line(3), once="k1")
        server.restart()

        async def is_told_again() -> bool:
            heard = await buyer.post("", {"lines": [line(3)]}, once="k1")
            return heard.status == 201 and told(heard, 201) == held

        await eventually(is_told_again, what="the first answer")
        assert await left(buyer) == 7


async def test_each_agent_has_keys_of_its_own(shop: Shop, buyer: Buyer) -> None:
    other = await shop.buyer()
    assert (await buyer.hold(once="k1"))["id"] != (await other.hold(once="k1"))["id"]


@pytest.mark.parametrize("key", ["", "x" * 129, "a\tb"])
async def test_a_key_is_a_short_printable_text(buyer: Buyer, key: str) -> None:
    heard = await buyer.post("", {"lines": [line()]}, **{"Idempotency-Key": key})
    assert problem(heard) == (422, "invalid_request")


# replacing


async def test_a_buyer_is_never_in_its_own_way(shop: Shop, buyer: Buyer) -> None:
    await shop.has(4, location="WH2")
    limits = {"units_per_agent": 14, "units_per_buyer": 14, "channel_cap": 14, "transactions_per_session": 1}
    await shop.decide({"set": limits})
    about = {"buyer": "b", "session": "s"}
    held = await buyer.hold(line(10, location="WH1"), line(4, location="WH2"), **about)
    assert (await buyer.refused(line(1), **about))["reason"] == "transaction_limit"
    replaced = await buyer.hold(
        line(9, location="WH1"), line(4, location="WH2"), replaces=held["id"], **about
    )
    assert (await buyer.look(held))["status"] == "released"
    assert await left(buyer) == 1
    assert problem(await buyer.commit(held)) == (409, "conflict")
    await buyer.hold(line(14), replaces=replaced["id"], **about)


async def test_a_refusal_keeps_what_was_to_be_replaced(buyer: Buyer) -> None:
    held = await buyer.hold(line(4))
    answer = await buyer.refused(line(11), replaces=held["id"])
    assert (answer["reason"], answer["available"]) == ("insufficient", 10)
    assert (await buyer.look(held))["status"] == "held"
    assert await left(buyer) == 6


async def test_what_is_over_leaves_nothing_to_be_replaced(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(line(4), ttl_ms=2000)
    await shop.later(2000)
    await buyer.hold(line(10), replaces=held["id"])


async def test_what_was_bought_is_not_replaced(buyer: Buyer) -> None:
    held = await buyer.hold(line(4))
    told(await buyer.commit(held))
    heard = await buyer.post("", {"lines": [line()], "replaces": held["id"]})
    assert problem(heard) == (409, "conflict")
    assert await left(buyer) == 6


@pytest.mark.parametrize("known", [True, False])
async def test_nobody_replaces_what_is_not_its_own(shop: Shop, buyer: Buyer, known: bool) -> None:
    anothers = (await (await shop.buyer()).hold(line(4)))["id"] if known else "epoch.1"
    heard = await buyer.post("", {"lines": [line()], "replaces": anothers})
    assert problem(heard) == (404, "hold_unknown")
    assert await left(buyer) == (6 if known else 10)
