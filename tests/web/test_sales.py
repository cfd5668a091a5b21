"""Sales that no level contains yet, as a merchant's own tools find and settle them over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from synchub.agents import operations as agents
from synchub.agents.model import Kind
from synchub.agents.operations import NewAgent
from tests.support.deliveries import body_of, level
from tests.support.hub import Site, running_hub
from tests.support.merchants import add_merchant
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.hub import Heard

SALES = "/v1/merchant/sales"
SETTLEMENTS = "/v1/merchant/settlements"


class Desk:
    """A merchant who looks for sales, and the one system that tells of them."""

    def __init__(self, site: Site, key: str) -> None:
        self.site = site
        self.key = key

    async def ask(self, method: str, path: str, *, key: str = "", **about: Any) -> Heard:
        """Send a request with the merchant's key."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return await self.site.ask(method, path, headers=headers, **about)

    async def sales(self, query: str = "") -> dict[str, Any]:
        """One page."""
        heard = await self.ask("GET", SALES + query)
        assert heard.status == 200, heard
        page: dict[str, Any] = json.loads(heard.body)
        return page

    async def settle(self, **body: object) -> dict[str, Any]:
        """Settle one."""
        heard = await self.ask("POST", SETTLEMENTS, json={"reason": "sent by hand", **body})
        assert heard.status == 200, heard
        told: dict[str, Any] = json.loads(heard.body)
        return told

    async def sells(self, sku: str, units: int = 1, *, order: str = "1001") -> None:
        """Let the system tell that it has ten and has sold some of them."""
        row = {"order_id": order, "line": "1", "sku": sku, "quantity": units, "status": "placed"}
        heard = await self.site.post(body_of(level(sku, 10), sequence=next(self._numbers), orders=[row]))
        assert heard.status == 202
        await self.site.drained()

    _numbers = iter(range(1, 1000))


async def add_key(site: Site, merchant: str = "", **wanted: Any) -> str:
    """Somebody's key, known to the hub."""
    new = NewAgent(merchant=merchant or site.merchant.name, **wanted)
    issued = await agents.add_agent(site.hub.redis, new)
    await eventually(lambda: site.hub.directory.find_agent(issued.key) is not None)
    return issued.key


@pytest.fixture
async def desk(redis_url: str) -> AsyncIterator[Desk]:
    async with running_hub(redis_url) as site:
        yield Desk(site, await add_key(site, kind=Kind.MERCHANT))


async def test_a_merchant_without_open_sales_gets_an_empty_page(desk: Desk) -> None:
    assert await desk.sales() == {"sales": [], "cursor": None}


async def test_an_open_sale_is_told_with_names_age_and_what_is_pending(desk: Desk) -> None:
    await desk.sells("TEE", 3)
    [sale] = (await desk.sales("?open=1"))["sales"]
    account = desk.site.merchant.account
    assert sale.pop("age_ms") >= 0
    assert sale == {
        "name": f"order:{account}:1001:1:TEE",
        "names": [f"order:{account}:1001:1:TEE", "line:1001:1:TEE", "number:1001:TEE"],
        "sku": "TEE",
        "units": 3,
        "account": account,
        "reservation": None,
        "places": [{"location": "WH1", "quantity": 3}],
        "pending": [{"account": account, "item": "TEE", "location": "WH1", "quantity": 3}],
    }


async def test_a_settled_sale_gives_its_units_back_and_is_told_no_more(desk: Desk) -> None:
    await desk.sells("TEE", 3)
    assert (await desk.site.stock("TEE"))["available"] == 7
    [sale] = (await desk.sales())["sales"]
    told = await desk.settle(name=sale["name"])
    assert told == {"settled": True, "was_open": True, "seq": told["seq"]}
    assert (await desk.site.stock("TEE"))["available"] == 10
    assert (await desk.sales())["sales"] == []


async def test_settling_again_is_answered_and_changes_nothing(desk: Desk) -> None:
    await desk.sells("TEE", 3)
    await desk.settle(order="1001", sku="TEE")
    assert await desk.settle(order="1001", sku="TEE") == {"settled": True, "was_open": False, "seq": None}
    assert (await desk.site.stock("TEE"))["available"] == 10


