"""Questions while the store is away: sources answer them, or nobody does; nothing comes from memory."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest

from synchub.policies import operations as policies
from tests.support.deliveries import body_of, level
from tests.support.fault_proxy import FaultProxy
from tests.support.hub import Site, running_hub
from tests.support.wait import eventually
from tests.support.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartValkey
    from tests.support.hub import Heard
    from tests.support.valkey import Valkey

AFTER: Final = {"after_ms": 300, "refresh_every_ms": 60_000}
TIMES: Final = {"command_timeout_ms": 300, "connect_timeout_ms": 300}


class Outage:
    """A hub whose store can be taken away, and the warehouse that its merchant's levels come from."""

    def __init__(self, site: Site, valkey: Valkey, warehouse: Warehouse) -> None:
        self.site, self.valkey, self.warehouse = site, valkey, warehouse

    async def tell(self, *levels: dict[str, Any], sequence: int = 1) -> None:
        """Have levels delivered and applied, and the maps read."""
        await self.site.post(body_of(*levels, sequence=sequence))
        await self.site.drained()
        await self.site.hub.authority.snapshot.refresh()

    async def begin(self) -> None:
        """Kill the store and wait until the hub does without it."""
        self.valkey.kill()
        await eventually(lambda: self.site.hub.authority.is_needed, what="the outage noticed")

    async def end(self) -> None:
        """Start the store again."""
        await asyncio.to_thread(self.valkey.start)
        await eventually(lambda: not self.site.hub.authority.is_needed, what="the store found again")

    async def ask(self, path: str, **about: Any) -> Heard:
        headers = {"Authorization": f"Bearer {self.site.merchant.key}"}
        return await self.site.ask("GET", f"/v1/stock/{path}", headers=headers, **about)

    async def post(self, path: str, body: dict[str, Any]) -> Heard:
        headers = {"Authorization": f"Bearer {self.site.merchant.key}"}
        return await self.site.ask("POST", path, json=body, headers=headers)

    async def decide(self, *rules: dict[str, Any]) -> None:
        """Make these the merchant's policies."""
        hub, merchant = self.site.hub, self.site.merchant.name
        form = policies.read_document(json.dumps({"rules": rules}).encode())
        await policies.replace(hub.redis, merchant, form, expected=0, author="anna", settings=hub.settings)
        await hub.policies.refresh(merchant)


@pytest.fixture
async def warehouse() -> AsyncIterator[Warehouse]:
    async with Warehouse().open() as one:
        yield one


@pytest.fixture
async def outage(own_valkey: StartValkey, warehouse: Warehouse) -> AsyncIterator[Outage]:
    valkey = own_valkey()
    async with running_hub(valkey.url, redis=TIMES, authority={**AFTER, "calls_per_s": 2}) as site:
        yield Outage(site, valkey, warehouse)


async def test_the_source_answers_for_itself(outage: Outage) -> None:
    await outage.tell(level("TEE", 7))
    outage.warehouse.levels = {"TEE": {"WH1": 3}}
    await outage.begin()
    heard = await outage.ask("TEE?quantity=4")
    told = json.loads(heard.body)
    assert heard.status == 200, told
    assert (told["state"], told["available"], told["covers"]) == ("LOW_STOCK", 3, False)
    assert told["degraded"] is True
    assert told["source"] == outage.site.merchant.account
    assert (told["seq"], told["epoch"], told["ver"], told["checksum"]) == (None, None, None, None)
    assert 0 <= told["age_ms"] < 5000
    assert 0 < told["ttl_ms"] <= 500
    assert outage.warehouse.calls == [["TEE"]]


async def test_all_locations_that_count_are_added_up(outage: Outage) -> None:
    await outage.tell(level("TEE", 7), level("TEE", 1, location="WH2"))
    outage.warehouse.levels = {"TEE": {"WH1": 20, "WH2": 30, "NEW": 500}}
    await outage.begin()
    told = json.loads((await outage.ask("TEE")).body)
    assert told["available"] == 50


async def test_part_of_the_stock_is_not_told_as_the_whole(outage: Outage) -> None:
    await outage.tell(level("TEE", 7), level("TEE", 1, location="WH2"))
    outage.warehouse.levels = {"TEE": {"WH1": 20}}
    await outage.begin()
    heard = await outage.ask("TEE")
    assert heard.problem["code"] == "store_unavailable"


async def test_nothing_is_remembered_from_one_question_to_the_next(outage: Outage) -> None:
    await outage.tell(level("TEE", 7))
    outage.warehouse.levels = {"TEE": {"WH1": 20}}
    await outage.begin()
    assert json.loads((await outage.ask("TEE")).body)["available"] == 20
    outage.warehouse.status = 500
    heard = await outage.ask("TEE")
    assert (heard.status, heard.problem["code"]) == (503, "store_unavailable")
    assert int(heard.headers["Retry-After"]) >= 1


