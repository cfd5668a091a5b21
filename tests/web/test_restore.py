"""An agent shows its tokens again: over HTTP, with the key that they were given to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from synchub.agents import operations as agents
from synchub.agents.operations import NewAgent
from tests.support.deliveries import body_of, level
from tests.support.hub import running_hub
from tests.support.merchants import add_merchant
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.hub import Heard, Site

PATH = "/v1/reservations"


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with running_hub(redis_url) as opened:
        await opened.post(body_of(level("TEE", 5), sequence=1))
        await opened.drained()
        yield opened


async def key_of(site: Site, merchant: str = "", *scopes: str) -> str:
    wanted = NewAgent(merchant=merchant or site.merchant.name, scopes=list(scopes) or ["reservations"])
    issued = await agents.add_agent(site.hub.redis, wanted)
    await eventually(lambda: site.hub.directory.find_agent(issued.key) is not None)
    return issued.key


async def post(site: Site, key: str, path: str, body: dict[str, Any]) -> Heard:
    return await site.ask("POST", PATH + path, headers={"Authorization": f"Bearer {key}"}, json=body)


async def held(site: Site, key: str) -> dict[str, Any]:
    heard = await post(site, key, "", {"lines": [{"sku": "TEE", "quantity": 2}]})
    assert heard.status == 201, heard
    found: dict[str, Any] = json.loads(heard.body)
    return found


async def restored(site: Site, key: str, *tokens: str) -> list[dict[str, Any]]:
    heard = await post(site, key, "/restore", {"tokens": list(tokens)})
    assert heard.status == 200, heard
    results: list[dict[str, Any]] = json.loads(heard.body)["results"]
    return results


async def lose_holds(site: Site) -> None:
    """Take away every trace of the merchant's holds, as if they had never been granted."""
    tag = site.merchant.keys.tag
    answer = await site.hub.redis.execute("HGET", site.merchant.keys.sku("TEE"), "answer")
    parts = answer.decode().split("|")
    parts[2], parts[3] = "5", "0"
    await site.hub.redis.execute("HSET", site.merchant.keys.sku("TEE"), "answer", "|".join(parts))
    for family in ("holds", "holds-due", "sku-holds:TEE", "lines", "names", "open:TEE"):
        await site.hub.redis.execute("DEL", tag + family)


async def test_a_token_that_is_shown_again_is_held_again(site: Site) -> None:
    key = await key_of(site)
    hold = await held(site, key)
    await lose_holds(site)
    [first] = await restored(site, key, hold["token"])
    assert (first["outcome"], first["reason"]) == ("restored", None)
    assert (first["reservation"]["id"], first["reservation"]["status"]) == (hold["id"], "held")
    [again] = await restored(site, key, first["reservation"]["token"])
    assert again["outcome"] == "known"
    assert (await site.stock("TEE"))["available"] == 3


async def test_a_receipt_comes_with_the_commit_and_is_a_sale_again(site: Site) -> None:
    key = await key_of(site)
    hold = await held(site, key)
    heard = await post(site, key, f"/{hold['id']}/commit", {"order_id": "order-1"})
    receipt = json.loads(heard.body)["token"]
    assert receipt != hold["token"]
    await lose_holds(site)
    [result] = await restored(site, key, receipt)
    assert result["reservation"]["status"] == "committed"
    assert result["reservation"]["order_id"] == "order-1"
    # The token of the hold says nothing new by now.
    [known] = await restored(site, key, hold["token"])
    assert (known["outcome"], known["reservation"]["status"]) == ("known", "committed")


@pytest.mark.parametrize("shows_the_hold_first", [False, True])
async def test_a_receipt_for_a_part_sells_no_more_than_that(
    site: Site, *, shows_the_hold_first: bool
) -> None:
    key = await key_of(site)
    hold = await held(site, key)
    heard = await post(site, key, f"/{hold['id']}/commit", {"lines": [{"sku": "TEE", "quantity": 1}]})
    receipt = json.loads(heard.body)["token"]
    await lose_holds(site)
    if shows_the_hold_first:
        [known] = await restored(site, key, hold["token"])
        assert known["reservation"]["status"] == "held"
    [result] = await restored(site, key, receipt)
    assert (result["outcome"], result["reservation"]["lines"][0]["quantity"]) == ("restored", 1)
    assert (await site.stock("TEE"))["available"] == 4


async def test_a_token_is_worth_nothing_to_others(site: Site, redis_url: str) -> None:
    hold = await held(site, await key_of(site))
    await lose_holds(site)
    other = await add_merchant(redis_url)
    for key in (await key_of(site), await key_of(site, other.name)):
        [result] = await restored(site, key, hold["token"])
        assert result == {"outcome": "refused", "reason": "not_a_token", "reservation": None}


@pytest.mark.parametrize(
    "body", [{}, {"tokens": []}, {"tokens": ["x"] * 51}, {"tokens": [1]}, {"token": "x"}]
)
async def test_a_body_that_does_not_fit_is_refused(site: Site, body: dict[str, Any]) -> None:
    assert (await post(site, await key_of(site), "/restore", body)).status == 422


async def test_it_needs_the_scope_of_reservations(site: Site) -> None:
    key = await key_of(site, "", "stock:read")
    assert (await post(site, key, "/restore", {"tokens": ["x"]})).status == 403
    assert (await post(site, "sak_nobody", "/restore", {"tokens": ["x"]})).status == 401


async def test_while_the_merchant_is_frozen_a_new_hold_is_answered_503(site: Site) -> None:
    key = await key_of(site)
    await site.hub.redis.execute("HSET", site.merchant.keys.head, "frozen", "99999999999999")
    heard = await post(site, key, "", {"lines": [{"sku": "TEE", "quantity": 2}]})
    assert (heard.status, heard.problem["code"]) == (503, "frozen")
    assert int(heard.headers["Retry-After"]) > 0