@pytest.mark.parametrize("about", [{}, {"line": "1"}, {"line": "1", "account": True}])
async def test_a_sale_is_found_by_its_order_and_sku(desk: Desk, about: dict[str, Any]) -> None:
    await desk.sells("TEE", 3)
    if "account" in about:
        about = {**about, "account": desk.site.merchant.account}
    assert (await desk.settle(order="1001", sku="TEE", **about))["was_open"]


async def test_pages_follow_each_other(desk: Desk) -> None:
    for number in range(5):
        await desk.sells(f"SKU {number}", order=str(number))
    found, cursor = [], ""
    for _ in range(10):
        page = await desk.sales(f"?limit=2{cursor}")
        found += [sale["sku"] for sale in page["sales"]]
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}".replace(" ", "%20")
    assert found == [f"SKU {number}" for number in range(5)]


async def test_only_older_ones_are_told_when_asked_for(desk: Desk) -> None:
    await desk.sells("TEE")
    assert len((await desk.sales("?older_than=0s"))["sales"]) == 1
    assert (await desk.sales("?older_than=24h"))["sales"] == []


@pytest.mark.parametrize(
    "query",
    ["open=0", "older_than=soon", "limit=0", "limit=101", "limit=x", "cursor=", "cursor=x"],
)
async def test_a_question_that_makes_no_sense_is_refused_with_a_sentence(desk: Desk, query: str) -> None:
    heard = await desk.ask("GET", f"{SALES}?{query}")
    assert (heard.status, heard.problem["code"]) == (422, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "order:a:1:1:TEE"},
        {"reason": "x"},
        {"reason": "", "name": "order:a:1:1:TEE"},
        {"reason": "x", "name": "TEE"},
        {"reason": "x", "order": "1001"},
        {"reason": "x", "name": "order:a:1:1:TEE", "sku": "TEE"},
        {"reason": "x", "order": "1001", "sku": "a\u202eb"},
    ],
)
async def test_a_settlement_that_names_no_sale_is_refused(desk: Desk, body: dict[str, str]) -> None:
    heard = await desk.ask("POST", SETTLEMENTS, json=body)
    assert (heard.status, heard.problem["code"]) == (422, "invalid_request")


async def test_a_sale_that_does_not_exist_is_not_found(desk: Desk) -> None:
    heard = await desk.ask("POST", SETTLEMENTS, json={"reason": "x", "order": "1", "sku": "TEE"})
    assert (heard.status, heard.problem["code"]) == (404, "not_found")


async def test_another_merchant_sees_and_settles_nothing(desk: Desk, redis_url: str) -> None:
    await desk.sells("TEE", 3)
    other = await add_merchant(redis_url)
    key = await add_key(desk.site, other.name, kind=Kind.MERCHANT)
    heard = await desk.ask("GET", SALES, key=key)
    assert json.loads(heard.body)["sales"] == []
    heard = await desk.ask("POST", SETTLEMENTS, key=key, json={"reason": "x", "order": "1001", "sku": "TEE"})
    assert heard.status == 404
    assert (await desk.site.stock("TEE"))["available"] == 7


async def test_an_agent_may_neither_look_nor_settle(desk: Desk) -> None:
    key = desk.site.merchant.key
    assert (await desk.ask("GET", SALES, key=key)).status == 403
    assert (
        await desk.ask("POST", SETTLEMENTS, key=key, json={"reason": "x", "name": "order:a"})
    ).status == 403


async def test_a_key_that_may_only_look_cannot_settle(desk: Desk) -> None:
    key = await add_key(
        desk.site, kind=Kind.MERCHANT, name=f"{desk.site.merchant.name}-eyes", scopes=("merchant:read",)
    )
    assert (await desk.ask("GET", SALES, key=key)).status == 200
    assert (
        await desk.ask("POST", SETTLEMENTS, key=key, json={"reason": "x", "name": "order:a"})
    ).status == 403
