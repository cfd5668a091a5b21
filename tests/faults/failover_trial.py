"""Fail-overs of real servers under real processes, with clients that keep what they are promised.

Each trial returns when all promises were found kept, and raises when one was not.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from synchub.agents import operations as agents
from synchub.agents.operations import NewAgent
from synchub.redis import CoalescingRedis
from synchub.settings import RedisSettings
from tests.faults.conftest import SHORT_WAITS
from tests.support.deliveries import body_of, level, signed
from tests.support.keepers import Keepers
from tests.support.merchants import add_merchant
from tests.support.pair import open_pair
from tests.support.processes import Deployment
from tests.support.reader import FeedReader
from tests.support.wait import eventually, lasting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from tests.support.merchants import Merchant
    from tests.support.pair import Pair
    from tests.support.valkey import Valkey

    Trial = Callable[[Path, int], Coroutine[Any, Any, None]]

SKU: Final = "HOT"
UNITS: Final = 400
WINDOW_MS: Final = 2000


class Shop:
    """Processes behind a door to a pair of servers, and a merchant whose only SKU is wanted by many."""

    def __init__(self, pair: Pair, hub: Deployment, merchant: Merchant, key: str) -> None:
        self.pair, self.hub, self.merchant, self.key = pair, hub, merchant, key

    def head(self, server: Valkey) -> dict[str, str]:
        with server.client() as client:
            head: dict[str, str] = client.hgetall(self.merchant.keys.head)
        return head

    def ledger(self, server: Valkey) -> list[tuple[int, dict[str, str]]]:
        with server.client() as client:
            entries: Any = client.xrange(self.merchant.keys.ledger)
        return [(int(name.partition("-")[0]), fields) for name, fields in entries]

    async def available(self) -> int:
        headers = {"Authorization": f"Bearer {self.key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.get(f"{self.hub.url}/v1/stock/{SKU}") as answer,
        ):
            return int((await answer.json()).get("available") or 0)

    async def stock_up(self) -> None:
        body = body_of(level(SKU, UNITS), sequence=1)

        async def is_told() -> bool:
            async with (
                aiohttp.ClientSession() as http,
                http.post(
                    self.hub.url + self.merchant.hook, data=body, headers=signed(self.merchant, body)
                ) as answer,
            ):
                return answer.ok and await self.available() == UNITS

        await eventually(is_told, what="the stock")


@contextlib.asynccontextmanager
async def open_shop(folder: Path) -> AsyncIterator[Shop]:
    async with open_pair(folder / "store") as pair:
        settings = {
            **SHORT_WAITS,
            "REDIS__URL": pair.door.url,
            "RESERVATIONS__REGRANT_WINDOW_MS": str(WINDOW_MS),
        }
        hub = Deployment(folder / "hub", settings=settings)
        try:
            await asyncio.to_thread(hub.start)
            merchant = await add_merchant(pair.first.url)
            shop = Shop(pair, hub, merchant, await _key_of(pair, merchant))
            await shop.stock_up()
            yield shop
        finally:
            print(hub.logs())  # noqa: T201 - pytest shows it with a failure
            await asyncio.to_thread(hub.stop)


async def lagging_replica(folder: Path, seed: int) -> None:
    """The primary dies while its replica is behind: what is lost is noticed, and shown again."""
    chance = random.Random(seed)
    async with open_shop(folder) as shop, _buying(shop, seed) as keepers:
        async with FeedReader(lambda: shop.hub.url, shop.merchant) as reader:
            await _promised(keepers, chance.randint(15, 40))
            before = shop.head(shop.pair.first)
            shop.pair.line.hole()
            await _promised(keepers, chance.randint(5, 15))
            shop.pair.first.kill()
            await _take_over(shop)
            await _shown_and_thawed(keepers)
            await _sold_out(keepers)
            after = shop.head(shop.pair.second)
            await reader.reach(int(after["feed_seq"]))
        assert keepers.answers["restored restored"] > 0, keepers.answers
        assert after["epoch"] != before["epoch"]
        assert after["former"].split()[0] == before["epoch"]
        assert reader.counts["reset"] >= 1, reader.counts
        assert reader.broken == []
        await _all_is_kept(shop, keepers)


async def deposed_primary(folder: Path, seed: int) -> None:
    """The primary hangs, is replaced, wakes up and is made a replica: nothing changes by that."""
    chance = random.Random(seed)
    async with open_shop(folder) as shop, _buying(shop, seed) as keepers:
        await _promised(keepers, chance.randint(15, 40))
        shop.pair.line.hole()
        await _promised(keepers, chance.randint(5, 15))
        shop.pair.first.freeze()
        await lasting(chance.uniform(0.2, 1.0))
        await _take_over(shop)
        await _shown_and_thawed(keepers)
        epoch = shop.head(shop.pair.second)["epoch"]
        # It carries out what was sent to it while it hung, and nobody hears of that.
        shop.pair.first.thaw()
        await lasting(chance.uniform(0.1, 0.5))
        assert shop.head(shop.pair.first)["epoch"] != epoch
        shop.pair.demote()
        await _sold_out(keepers)
        await shop.pair.demoted()
        assert shop.head(shop.pair.second)["epoch"] == epoch
        await _all_is_kept(shop, keepers)
        assert shop.ledger(shop.pair.first) == shop.ledger(shop.pair.second)


async def handed_over(folder: Path, seed: int) -> None:
    """The primary hands over in good order: nothing is lost and nobody is frozen."""
    async with open_shop(folder) as shop, _buying(shop, seed) as keepers:
        await _promised(keepers, 15)
        before = shop.head(shop.pair.first)
        await shop.pair.hand_over()
        shop.pair.door.turn_to(shop.pair.second.port)
        await _promised(keepers, 15)
        await _sold_out(keepers)
        after = shop.head(shop.pair.second)
        assert keepers.answers["503 frozen"] == 0, keepers.answers
        assert after["epoch"] == before["epoch"]
        assert after["run"] != before["run"]
        await _all_is_kept(shop, keepers)


FAIL_OVERS: Final[dict[str, Trial]] = {
    "lagging-replica": lagging_replica,
    "deposed-primary": deposed_primary,
    "handed-over": handed_over,
}


@contextlib.asynccontextmanager
async def _buying(shop: Shop, seed: int) -> AsyncIterator[Keepers]:
    async with Keepers(lambda: shop.hub.url, shop.key, sku=SKU, seed=seed) as keepers:
        keepers.begin()
        try:
            yield keepers
        finally:
            await keepers.end()


async def _take_over(shop: Shop) -> None:
    shop.pair.promote()
    shop.pair.door.turn_to(shop.pair.second.port)


async def _shown_and_thawed(keepers: Keepers) -> None:
    await eventually(lambda: keepers.answers["503 frozen"] > 0, what="the freeze")
    await keepers.show_again()
    granted = len(keepers.promises)
    await eventually(lambda: len(keepers.promises) > granted, what="the thaw")


async def _sold_out(keepers: Keepers) -> None:
    refused = "hold 200 refused"
    await eventually(lambda: keepers.answers[refused] > 0, within_s=30, what="the end of the stock")


async def _promised(keepers: Keepers, more: int) -> None:
    at_least = len(keepers.promises) + more
    await eventually(lambda: len(keepers.promises) >= at_least, what=f"{more} more promises")


async def _all_is_kept(shop: Shop, keepers: Keepers) -> None:
    """Whoever was promised something has it, and no more was promised than there was."""
    await keepers.end()
    assert keepers.broken == []
    assert keepers.sold + keepers.held <= UNITS
    assert await shop.available() == UNITS - keepers.sold - keepers.held
    statuses = {one.id: await keepers.status(one) for one in keepers.promises.values()}
    assert statuses == {one.id: "committed" if one.is_sold else "held" for one in keepers.promises.values()}
    entries = shop.ledger(shop.pair.second)
    assert [seq for seq, _ in entries] == list(range(1, len(entries) + 1))
    assert min(int(float(fields["ats"] or 0)) for _, fields in entries) >= 0


async def _key_of(pair: Pair, merchant: Merchant) -> str:
    redis = CoalescingRedis(RedisSettings(url=pair.first.url))
    try:
        wanted = NewAgent(merchant=merchant.name, scopes=["stock:read", "feed:read", "reservations"])
        return (await agents.add_agent(redis, wanted)).key
    finally:
        await redis.close()
