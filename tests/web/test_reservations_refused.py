"""Why nothing is held, what is offered instead, and what the asker has seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.buyers import line, problem, told

if TYPE_CHECKING:
    from tests.support.buyers import Buyer, Shop


# being refused


async def test_a_refusal_names_the_next_best_that_there_is(shop: Shop, buyer: Buyer) -> None:
    for sku, units in (("RED", 1), ("BLUE", 0), ("GREEN", 20)):
        await shop.has(units, sku)
    await shop.lists(substitutes=["RED", "BLUE", "GREEN", "NOPE"])
    answer = await buyer.refused(line(11))
    assert (answer["reason"], answer["available"]) == ("insufficient", 10)
    assert (answer["answer"]["state"], answer["answer"]["covers"]) == ("IN_STOCK", False)
    # Those of which there are enough come first.
    assert [one["sku"] for one in answer["fallback_options"]] == ["GREEN", "RED"]
    await buyer.hold(line(11, "GREEN"))


async def test_the_units_left_are_told_as_far_as_the_merchant_tells_any(shop: Shop, buyer: Buyer) -> None:
    for disclosure, available in (("exact", 10), ("bucket", 10), ("none", None)):
        await shop.decide({"set": {"disclosure": disclosure, "buffer_units": 0}})
        assert (await buyer.refused(line(11)))["available"] == available
    await shop.decide({"set": {"disclosure": "bucket", "buffer_units": 1}})
    assert (await buyer.refused(line(11)))["available"] == 5


async def test_what_cannot_be_had_is_refused_with_its_reason(shop: Shop, buyer: Buyer) -> None:
    assert (await buyer.refused(line(1, "NOPE")))["reason"] == "unknown_sku"
    await shop.lists("TEE", status="discontinued")
    answer = await buyer.refused(line(1))
    assert (answer["reason"], answer["answer"]["state"]) == ("discontinued", "DISCONTINUED")


@pytest.mark.parametrize(
    ("policy", "reason"), [("assume_out", "unknown_level"), ("escalate", "unknown_level"), ("assume_in", "")]
)
async def test_an_unknown_level_is_sold_as_the_merchant_says(
    shop: Shop, buyer: Buyer, policy: str, reason: str
) -> None:
    await shop.lists("CAP", backorder={"allowed": True})
    await shop.decide({"set": {"on_unknown": policy, "units_per_agent": 4}})
    if reason:
        assert (await buyer.refused(line(1, "CAP")))["reason"] == reason
        return
    held = await buyer.hold(line(4, "CAP"))
    # Nobody knows a number that it could lie beyond; a person looks, and limits hold all the same.
    committed = told(await buyer.commit(held))
    assert (committed["status"], committed["review_due_at"] is not None) == ("committed", True)
    assert (await buyer.refused(line(1, "CAP")))["reason"] == "unit_limit"
    assert (await buyer.refused(line(1, "CAP", location="WH1")))["reason"] == "unit_limit"


@pytest.mark.parametrize(
    ("policy", "reason"), [("assume_out", "stale"), ("escalate", "stale"), ("answer", ""), ("assume_in", "")]
)
async def test_a_stale_number_is_sold_as_the_merchant_says(
    shop: Shop, buyer: Buyer, policy: str, reason: str
) -> None:
    await shop.decide({"set": {"on_stale": policy, "conflict": "void"}})
    await shop.later(901_000)
    if reason:
        assert (await buyer.refused(line(1)))["reason"] == reason
        return
    if policy == "answer":
        assert (await buyer.refused(line(11)))["reason"] == "insufficient"
        return
    held = await buyer.hold(line(11))
    assert told(await buyer.commit(held))["status"] == "committed"


# what the asker has seen


async def test_a_checksum_of_the_present_answer_holds(buyer: Buyer) -> None:
    seen = (await buyer.stock())["checksum"]
    held = await buyer.hold(line(2, checksum=seen), once="k1")
    # The hold has changed the answer; a repeat gets its first answer all the same.
    again = await buyer.hold(line(2, checksum=seen), once="k1")
    assert again == held
    answer = await buyer.refused(line(2, checksum=seen), once="k2")
    assert (answer["reason"], answer["sku"]) == ("changed", "TEE")
    assert answer["answer"]["checksum"] != seen


async def test_any_stale_checksum_is_refused(shop: Shop, buyer: Buyer) -> None:
    await shop.has(5, "MUG")
    tee, mug = (await buyer.stock())["checksum"], (await buyer.stock("MUG"))["checksum"]
    assert (await buyer.refused(line(1, checksum=tee), line(1, "MUG", checksum=tee)))["sku"] == "MUG"
    assert (await buyer.refused(line(1, checksum="x"), line(1, checksum=tee)))["reason"] == "changed"
    await shop.has(4, "MUG")
    assert (await buyer.refused(line(1, checksum=tee), line(1, "MUG", checksum=mug)))["reason"] == "changed"
    await buyer.hold(line(1, checksum=tee), line(1, "MUG"))


async def test_a_policy_edit_changes_what_was_shown(shop: Shop, buyer: Buyer) -> None:
    seen = (await buyer.stock())["checksum"]
    await shop.decide({"set": {"buffer_units": 2}})
    assert (await buyer.refused(line(1, checksum=seen)))["reason"] == "changed"


async def test_a_sequence_matters_only_when_it_is_no_longer_covered(shop: Shop, buyer: Buyer) -> None:
    seen = (await buyer.stock())["seq"]
    await shop.has(8)
    await buyer.hold(line(8), expected_seq=seen, ttl_ms=2000)
    answer = await buyer.refused(line(1), expected_seq=seen)
    assert (answer["reason"], answer["available"]) == ("sequence_moved", 0)
    now = (await buyer.stock())["seq"]
    assert (await buyer.refused(line(1), expected_seq=now))["reason"] == "insufficient"


async def test_a_commit_with_a_sequence_stops_where_the_stock_is_gone(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(line(3))
    await shop.has(12)
    await shop.has(2)
    heard = await buyer.commit(held, expected_seq=held["seq"], once="k1")
    assert problem(heard) == (409, "sequence_moved")
    assert (await buyer.look(held))["status"] == "held"
    await shop.has(3)
    # The same key hears the same; a new one is a new try.
    assert problem(await buyer.commit(held, expected_seq=held["seq"], once="k1")) == (409, "sequence_moved")
    assert told(await buyer.commit(held, expected_seq=held["seq"], once="k2"))["status"] == "committed"


async def test_a_commit_that_has_seen_the_loss_is_a_conflict(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(line(3))
    await shop.has(2)
    seen = (await buyer.stock())["seq"]
    assert told(await buyer.commit(held, expected_seq=seen))["status"] == "conflict"
