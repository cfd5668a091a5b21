"""The store loses its end while agents hold and buy: promises are kept, and nothing is sold twice."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from synchub.agents import operations as agents
from synchub.agents.operations import NewAgent
from synchub.redis import CoalescingRedis
from synchub.settings import RedisSettings
from tests.faults.conftest import SHORT_WAITS
from tests.support.deliveries import body_of, level, signed
from tests.support.history import keep, put_back
from tests.support.keepers import Keepers
from tests.support.merchants import add_merchant
from tests.support.processes import Deployment
from tests.support.reader import FeedReader
from tests.support.wait import eventually, lasting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.merchants import Merchant

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.xdist_group("lost-tail")]

SKU: Final = "HOT"
UNITS: Final = 1500
WINDOW_MS: Final = 4000


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Processes of this module alone: after a loss everything is another history."""
    settings = {**SHORT_WAITS, "RESERVATIONS__REGRANT_WINDOW_MS": str(WINDOW_MS)}
    with Deployment(tmp_path_factory.mktemp("hub"), workers=2, settings=settings) as started:
        yield started


async def test_what_was_promised_is_kept_and_nothing_is_granted_twice(
    hub: Deployment, seed: int, tmp_path: Path
) -> None:
    merchant = await add_merchant(hub.valkey.url)
    key = await _key_of(hub, merchant)
    await _stock_up(hub, merchant)
    is_over = asyncio.Event()
    async with (
        FeedReader(lambda: hub.url, merchant) as reader,
        Keepers(lambda: hub.url, key, sku=SKU, seed=seed) as keepers,
    ):
        buying = asyncio.create_task(keepers.buy_until(is_over.is_set))
        try:
            await lasting(random.Random(seed).uniform(0.5, 1.0))
            kept = await asyncio.to_thread(keep, hub.valkey, tmp_path / "kept")
            before = await _head(hub, merchant)
            await _promised(keepers, 20)
            await asyncio.to_thread(put_back, hub.valkey, kept)
            await eventually(lambda: keepers.answers["503 frozen"] > 0, what="the freeze")
            await keepers.show_again()
            shown = dict(keepers.answers)
            granted = len(keepers.promises)
            await eventually(lambda: len(keepers.promises) > granted, what="the thaw")
            refused = "hold 200 refused"
            await eventually(lambda: keepers.answers[refused] > 0, within_s=30, what="the end of the stock")
        finally:
            is_over.set()
            await buying
        after = await _head(hub, merchant)
        await reader.reach(int(after["feed_seq"]))
    assert keepers.broken == []
    assert shown["restored restored"] > 0, shown
    assert shown["restored known"] > 0, shown
    assert keepers.sold + keepers.held <= UNITS
    assert await _available(hub, merchant) == UNITS - keepers.sold - keepers.held
    async with Keepers(lambda: hub.url, key, sku=SKU, seed=seed) as asker:
        statuses = {one.id: await asker.status(one) for one in keepers.promises.values()}
    assert statuses == {one.id: "committed" if one.is_sold else "held" for one in keepers.promises.values()}
    assert after["epoch"] != before["epoch"]
    assert after["former"].split()[0] == before["epoch"]
    assert reader.counts["reset"] >= 1, reader.counts
    assert reader.broken == []
    entries = _ledger(hub, merchant)
    assert [seq for seq, _ in entries] == list(range(1, len(entries) + 1))
    assert [fields["to"] for _, fields in entries if fields["field"] == "epoch"] == [after["epoch"]]
    assert min(int(float(fields["ats"] or 0)) for _, fields in entries) >= 0


async def test_a_crash_that_loses_nothing_freezes_nobody(hub: Deployment, seed: int) -> None:
    merchant = await add_merchant(hub.valkey.url)
    key = await _key_of(hub, merchant)
    await _stock_up(hub, merchant)
    is_over = asyncio.Event()
    async with Keepers(lambda: hub.url, key, sku=SKU, seed=seed, clients=8) as keepers:
        buying = asyncio.create_task(keepers.buy_until(is_over.is_set))
        try:
            before = await _head(hub, merchant)
            for _ in range(2):
                await _promised(keepers, 5)
                await asyncio.to_thread(hub.valkey.restart)
            await _promised(keepers, 5)
        finally:
            is_over.set()
            await buying
    assert keepers.answers["503 frozen"] == 0, keepers.answers
    assert (await _head(hub, merchant))["epoch"] == before["epoch"]
    assert await _available(hub, merchant) == UNITS - keepers.sold - keepers.held


async def _promised(keepers: Keepers, more: int) -> None:
    at_least = len(keepers.promises) + more
    await eventually(lambda: len(keepers.promises) >= at_least, what=f"{more} more promises")


async def _key_of(hub: Deployment, merchant: Merchant) -> str:
    redis = CoalescingRedis(RedisSettings(url=hub.valkey.url))
    try:
        wanted = NewAgent(merchant=merchant.name, scopes=["stock:read", "feed:read", "reservations"])
        return (await agents.add_agent(redis, wanted)).key
    finally:
        await redis.close()


async def _stock_up(hub: Deployment, merchant: Merchant) -> None:
    body = body_of(level(SKU, UNITS), sequence=1)

    async def is_told() -> bool:
        async with (
            aiohttp.ClientSession() as http,
            http.post(hub.url + merchant.hook, data=body, headers=signed(merchant, body)) as answer,
        ):
            return answer.ok and await _available(hub, merchant) == UNITS

    await eventually(is_told, what="the stock")


async def _available(hub: Deployment, merchant: Merchant) -> int:
    headers = {"Authorization": f"Bearer {merchant.key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(f"{hub.url}/v1/stock/{SKU}") as answer,
    ):
        body: dict[str, Any] = await answer.json()
        return int(body.get("available", -1))


async def _head(hub: Deployment, merchant: Merchant) -> dict[str, str]:
    with hub.valkey.client() as client:
        head: dict[str, str] = client.hgetall(merchant.keys.head)
    return head


def _ledger(hub: Deployment, merchant: Merchant) -> list[tuple[int, dict[str, str]]]:
    with hub.valkey.client() as client:
        entries: Any = client.xrange(merchant.keys.ledger)
    return [(int(name.partition("-")[0]), fields) for name, fields in entries]
