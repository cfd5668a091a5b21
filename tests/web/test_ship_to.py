"""Where a sale is taken from when the buyer says where it goes: near places first, as far as they have it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from synchub.errors import InvalidRequest
from synchub.policies.operations import read_document
from tests.support.buyers import Buyer, Shop, left, line, open_shop, problem, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NEAR = {"DE": ["WH2", "WH3"], "GB": ["WH3"]}


@pytest.fixture
async def shop(redis_url: str) -> AsyncIterator[Shop]:
    """Three places, of which the first has most and the last is to be sold from before the second."""
    async with open_shop(redis_url) as opened:
        for place, units in {"WH1": 20, "WH2": 5, "WH3": 8}.items():
            await opened.has(units, location=place)
        await opened.decide(general={"destinations": NEAR})
        yield opened


@pytest.fixture
async def buyer(shop: Shop) -> Buyer:
    return await shop.buyer()


async def sold_from(buyer: Buyer, units: int, country: str = "", **about: Any) -> list[tuple[str, int]]:
    """Buy so many and say where they were taken from."""
    ship_to: dict[str, Any] = {"ship_to": {"country": country}} if country else {}
    held = await buyer.hold(line(units, **about), **ship_to)
    committed = told(await buyer.commit(held))
    return [(one["location"], one["quantity"]) for one in committed["lines"][0]["sold_from"]]


@pytest.mark.parametrize(
    ("country", "units", "places"),
    [
        ("", 2, [("WH1", 2)]),
        ("DE", 2, [("WH2", 2)]),
        ("GB", 2, [("WH3", 2)]),
        # Nearest that has all of it, and then whoever has.
        ("DE", 6, [("WH3", 6)]),
        ("DE", 15, [("WH1", 15)]),
        ("FR", 2, [("WH1", 2)]),
        # Nobody has all of it: the near ones are emptied first.
        ("DE", 25, [("WH2", 5), ("WH3", 8), ("WH1", 12)]),
    ],
)
async def test_near_places_come_first(
    buyer: Buyer, country: str, units: int, places: list[tuple[str, int]]
) -> None:
    assert await sold_from(buyer, units, country) == places
    assert await left(buyer) == 33 - units


async def test_a_line_that_names_its_place_is_taken_from_there(buyer: Buyer) -> None:
    assert await sold_from(buyer, 2, "DE", location="WH1") == [("WH1", 2)]


async def test_the_general_order_counts_among_places_that_are_equally_near(shop: Shop, buyer: Buyer) -> None:
    await shop.decide(general={"destinations": {"DE": ["WH9"]}, "locations": ["WH3"]})
    assert await sold_from(buyer, 2, "DE") == [("WH3", 2)]


async def test_the_ledger_says_where_it_went_and_what_was_chosen(shop: Shop, buyer: Buyer) -> None:
    await sold_from(buyer, 2, "DE")
    client: Any = shop.site.hub.client
    [(_, last)] = await client.xrevrange(shop.site.merchant.keys.ledger, count=1)
    assert (last[b"to"], last[b"loc"], last[b"ship_to"]) == (b"committed", b"WH2", b"DE")


async def test_a_repeat_and_a_part_go_where_the_hold_goes(buyer: Buyer) -> None:
    ship_to = {"country": "DE", "region": "BE", "postal_code": "10115"}
    held = await buyer.hold(line(4), ship_to=ship_to, once="k")
    assert await buyer.hold(line(4), ship_to=ship_to, once="k") == held
    other = await buyer.post("", {"lines": [line(4)], "ship_to": {"country": "GB"}}, once="k")
    assert problem(other) == (409, "idempotency_mismatch")
    committed = told(await buyer.commit(held, lines=[line(1)]))
    assert committed["lines"][0]["sold_from"] == [{"location": "WH2", "quantity": 1}]


@pytest.mark.parametrize(
    "ship_to", [{}, {"country": "de"}, {"country": "DEU"}, {"region": "BE"}, "DE", {"country": "DE", "x": 1}]
)
async def test_a_destination_that_does_not_fit_is_refused(buyer: Buyer, ship_to: Any) -> None:
    heard = await buyer.post("", {"lines": [line(1)], "ship_to": ship_to})
    assert problem(heard) == (422, "invalid_request")


@pytest.mark.parametrize("near", [{"Germany": ["WH1"]}, {"DE": []}, {"DE": ["WH1", "WH1"]}, {"DE": "WH1"}])
async def test_destinations_that_do_not_fit_are_refused(near: Any) -> None:
    with pytest.raises(InvalidRequest, match="destinations"):
        read_document(json.dumps({"general": {"destinations": near}}).encode())