async def test_what_the_process_does_not_hold_it_does_not_guess(outage: Outage) -> None:
    await outage.tell(level("TEE", 7))
    outage.warehouse.levels = {"TEE": {"WH1": 20}, "SECRET": {"WH1": 5}}
    await outage.begin()
    heard = await outage.ask("SECRET")
    assert (heard.status, heard.problem["code"]) == (503, "store_unavailable")
    assert "Retry-After" in heard.headers
    assert outage.warehouse.calls == []


async def test_each_sku_of_a_question_has_its_own_outcome(outage: Outage) -> None:
    await outage.tell(level("TEE", 7), level("MUG", 7))
    outage.warehouse.levels = {"TEE": {"WH1": 20}, "MUG": {"WH1": 0}}
    await outage.begin()
    items = [{"sku": "TEE", "quantity": 2}, {"sku": "NOBODY"}, {"sku": "MUG"}]
    heard = await outage.post("/v1/stock/query", {"items": items})
    told = json.loads(heard.body)
    assert heard.status == 200
    assert (told["seq"], told["epoch"]) == (None, None)
    tee, nobody, mug = told["answers"]
    assert (tee["sku"], tee["available"], tee["covers"]) == ("TEE", 20, True)
    assert (nobody["sku"], nobody["state"], nobody["problem"]["code"]) == (
        "NOBODY",
        None,
        "store_unavailable",
    )
    assert mug["state"] == "OUT_OF_STOCK"
    assert outage.warehouse.calls == [["TEE", "MUG"]]


async def test_a_question_without_any_answer_is_refused_as_a_whole(outage: Outage) -> None:
    await outage.begin()
    heard = await outage.post("/v1/stock/query", {"items": [{"sku": "A"}, {"sku": "B"}]})
    assert (heard.status, heard.problem["code"]) == (503, "store_unavailable")


async def test_what_was_shown_cannot_be_confirmed_but_the_present_number_is_told(outage: Outage) -> None:
    await outage.tell(level("TEE", 7))
    shown = await outage.site.stock("TEE")
    outage.warehouse.levels = {"TEE": {"WH1": 7}}
    await outage.begin()
    items = [{"sku": "TEE", "checksum": shown["checksum"]}]
    heard = await outage.post("/v1/stock/verify", {"items": items})
    [result] = json.loads(heard.body)["results"]
    assert (result["status"], result["answer"]["available"]) == ("unverified", 7)


async def test_a_hundred_askers_make_one_call(outage: Outage) -> None:
    await outage.tell(level("TEE", 7))
    outage.warehouse.levels = {"TEE": {"WH1": 20}}
    await outage.begin()
    outage.warehouse.answers.clear()
    asking = [asyncio.create_task(outage.ask("TEE")) for _ in range(100)]
    await eventually(lambda: len(outage.warehouse.calls) == 1, what="the call")
    outage.warehouse.answers.set()
    heard = await asyncio.gather(*asking)
    assert Counter(one.status for one in heard)[200] >= 90
    assert len(outage.warehouse.calls) <= 2


async def test_a_source_that_hangs_is_not_waited_for_beyond_the_deadline(outage: Outage) -> None:
    await outage.tell(level("TEE", 7))
    await outage.begin()
    outage.warehouse.answers.clear()
    async with asyncio.timeout(5):
        heard = await outage.ask("TEE")
    assert (heard.status, heard.problem["code"]) == (503, "store_unavailable")
    assert "in time" in heard.problem["detail"]


async def test_a_source_is_not_called_more_often_than_allowed(outage: Outage) -> None:
    names = [f"SKU-{n}" for n in range(30)]
    for number, part in enumerate((names[:15], names[15:]), start=1):
        await outage.tell(*(level(name, 7) for name in part), sequence=number)
    outage.warehouse.levels = {name: {"WH1": 20} for name in names}
    await outage.begin()
    for name in names:
        await outage.ask(name)
    times = outage.warehouse.times
    assert len(times) >= 2
    gaps = [later - earlier for earlier, later in zip(times, times[2:], strict=False)]
    assert all(gap > 0.9 for gap in gaps), gaps


