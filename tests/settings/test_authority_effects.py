"""What changes when a setting of doing without the store is changed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from synchub import metrics
from tests.support.deliveries import body_of, level
from tests.support.hub import Site, running_hub
from tests.support.wait import eventually
from tests.support.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartValkey
    from tests.support.hub import Heard

pytestmark = pytest.mark.fault

TIMES: Final = {"command_timeout_ms": 300, "connect_timeout_ms": 300}
SOON_MS: Final = 300
LONG_MS: Final = 600_000


@pytest.fixture
async def warehouse() -> AsyncIterator[Warehouse]:
    async with Warehouse().open() as one:
        yield one


def settings(**chosen: Any) -> dict[str, Any]:
    return {"redis": TIMES, "authority": {"after_ms": SOON_MS, "refresh_every_ms": LONG_MS, **chosen}}


async def stocked(site: Site, warehouse: Warehouse, *skus: str) -> None:
    """Have some SKUs reported and the maps of them read."""
    warehouse.levels = {sku: {"WH1": 20} for sku in skus}
    await site.post(body_of(*(level(sku, 7) for sku in skus), sequence=1))
    await site.drained()
    await site.hub.authority.snapshot.refresh()


async def away(site: Site) -> None:
    await eventually(lambda: site.hub.authority.is_needed, what="the outage noticed")


async def ask(site: Site, sku: str) -> Heard:
    headers = {"Authorization": f"Bearer {site.merchant.key}"}
    return await site.ask("GET", f"/v1/stock/{sku}", headers=headers)


async def test_sources_are_asked_when_the_store_has_been_away_for_so_long(
    own_valkey: StartValkey, warehouse: Warehouse
) -> None:
    loop = asyncio.get_running_loop()
    for after_ms in (200, 1500):
        valkey = own_valkey()
        async with running_hub(valkey.url, **settings(after_ms=after_ms)) as site:
            await stocked(site, warehouse, "TEE")
            killed = loop.time()
            valkey.kill()
            assert metrics.store_away._value.get() == 0
            await away(site)
            assert loop.time() - killed >= after_ms / 1000 - 0.1
            assert metrics.store_away._value.get() == 1
            assert (await ask(site, "TEE")).status == 200
            await asyncio.to_thread(valkey.start)
            await eventually(lambda: not site.hub.authority.is_needed, what="the store found again")


async def test_a_source_is_waited_for_as_long_as_the_deadline_says(
    own_valkey: StartValkey, warehouse: Warehouse
) -> None:
    for deadline_ms, status in ((200, 503), (20_000, 200)):
        valkey = own_valkey()
        async with running_hub(valkey.url, **settings(deadline_ms=deadline_ms)) as site:
            await stocked(site, warehouse, "TEE")
            valkey.kill()
            await away(site)
            warehouse.answers.clear()
            asking = asyncio.create_task(ask(site, "TEE"))
            await eventually(lambda: bool(warehouse.calls), what="the call")
            if status == 200:
                await asyncio.sleep(0.5)
                warehouse.answers.set()
            assert (await asking).status == status
            warehouse.answers.set()
            warehouse.calls.clear()


async def test_an_account_is_called_so_often_in_a_second(
    own_valkey: StartValkey, warehouse: Warehouse
) -> None:
    names = [f"SKU-{number}" for number in range(6)]
    for calls_per_s in (1, 6):
        valkey = own_valkey()
        warehouse.calls.clear()
        async with running_hub(valkey.url, **settings(calls_per_s=calls_per_s)) as site:
            await stocked(site, warehouse, *names)
            valkey.kill()
            await away(site)
            begun = asyncio.get_running_loop().time()
            statuses = [(await ask(site, name)).status for name in names]
            assert asyncio.get_running_loop().time() - begun < 10
        assert statuses.count(200) >= 1
        if calls_per_s == 6:
            assert statuses == [200] * 6
        else:
            assert 503 in statuses


async def test_no_more_is_kept_than_the_limit(own_valkey: StartValkey, warehouse: Warehouse) -> None:
    names = [f"SKU-{number}" for number in range(10)]
    for items_max, kept in ((4, 4), (0, 0), (1000, 10)):
        valkey = own_valkey()
        async with running_hub(valkey.url, **settings(items_max=items_max)) as site:
            await stocked(site, warehouse, *names)
            assert site.hub.authority.snapshot.size == kept
            assert metrics.authority_items._value.get() == kept


async def test_what_is_kept_is_read_again_so_often(own_valkey: StartValkey, warehouse: Warehouse) -> None:
    valkey = own_valkey()
    async with running_hub(valkey.url, **settings(refresh_every_ms=100)) as site:
        await site.post(body_of(level("NEW", 7), sequence=1))
        await site.drained()
        await eventually(lambda: site.hub.authority.snapshot.size == 1, what="the new SKU kept")
        warehouse.levels = {"NEW": {"WH1": 3}}
        valkey.kill()
        await away(site)
        assert json.loads((await ask(site, "NEW")).body)["available"] == 3
