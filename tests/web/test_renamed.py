"""A SKU gets another name: who asks for the old one, or holds it, gets the new one and is told so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from synchub.mappings import operations as mappings
from synchub.mappings.model import Part
from tests.support.buyers import Buyer, Shop, left, line, open_shop, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.hub import Heard


@pytest.fixture
async def shop(redis_url: str) -> AsyncIterator[Shop]:
    async with open_shop(redis_url) as opened:
        await opened.has(10, "OLD")
        await opened.has(4, "MUG")
        yield opened


@pytest.fixture
async def buyer(shop: Shop) -> Buyer:
    return await shop.buyer()


async def rename(shop: Shop, item: str, sku: str, *, units: int = 1) -> None:
    site = shop.site
    await mappings.map_parts(
        site.hub.redis,
        site.merchant.keys,
        site.merchant.account,
        item,
        [Part(sku=sku, units=units)],
        settings=site.hub.settings,
    )


async def ask(buyer: Buyer, path: str, body: Any) -> Heard:
    return await buyer.site.ask("POST", f"/v1/stock/{path}", headers=buyer.headers, json=body)


async def test_who_asks_for_the_old_name_gets_the_new_one_and_is_told_so(shop: Shop, buyer: Buyer) -> None:
    await rename(shop, "OLD", "NEW")
    await shop.has(9, "OLD")  # the platform goes on calling its item as it did
    answer = await buyer.stock("OLD")
    assert (answer["sku"], answer["asked_sku"], answer["available"]) == ("NEW", "OLD", 9)
    new = await buyer.stock("NEW")
    assert "asked_sku" not in new
    assert answer["checksum"] == new["checksum"]
    assert (await buyer.stock("OLD", "?quantity=3"))["covers"] is True


async def test_the_feed_has_the_tombstone_of_the_old_name(shop: Shop, buyer: Buyer) -> None:
    await rename(shop, "OLD", "NEW")
    await shop.has(9, "OLD")
    client: Any = shop.site.hub.client
    entries = await client.xrange(shop.site.merchant.keys.feed)
    last = {fields[b"sku"]: fields[b"answer"].split(b"|") for _, fields in entries}
    assert (last[b"OLD"][5], last[b"NEW"][5]) == (b"1", b"0")
    assert await buyer.site.hub.client.zscore(shop.site.merchant.keys.skus, "OLD") is not None


async def test_old_and_new_name_in_one_question_are_one_sku(shop: Shop, buyer: Buyer) -> None:
    await rename(shop, "OLD", "NEW")
    await shop.has(9, "OLD")
    items = [{"sku": "OLD", "quantity": 5}, {"sku": "MUG"}, {"sku": "NEW", "quantity": 5}]
    answers = told(await ask(buyer, "query", {"items": items}))["answers"]
    assert [(one["sku"], one.get("asked_sku")) for one in answers] == [
        ("NEW", "OLD"),
        ("MUG", None),
        ("NEW", None),
    ]
    assert [one.get("covers") for one in answers] == [False, None, False]


async def test_what_was_shown_under_the_new_name_is_verified_under_either(shop: Shop, buyer: Buyer) -> None:
    await rename(shop, "OLD", "NEW")
    await shop.has(9, "OLD")
    seen = (await buyer.stock("OLD"))["checksum"]
    items = [{"sku": "OLD", "checksum": seen}, {"sku": "NEW", "checksum": seen}]
    results = told(await ask(buyer, "verify", {"items": items}))["results"]
    assert [(one["sku"], one["status"]) for one in results] == [("NEW", "current")] * 2


async def test_a_hold_on_the_old_name_holds_the_new_one_under_its_terms(shop: Shop, buyer: Buyer) -> None:
    await rename(shop, "OLD", "NEW")
    await shop.has(9, "OLD")
    await shop.decide({"scope": {"skus": ["NEW"]}, "set": {"buffer_units": 5}})
    seen = (await buyer.stock("OLD"))["checksum"]
    refused = await buyer.refused(line(5, "OLD"))
    assert (refused["sku"], refused["reason"], refused["available"]) == ("NEW", "insufficient", 4)
    assert refused["renamed"] == {"OLD": "NEW"}
    held = await buyer.hold(line(1, "OLD", checksum=seen), line(2, "NEW"), line(1, "MUG"), once="k")
    assert [(one["sku"], one["quantity"]) for one in held["lines"]] == [("NEW", 3), ("MUG", 1)]
    assert held["renamed"] == {"OLD": "NEW"}
    again = await buyer.hold(line(1, "OLD", checksum=seen), line(2, "NEW"), line(1, "MUG"), once="k")
    assert again == held
    assert await left(buyer, "NEW") == 1
    committed = told(await buyer.commit(held))
    assert "renamed" not in committed


async def test_a_repeated_refusal_names_the_same_sku(shop: Shop, buyer: Buyer) -> None:
    await rename(shop, "OLD", "NEW")
    await shop.has(9, "OLD")
    first = await buyer.refused(line(10, "OLD"), once="k")
    again = await buyer.refused(line(10, "OLD"), once="k")
    assert [(one["sku"], one["renamed"], one["answer"]["quantity"]) for one in (first, again)] == [
        ("NEW", {"OLD": "NEW"}, 10)
    ] * 2


async def test_a_name_that_is_used_again_is_what_it_says(shop: Shop, buyer: Buyer) -> None:
    await rename(shop, "OLD", "NEW")
    await shop.has(9, "OLD")
    await rename(shop, "OLD", "OLD")
    await shop.has(8, "OLD")
    back = await buyer.stock("OLD")
    assert (back["sku"], back["available"], "asked_sku" in back) == ("OLD", 8, False)
    assert (await buyer.stock("NEW"))["sku"] == "OLD"
    assert (await buyer.hold(line(1, "NEW")))["lines"][0]["sku"] == "OLD"


async def test_names_lead_to_the_last_one(shop: Shop, buyer: Buyer) -> None:
    await rename(shop, "OLD", "MIDDLE")
    await shop.has(9, "OLD")
    await rename(shop, "OLD", "NEW")
    await shop.has(8, "OLD")
    assert [(await buyer.stock(sku))["sku"] for sku in ("OLD", "MIDDLE", "NEW")] == ["NEW"] * 3


async def test_what_became_a_pack_or_was_never_another_is_discontinued(shop: Shop, buyer: Buyer) -> None:
    await rename(shop, "OLD", "MUG", units=3)
    answer = await buyer.stock("OLD")
    assert (answer["sku"], answer["state"], "asked_sku" in answer) == ("OLD", "DISCONTINUED", False)
    assert (await buyer.refused(line(1, "OLD")))["reason"] == "discontinued"


async def test_before_the_new_name_is_reported_nothing_is_known_of_it(shop: Shop, buyer: Buyer) -> None:
    await rename(shop, "OLD", "NEW")
    answer = await buyer.stock("OLD")
    assert (answer["sku"], answer["state"]) == ("NEW", "UNKNOWN_SKU")
    assert (await buyer.refused(line(1, "OLD")))["reason"] == "unknown_sku"


async def test_a_hold_from_before_the_rename_is_bought_as_it_was_held(shop: Shop, buyer: Buyer) -> None:
    held = await buyer.hold(line(2, "OLD"), once="k")
    await rename(shop, "OLD", "NEW")
    await shop.has(9, "OLD")
    committed = told(await buyer.commit(held))
    assert (committed["status"], committed["lines"][0]["sku"]) == ("committed", "OLD")
    again = await buyer.hold(line(2, "OLD"), once="k")
    assert (again["id"], again["lines"][0]["sku"], "renamed" in again) == (held["id"], "OLD", False)