async def test_the_merchants_policies_hold(outage: Outage) -> None:
    await outage.tell(level("TEE", 7), level("MUG", 7))
    await outage.decide(
        {"set": {"buffer_units": 5, "disclosure": "bucket"}},
        {"scope": {"skus": ["MUG"]}, "set": {"on_stale": "assume_out"}},
    )
    outage.warehouse.levels = {"TEE": {"WH1": 20}, "MUG": {"WH1": 20}}
    await outage.begin()
    tee = json.loads((await outage.ask("TEE")).body)
    assert (tee["state"], tee["available"]) == ("IN_STOCK", 10)
    mug = json.loads((await outage.ask("MUG")).body)
    assert (mug["state"], mug["policy"]["decided_by"]) == ("OUT_OF_STOCK", "on_stale")


async def test_nothing_is_held_and_deliveries_are_to_come_again(outage: Outage) -> None:
    await outage.tell(level("TEE", 7))
    outage.warehouse.levels = {"TEE": {"WH1": 20}}
    await outage.begin()
    hold = {"lines": [{"sku": "TEE", "quantity": 1}], "mode": "cart"}
    for heard in (
        await outage.post("/v1/reservations", hold),
        await outage.post("/v1/reservations/none/commit", {"order_id": "1"}),
        await outage.post("/v1/reservations/none/release", {}),
        await outage.site.post(body_of(level("TEE", 9), sequence=2)),
    ):
        assert (heard.status, heard.problem["code"]) == (503, "store_unavailable"), heard
        assert int(heard.headers["Retry-After"]) >= 1
    assert outage.warehouse.calls == []


async def test_an_agent_asks_no_more_than_it_may(own_valkey: StartValkey, warehouse: Warehouse) -> None:
    valkey = own_valkey()
    limits = {"agent_rate_per_s": 1, "agent_burst": 3}
    async with running_hub(valkey.url, redis=TIMES, authority=AFTER, limits=limits) as site:
        outage = Outage(site, valkey, warehouse)
        await outage.begin()
        statuses = [(await outage.ask("TEE")).status for _ in range(4)]
    assert statuses == [503, 503, 503, 429]


async def test_everything_goes_on_by_itself_when_the_store_is_back(outage: Outage) -> None:
    await outage.tell(level("TEE", 7))
    before = await outage.site.stock("TEE")
    outage.warehouse.levels = {"TEE": {"WH1": 20}}
    await outage.begin()
    assert (await outage.ask("TEE")).status == 200
    await outage.end()
    after = await outage.site.stock("TEE")
    assert (after["epoch"], after["available"]) == (before["epoch"], 7)
    assert (await outage.site.post(body_of(level("TEE", 9), sequence=2))).status == 202
    await outage.site.drained()
    await eventually(lambda: _has(outage, 9), what="the delivery's effect")


async def test_a_store_that_hangs_is_away_too_and_nobody_waits_for_it(outage: Outage) -> None:
    await outage.tell(level("TEE", 7))
    outage.warehouse.levels = {"TEE": {"WH1": 20}}
    outage.valkey.freeze()
    try:
        await eventually(lambda: outage.site.hub.authority.is_needed, what="the outage noticed")
        hold = {"lines": [{"sku": "TEE", "quantity": 1}], "mode": "cart"}
        assert (await outage.ask("TEE")).status == 200
        assert (await outage.post("/v1/reservations", hold)).problem["code"] == "store_unavailable"
    finally:
        outage.valkey.thaw()
    await eventually(lambda: not outage.site.hub.authority.is_needed, what="the store found again")
    assert (await outage.site.stock("TEE"))["available"] == 7


async def test_a_store_behind_a_black_hole_is_away_too(own_valkey: StartValkey, warehouse: Warehouse) -> None:
    valkey = own_valkey()
    async with (
        FaultProxy(valkey.port) as proxy,
        running_hub(proxy.url, redis=TIMES, authority=AFTER) as site,
    ):
        outage = Outage(site, valkey, warehouse)
        await outage.tell(level("TEE", 7))
        warehouse.levels = {"TEE": {"WH1": 20}}
        proxy.hole()
        await eventually(lambda: site.hub.authority.is_needed, what="the outage noticed")
        assert json.loads((await outage.ask("TEE")).body)["available"] == 20
        proxy.mend()
        await eventually(lambda: not site.hub.authority.is_needed, what="the store found again")
        assert (await site.stock("TEE"))["available"] == 7


async def test_a_store_that_takes_no_writes_is_away_too(outage: Outage) -> None:
    with outage.valkey.client() as client:
        client.replicaof("127.0.0.1", "1")
        await eventually(lambda: outage.site.hub.authority.is_needed, what="the outage noticed")
        client.replicaof("NO", "ONE")
    await eventually(lambda: not outage.site.hub.authority.is_needed, what="the store found again")


async def _has(outage: Outage, units: int) -> bool:
    return bool((await outage.site.stock("TEE"))["available"] == units)
