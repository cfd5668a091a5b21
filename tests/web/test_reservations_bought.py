"""Buying what is held: orders, late money, overselling, and what happens when the stock is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.buyers import left, line, millis, problem, told

if TYPE_CHECKING:
    from tests.support.buyers import Buyer, Shop

SECOND: Final = 1000


# buying


async def test_a_commit_does_not_move_the_number(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(line(3))
    committed = told(await buyer.commit(held, order_id="1001"))
    assert (committed["status"], committed["order_id"]) == ("committed", "1001")
    assert await left(buyer) == 7
    await shop.later(60_000)
    assert await left(buyer) == 7
    assert await shop.ledger() == [("TEE", "", "held:3"), ("TEE", "held:3", "committed")]


async def test_an_order_is_counted_once_whoever_tells_of_it(shop: Shop, buyer: Buyer) -> None:
    told(await buyer.commit(await buyer.hold(line(3)), order_id="1001"))
    await shop.sells("1001", units=3)
    assert await left(buyer) == 7


async def test_an_order_that_names_a_live_hold_is_its_commit(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(line(3))
    await shop.sells("1001", units=3, reference=held["id"])
    assert (await buyer.look(held))["status"] == "committed"
    assert await left(buyer) == 7
    assert problem(await buyer.commit(held)) == (409, "conflict")


async def test_an_order_that_names_a_dead_hold_is_a_sale_and_is_told(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(line(3), ttl_ms=2000)
    await shop.later(2000)
    await shop.sells("1001", units=3, reference=held["id"])
    assert await left(buyer) == 7
    assert (await buyer.look(held))["status"] == "expired"
    entries: Any = await shop.site.hub.client.xrange(shop.site.merchant.keys.ledger)
    assert any(f"dead_hold:{held['id']}".encode() in fields[b"cause"] for _, fields in entries)


async def test_an_order_for_one_sku_leaves_the_rest_of_the_hold(shop: Shop, buyer: Buyer) -> None:
    await shop.has(5, "MUG")
    held = await buyer.hold(line(3), line(2, "MUG"), ttl_ms=2000)
    await shop.sells("1001", units=3, reference=held["id"])
    assert (await buyer.look(held))["status"] == "held"
    await shop.later(2000)
    assert (await left(buyer), await left(buyer, "MUG")) == (7, 5)


async def test_less_is_bought_than_was_held_and_the_rest_is_given_back(shop: Shop, buyer: Buyer) -> None:
    await shop.has(5, "MUG")
    held = await buyer.hold(line(3), line(2, "MUG"))
    committed = told(await buyer.commit(held, order_id="1001", lines=[line(2)], once="k"))
    assert (committed["status"], committed["lines"]) == (
        "committed",
        [{"sku": "TEE", "quantity": 2, "location": None, "sold_from": [{"location": "WH1", "quantity": 2}]}],
    )
    assert committed["released"] == [
        {"sku": "TEE", "quantity": 1, "location": None},
        {"sku": "MUG", "quantity": 2, "location": None},
    ]
    assert (await left(buyer), await left(buyer, "MUG")) == (8, 5)
    again = told(await buyer.commit(held, order_id="1001", lines=[line(2)], once="k"))
    assert again == committed
    assert problem(await buyer.commit(held, order_id="1001", lines=[line(1)], once="k")) == (
        409,
        "idempotency_mismatch",
    )
    await shop.sells("1001", units=2)
    assert await left(buyer) == 8


async def test_what_is_not_held_cannot_be_bought_and_the_sentence_says_so(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(line(3))
    for lines, sentence in (
        ([line(4)], "This reservation has 3 of TEE; a commit buys at most that."),
        ([line(2), line(2)], "This reservation has 3 of TEE; a commit buys at most that."),
        ([line(1, "MUG")], "This reservation has no line of MUG; where"),
        ([line(1, location="WH2")], "This reservation has no line of TEE at WH2; where"),
    ):
        heard = await buyer.commit(held, lines=lines, once="k")
        assert problem(heard) == (422, "invalid_request")
        assert heard.problem["detail"].startswith(sentence)
    assert problem(await buyer.commit(held, lines=[])) == (422, "invalid_request")
    assert (await buyer.look(held))["status"] == "held"
    assert told(await buyer.commit(held, lines=[line(3)], once="k"))["released"] == []
    assert len(await shop.ledger()) == 2


async def test_what_an_order_has_bought_of_the_hold_can_be_named_and_stays_bought(
    shop: Shop, buyer: Buyer
) -> None:
    await shop.has(5, "MUG")
    held = await buyer.hold(line(3), line(2, "MUG"))
    await shop.sells("1001", units=3, reference=held["id"])
    committed = told(await buyer.commit(held, lines=[line(3), line(1, "MUG")]))
    assert [(one["sku"], one["quantity"]) for one in committed["lines"]] == [("TEE", 3), ("MUG", 1)]
    assert (await left(buyer), await left(buyer, "MUG")) == (7, 4)


async def test_what_a_commit_gives_back_is_no_units_of_the_agent(shop: Shop, buyer: Buyer) -> None:
    await shop.decide({"set": {"units_per_agent": 3}})
    told(await buyer.commit(await buyer.hold(line(3)), lines=[line(1)]))
    assert (await buyer.refused(line(3)))["reason"] == "unit_limit"
    await buyer.hold(line(2))


async def test_a_sequence_that_moved_leaves_the_whole_hold(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(line(3))
    await shop.has(1)
    refused = await buyer.commit(held, lines=[line(2)], expected_seq=held["seq"])
    assert problem(refused) == (409, "sequence_moved")
    assert (await buyer.look(held))["lines"][0]["quantity"] == 3
    told(await buyer.commit(held, lines=[line(1)], expected_seq=held["seq"]))


async def test_late_money_is_told_so_and_may_be_granted_anew(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(line(3), ttl_ms=2000)
    await shop.later(2000)
    assert problem(await buyer.commit(held, order_id="1001")) == (410, "hold_expired")
    committed = told(await buyer.commit(held, order_id="1001", regrant=True))
    assert (committed["id"], committed["status"]) == (held["id"], "committed")
    assert committed["granted_at_us"] > held["granted_at_us"]
    assert await left(buyer) == 7


async def test_late_money_for_what_others_have_is_not_taken(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(line(3), ttl_ms=2000)
    await shop.later(2000)
    await (await shop.buyer()).hold(line(8))
    assert problem(await buyer.commit(held, regrant=True)) == (410, "hold_expired")
    assert await left(buyer) == 2


async def test_what_is_granted_anew_counts_for_the_limits_again(shop: Shop, buyer: Buyer) -> None:
    await shop.decide({"set": {"units_per_agent": 3}})
    held = await buyer.hold(line(3), ttl_ms=2000)
    await shop.later(2000)
    again = await buyer.hold(line(1))
    assert problem(await buyer.commit(held, regrant=True)) == (410, "hold_expired")
    told(await buyer.release(again))
    told(await buyer.commit(held, regrant=True))
    assert (await buyer.refused(line(1)))["reason"] == "unit_limit"


async def test_late_money_does_not_take_from_a_location_that_has_none(shop: Shop, buyer: Buyer) -> None:
    await shop.has(4, location="WH2")
    held = await buyer.hold(line(4, location="WH2"), ttl_ms=2000)
    await shop.later(2000)
    await buyer.hold(line(1, location="WH2"))
    assert problem(await buyer.commit(held, regrant=True)) == (410, "hold_expired")


# overselling, conflicts, confirming


async def test_deliberate_overselling_is_looked_at_within_a_day(shop: Shop, buyer: Buyer) -> None:
    await shop.has(100, "HOT")
    await shop.decide({"set": {"allowance_percent": 5}})
    inside = await buyer.hold(line(100, "HOT"))
    assert inside["review_due_at"] is None
    beyond = await buyer.hold(line(5, "HOT"))
    assert millis(beyond["review_due_at"]) - beyond["granted_at_us"] // 1000 == 24 * 3600 * SECOND
    assert (await buyer.refused(line(1, "HOT")))["reason"] == "insufficient"
    committed = told(await buyer.commit(beyond))
    assert (committed["status"], committed["review_due_at"]) == ("committed", beyond["review_due_at"])
    # The level falls below what is held: within the allowance it is sold, and looked at.
    await shop.has(99, "HOT")
    last = told(await buyer.commit(inside))
    assert (last["status"], last["review_due_at"] is not None) == ("conflict", True)


async def test_a_sale_that_falls_below_zero_within_the_allowance_is_looked_at(
    shop: Shop, buyer: Buyer
) -> None:
    await shop.has(100, "HOT")
    await shop.decide({"set": {"allowance_percent": 5}})
    held = await buyer.hold(line(100, "HOT"))
    await shop.has(97, "HOT")
    committed = told(await buyer.commit(held))
    assert (committed["status"], committed["review_due_at"] is not None) == ("committed", True)


@pytest.mark.parametrize("policy", ["honour", "backorder", "void"])
async def test_a_commit_of_what_is_gone_is_a_conflict(shop: Shop, buyer: Buyer, policy: str) -> None:
    await shop.decide({"set": {"conflict": policy}})
    held = await buyer.hold(line(3))
    await shop.has(2)
    answer = told(await buyer.commit(held, once="k1"))
    ends = "voided" if policy == "void" else "committed"
    assert (answer["status"], answer["resolution"], answer["current_status"]) == ("conflict", policy, ends)
    assert (answer["review_due_at"] is not None) == (policy != "void")
    assert told(await buyer.commit(held, once="k1")) == answer
    assert (await buyer.look(held))["status"] == ends
    assert (await buyer.stock())["available"] == (2 if policy == "void" else 0)


async def test_the_hold_that_was_granted_last_loses_first(shop: Shop, buyer: Buyer) -> None:
    await shop.decide({"set": {"conflict": "void"}})
    first, second = await buyer.hold(line(5)), await buyer.hold(line(5))
    await shop.has(5)
    assert told(await buyer.commit(first))["status"] == "committed"
    assert told(await buyer.commit(second))["status"] == "conflict"
    assert await left(buyer) == 0


async def test_a_sale_is_confirmed_after_its_time(shop: Shop, buyer: Buyer) -> None:
    await shop.decide({"set": {"confirm_ms": 2000}})
    held = await buyer.hold(line(3))
    confirming = told(await buyer.commit(held, order_id="1001"))
    assert confirming["status"] == "confirming"
    assert problem(await buyer.release(held)) == (409, "conflict")
    await shop.later(1999)
    assert (await buyer.look(held))["status"] == "confirming"
    await shop.later(1)
    assert (await buyer.look(held))["status"] == "committed"
    assert await left(buyer) == 7
    assert (await shop.ledger())[-2:] == [
        ("TEE", "held:3", "confirming"),
        ("TEE", "confirming", "committed"),
    ]


@pytest.mark.parametrize("policy", ["honour", "backorder", "void"])
async def test_a_sale_that_loses_its_stock_before_it_is_confirmed(
    shop: Shop, buyer: Buyer, policy: str
) -> None:
    await shop.decide({"set": {"confirm_ms": 2000, "conflict": policy, "units_per_agent": 3}})
    held = await buyer.hold(line(3))
    told(await buyer.commit(held, order_id="1001"))
    await shop.has(2)
    await shop.later(2000)
    now = await buyer.look(held)
    assert now["status"] == ("voided" if policy == "void" else "committed")
    assert (now["review_due_at"] is not None) == (policy != "void")
    if policy != "void":
        return
    assert await left(buyer) == 2
    await buyer.hold(line(2))  # what was taken back counts for nobody
    # The platform has sold it all the same: that is a sale, and it is told.
    await shop.sells("1001", units=3, reference=held["id"])
    assert (await buyer.look(held))["status"] == "voided"
    assert await left(buyer) == 0


async def test_an_order_that_arrives_confirms_the_sale(shop: Shop, buyer: Buyer) -> None:
    await shop.decide({"set": {"confirm_ms": 2000, "conflict": "void"}})
    held = await buyer.hold(line(3))
    told(await buyer.commit(held, order_id="1001"))
    await shop.sells("1001", units=3)
    await shop.has(2)
    await shop.later(2000)
    assert (await buyer.look(held))["status"] == "committed"
