"""Holding, renewing and giving back over HTTP, on a real store whose time stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.buyers import left, line, millis, problem, told

if TYPE_CHECKING:
    from tests.support.buyers import Buyer, Shop


# holding


async def test_a_hold_takes_its_units_out_of_what_others_see(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(line(3))
    assert (held["status"], held["current_status"], held["mode"]) == ("held", "held", "hold")
    assert held["id"] == f"{held['epoch']}.{held['seq']}"
    assert held["lines"] == [{"sku": "TEE", "quantity": 3, "location": None, "sold_from": []}]
    assert await left(await shop.buyer()) == 7
    assert await shop.ledger() == [("TEE", "", "held:3")]


@pytest.mark.parametrize(
    ("mode", "least", "default", "most"),
    [("intent", 1000, 3000, 5000), ("hold", 1000, 15_000, 60_000), ("cart", 1000, 900_000, 900_000)],
)
async def test_each_mode_has_its_lifetimes(
    buyer: Buyer, mode: str, least: int, default: int, most: int
) -> None:
    for ttl_ms in (least - 1, most + 1, 0, -1):
        heard = await buyer.post("", {"lines": [line()], "mode": mode, "ttl_ms": ttl_ms})
        assert problem(heard) == (422, "invalid_request")
        assert f"from {least} to {most}" in heard.problem["detail"]
    lives = [await lifetime(buyer, mode=mode, ttl_ms=ttl_ms) for ttl_ms in (least, most)]
    assert [*lives, await lifetime(buyer, mode=mode)] == [least, most, default]


async def lifetime(buyer: Buyer, **about: Any) -> int:
    held = await buyer.hold(**about)
    return millis(held["expires_at"]) - int(held["granted_at_us"]) // 1000


async def test_all_lines_are_held_or_none(shop: Shop, buyer: Buyer) -> None:
    await shop.has(2, "MUG")
    answer = await buyer.refused(line(4), line(3, "MUG"))
    assert (answer["reason"], answer["sku"], answer["available"]) == ("insufficient", "MUG", 2)
    assert (await left(buyer), await left(buyer, "MUG")) == (10, 2)
    held = await buyer.hold(line(4), line(2, "MUG"))
    assert [row["sku"] for row in held["lines"]] == ["TEE", "MUG"]
    assert (await left(buyer), await left(buyer, "MUG")) == (6, 0)


async def test_lines_on_one_sku_are_judged_by_their_sum(buyer: Buyer) -> None:
    answer = await buyer.refused(line(6), line(5))
    assert (answer["reason"], answer["available"]) == ("insufficient", 10)
    held = await buyer.hold(line(6), line(4))
    assert held["lines"] == [{"sku": "TEE", "quantity": 10, "location": None, "sold_from": []}]


async def test_a_located_hold_is_judged_by_its_location(shop: Shop, buyer: Buyer) -> None:
    await shop.has(4, location="WH2")
    assert (await buyer.refused(line(5, location="WH2")))["available"] == 4
    assert (await buyer.refused(line(1, location="WH9")))["available"] == 0
    await buyer.hold(line(3, location="WH2"))
    assert (await buyer.refused(line(1, location="WH2"), line(1, location="WH2")))["available"] == 1
    # What is held at one location is gone from the whole, and the whole bounds each location.
    assert (await buyer.refused(line(12)))["available"] == 11
    await buyer.hold(line(10, location="WH1"))
    assert (await buyer.refused(line(2, location="WH2")))["available"] == 1


async def test_lines_at_two_locations_are_held_together(shop: Shop, buyer: Buyer) -> None:
    await shop.has(4, location="WH2")
    held = await buyer.hold(line(2, location="WH1"), line(3, location="WH2"))
    committed = told(await buyer.commit(held, order_id="1001"))
    sold = [(row["location"], row["sold_from"]) for row in committed["lines"]]
    assert sold == [
        ("WH1", [{"location": "WH1", "quantity": 2}]),
        ("WH2", [{"location": "WH2", "quantity": 3}]),
    ]
    assert await left(buyer) == 9


async def test_who_may_not_split_is_judged_by_the_best_location(shop: Shop, buyer: Buyer) -> None:
    await shop.has(6, location="WH2")
    await shop.decide({"set": {"split": False}})
    answer = await buyer.refused(line(11))
    assert (answer["reason"], answer["available"]) == ("insufficient", 10)
    held = await buyer.hold(line(10))
    committed = told(await buyer.commit(held))
    assert committed["lines"][0]["sold_from"] == [{"location": "WH1", "quantity": 10}]


async def test_units_are_sold_where_there_are_most_and_split_where_nobody_has_all(
    shop: Shop, buyer: Buyer
) -> None:
    await shop.has(6, location="WH2")
    committed = told(await buyer.commit(await buyer.hold(line(13))))
    assert committed["lines"][0]["sold_from"] == [
        {"location": "WH1", "quantity": 10},
        {"location": "WH2", "quantity": 3},
    ]


async def test_grants_have_a_time_of_their_own_and_a_global_order(buyer: Buyer) -> None:
    held = [await buyer.hold() for _ in range(10)]
    times = [one["granted_at_us"] for one in held]
    assert times == sorted(set(times))
    assert [one["seq"] for one in held] == sorted(one["seq"] for one in held)


# renewing and ending


async def test_a_renewal_prolongs_and_never_shortens(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(ttl_ms=20_000)
    shorter = told(await buyer.renew(held, 1000))
    assert shorter["expires_at"] == held["expires_at"]
    await shop.later(10_000)
    longer = told(await buyer.renew(held, 20_000))
    assert millis(longer["expires_at"]) == millis(held["expires_at"]) + 10_000
    await shop.later(19_999)
    assert (await buyer.look(held))["status"] == "held"


async def test_no_hold_outlives_three_times_the_longest_time_of_its_mode(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(mode="intent", ttl_ms=5000)
    for _ in range(3):
        await shop.later(4000)
        told(await buyer.renew(held, 5000))
    assert millis((await buyer.look(held))["expires_at"]) == held["granted_at_us"] // 1000 + 15_000
    await shop.later(3000)
    assert problem(await buyer.renew(held, 5000)) == (410, "hold_expired")


@pytest.mark.parametrize("ttl_ms", [0, 999, 5001, 900_001, "2000", 1.5, None])
async def test_a_renewal_is_asked_for_within_the_modes_limits(buyer: Buyer, ttl_ms: object) -> None:
    held = await buyer.hold(mode="intent")
    heard = await buyer.post(f"/{held['id']}/renew", {"ttl_ms": ttl_ms})
    assert problem(heard) == (422, "invalid_request")
    assert (await buyer.look(held))["expires_at"] == held["expires_at"]


async def test_a_release_gives_back_exactly_what_was_held(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(line(3))
    released = told(await buyer.release(held))
    assert (released["status"], released["current_status"], released["expires_at"]) == (
        "released",
        "released",
        None,
    )
    assert await left(buyer) == 10
    assert (await shop.ledger())[-1] == ("TEE", "held:3", "released")


async def test_a_deadline_gives_back_exactly_what_was_held(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(line(3), ttl_ms=2000)
    await shop.later(1999)
    assert await left(buyer) == 7
    await shop.later(1)
    assert await left(buyer) == 10
    assert (await shop.ledger())[-1] == ("TEE", "held:3", "expired")
    assert (await buyer.look(held))["status"] == "expired"


@pytest.mark.parametrize("verb", ["renew", "commit", "release"])
async def test_over_is_over_in_every_verb_before_the_reaper_came(shop: Shop, buyer: Buyer, verb: str) -> None:
    held = await buyer.hold(ttl_ms=2000)
    await shop.set_clock(2000)
    assert (await buyer.look(held))["status"] == "expired"
    body = {"ttl_ms": 2000} if verb == "renew" else {}
    assert problem(await buyer.post(f"/{held['id']}/{verb}", body)) == (410, "hold_expired")
    assert await left(buyer) == 10


async def test_what_has_just_ended_can_be_held_again_before_the_reaper_came(shop: Shop, buyer: Buyer) -> None:
    for _ in range(10):
        await buyer.hold(ttl_ms=2000)
    await shop.set_clock(2000)
    await buyer.hold(line(10))


@pytest.mark.parametrize("end", ["commit", "release"])
@pytest.mark.parametrize("verb", ["renew", "commit", "release"])
async def test_what_is_over_cannot_be_changed(buyer: Buyer, end: str, verb: str) -> None:
    held = await buyer.hold()
    assert (await buyer.post(f"/{held['id']}/{end}", {})).status == 200
    body = {"ttl_ms": 2000} if verb == "renew" else {}
    heard = await buyer.post(f"/{held['id']}/{verb}", body)
    assert problem(heard) == (409, "conflict")
    assert {"commit": "committed", "release": "released"}[end] in heard.problem["detail"]
