"""What merchants decide about sources over HTTP: kits, totals, second items, roles, evidence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from synchub.agents import operations as agents
from synchub.agents.model import Kind
from synchub.agents.operations import NewAgent
from synchub.keyspace import MerchantKeys
from synchub.stock import operations as stock
from tests.support.deliveries import body_of, level
from tests.support.hub import Site, running_hub
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.hub import Heard


class Desk:
    """A merchant with an authority of its own SKUs and locations."""

    def __init__(self, site: Site, key: str) -> None:
        self.site = site
        self.account = site.merchant.account
        self._headers = {"Authorization": f"Bearer {key}"}

    async def ask(self, method: str, path: str, body: Any = None) -> Heard:
        """Send a request with the merchant's key."""
        return await self.site.ask(method, f"/v1/merchant/{path}", headers=self._headers, json=body)

    async def told(self, method: str, path: str, body: Any = None) -> Any:
        """What a successful request is answered."""
        heard = await self.ask(method, path, body)
        assert heard.status == 200, heard
        return json.loads(heard.body)

    async def report(self, *levels: dict[str, Any], number: int = 1) -> None:
        """Have the platform report."""
        await self.site.post(body_of(*levels, sequence=number))
        await self.site.drained()

    async def available(self, sku: str) -> int:
        """What an agent is told, once the reaper has had its turn."""
        hub, keys = self.site.hub, MerchantKeys(self.site.merchant.name)
        while (await stock.let_time_pass(hub.redis, keys, settings=hub.settings)).left:
            pass
        units: int = (await self.site.stock(sku))["available"]
        return units


@pytest.fixture
async def desk(redis_url: str) -> AsyncIterator[Desk]:
    async with running_hub(redis_url) as site:
        wanted = NewAgent(kind=Kind.MERCHANT, merchant=site.merchant.name)
        issued = await agents.add_agent(site.hub.redis, wanted)
        await eventually(lambda: site.hub.directory.find_agent(issued.key) is not None)
        yield Desk(site, issued.key)


async def test_a_kit_is_told_by_its_parts_and_shown(desk: Desk) -> None:
    parts = [{"sku": "TEE", "units": 3}, {"sku": "MUG", "units": 1}]
    body = {"account": desk.account, "item": "SET", "parts": [parts[0], {"sku": "MUG"}]}
    assert await desk.told("POST", "mappings", body) == {**body, "parts": parts}
    shown = await desk.told("GET", f"mappings?account={desk.account}")
    assert (shown["items"], shown["kits"], shown["items_total"]) == ({}, {"SET": parts}, 1)


@pytest.mark.parametrize(
    "about",
    [{}, {"sku": "A", "parts": [{"sku": "B"}]}, {"parts": []}, {"parts": [{"sku": "A", "units": 0}]}],
)
async def test_an_item_is_one_sku_or_has_parts(desk: Desk, about: dict[str, Any]) -> None:
    heard = await desk.ask("POST", "mappings", {"account": desk.account, "item": "SET", **about})
    assert (heard.status, heard.problem["code"]) == (422, "invalid_request")


async def test_a_second_item_is_shown_as_waiting_and_counts_as_decided(desk: Desk) -> None:
    await desk.told("POST", "mappings", {"account": desk.account, "item": "TEE-B", "sku": "TEE"})
    await desk.report(level("TEE", 5), level("TEE-B", 4))
    (waiting,) = (await desk.told("GET", f"mappings?account={desk.account}"))["parked"]
    place = waiting["locations"][0]
    assert (waiting["item"], waiting["waits_for"]) == ("TEE-B", "decision")
    assert waiting["undecided"] == [{"sku": "TEE", "location": place}]
    decided = {"sku": "TEE", "location": place, "decision": "sum"}
    told = await desk.told("POST", "sources", {"account": desk.account, **decided})
    assert told["tried"] == 1
    assert await desk.available("TEE") == 9
    shown = await desk.told("GET", f"mappings?account={desk.account}")
    assert (shown["decided"], shown["parked_total"]) == ([decided], 0)


async def test_a_total_is_mapped_with_what_it_covers(desk: Desk) -> None:
    body = {"account": desk.account, "theirs": "everything", "ours": "ALL", "covers": ["*"]}
    await desk.told("POST", "locations", body)
    await desk.report(level("TEE", 50) | {"location_id": "everything"}, level("MUG", 50))
    await desk.report(level("TEE", 7), number=2)
    assert await desk.available("TEE") == 7
    assert (await desk.told("GET", f"mappings?account={desk.account}"))["totals"] == {"ALL": ["*"]}
    heard = await desk.ask("POST", "locations", {**body, "theirs": "x", "covers": ["ALL"]})
    assert heard.status == 422


async def test_a_role_is_changed_and_what_it_changes_follows(desk: Desk) -> None:
    await desk.report(level("TEE", 5))
    path = f"accounts/{desk.account}/role"
    told = await desk.told("PUT", path, {"role": "contributor"})
    assert (told["role"], told["rank"]) == ("contributor", 1)
    assert await desk.available("TEE") == 0
    await desk.told("PUT", path, {"role": "authority", "rank": 3})
    assert await desk.available("TEE") == 5
    (account,) = (await desk.told("GET", "accounts"))["accounts"]
    assert (account["role"], account["rank"]) == ("authority", 3)
    for body in ({"role": "king"}, {"rank": 2}, {"role": "authority", "rank": 100}):
        assert (await desk.ask("PUT", path, body)).status == 422


async def test_evidence_is_shown_chosen_and_refused(desk: Desk) -> None:
    (shown,) = (await desk.told("GET", "evidence"))["evidence"]
    assert (shown["authority"], shown["origin"]) == (desk.account, desk.account)
    assert shown["measured"] == {"sales": 0, "lag_ms": None, "late": 0}
    chosen = {"authority": desk.account, "origin": "*", "way": "lag", "lag_ms": 90_000}
    told = await desk.told("PUT", "evidence", chosen)
    assert (told["lag_ms"], told["suspended_since"], "lag" in told["ways"]) == (90_000, None, True)
    for change in ({"way": "own"}, {"lag_ms": -1}, {"lag_ms": None}, {"way": "luck"}):
        heard = await desk.ask("PUT", "evidence", chosen | change)
        assert (heard.status, heard.problem["code"]) == (422, "invalid_request"), change
