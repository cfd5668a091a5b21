"""What changes when a setting of fetching is changed."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.test_utils import TestServer

from synchub.connector_kit.manifest import ClientOffer
from synchub.kit.clock import now_ms
from synchub.kit.tasks import end
from synchub.polling import store
from synchub.redis import open_queue
from tests.support.hub import opened_hub, settings_with
from tests.support.merchants import CONNECTORS, add_merchant
from tests.support.polled import Platform
from tests.support.polled import a_desk as a_paged_desk
from tests.support.wait import eventually
from workers.polling import Nudger, fetch_levels

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from synchub.connector_kit.contract import Access, Client, Connector
    from synchub.connector_kit.events import StockEvent
    from synchub.hub import Hub
    from tests.support.merchants import Merchant

ANSWER_BYTES: Final = 3000


def a_platform(url: str) -> Connector:
    """A platform whose every answer is fetched from one address and says nothing of interest."""

    class Fetching:
        def __init__(self, access: Access) -> None:
            self._http = access.http

        async def fetch_levels(self, items: Sequence[str]) -> tuple[StockEvent, ...]:
            assert items
            await self._http.send("GET", url)
            return ()

    client: type[Client] = Fetching
    offer = ClientOffer(fetch_levels_max=25)
    standard = CONNECTORS["standard"]
    return replace(standard, client=client, manifest=standard.manifest.model_copy(update={"client": offer}))


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A worker's view of one account that has one item to fetch."""

    hub: Hub
    merchant: Merchant

    async def fetch(self) -> int:
        """Do what the job does; returns how many items were fetched."""
        return await fetch_levels({"hub": self.hub}, self.merchant.account)

    async def failures(self) -> int:
        """How often a fetch has failed since the last success."""
        keys = self.merchant.keys
        return int(await self.hub.redis.execute("GET", keys.fetch_failures(self.merchant.account)) or 0)

    async def pause_ms(self) -> int:
        """For how long nobody will ask the platform; below 0 when anybody may."""
        lease = self.merchant.keys.fetch_lease(self.merchant.account)
        return int(await self.hub.redis.execute("PTTL", lease))


@contextlib.asynccontextmanager
async def a_desk(redis_url: str, path: str, **refetch: int) -> AsyncIterator[Desk]:
    merchant = await add_merchant(redis_url)
    async with (
        TestServer(answers()) as server,
        opened_hub(settings_with(redis_url, refetch=refetch)) as hub,
    ):
        hub.connectors["standard"] = a_platform(str(server.make_url(path)))
        await hub.redis.execute("ZADD", merchant.keys.refetch(merchant.account), now_ms(), "TEE")
        yield Desk(hub=hub, merchant=merchant)


def answers() -> web.Application:
    """A platform's API: one answer in time, one a failure."""

    async def at_once(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * ANSWER_BYTES)

    async def failing(_: web.Request) -> web.Response:
        return web.Response(status=500)

    app = web.Application()
    app.router.add_get("/at-once", at_once)
    app.router.add_get("/failing", failing)
    return app


async def test_the_first_pause_after_a_failure_is_no_longer_than_the_base(redis_url: str) -> None:
    async with a_desk(redis_url, "/failing", backoff_base_ms=10) as desk:
        assert await desk.fetch() == 0
        assert await desk.failures() == 1
        assert await desk.pause_ms() <= 10


async def test_no_pause_after_failures_is_longer_than_the_longest(redis_url: str) -> None:
    async with a_desk(redis_url, "/failing", backoff_base_ms=10_000_000, backoff_max_ms=100) as desk:
        assert await desk.fetch() == 0
        assert await desk.failures() == 1
        assert await desk.pause_ms() <= 100


async def test_what_is_due_is_found_by_the_next_sweep(redis_url: str) -> None:
    async with a_desk(redis_url, "/at-once", sweep_every_ms=100) as desk:
        assert await store.count_due(
            desk.hub.redis, desk.merchant.keys, desk.merchant.account, now_ms=now_ms()
        )
        queue = open_queue(desk.hub.settings.redis)
        sweeping = asyncio.create_task(Nudger(desk.hub, queue).run())
        # The default would be the first to look after two seconds.
        await eventually(lambda: has_job(desk.hub), within_s=1.5, what="a job")
        await end(sweeping)
        await queue.aclose()


async def test_when_more_items_wait_everything_is_read_instead(redis_url: str) -> None:
    platform = Platform()
    platform.has(5)
    async with a_paged_desk(redis_url, platform, refetch={"items_max": 2}) as desk:
        await desk.wishes({"TEE": 1, "MUG": 2})
        await fetch_levels({"hub": desk.hub}, desk.merchant.account)
        assert sorted(platform.fetched) == ["MUG", "TEE"]
        await desk.wishes({"TEE": 1, "MUG": 2, "CAP": 3})
        platform.fetched.clear()
        for _ in range(2):
            await fetch_levels({"hub": desk.hub}, desk.merchant.account)
        assert platform.fetched == []
        await desk.poll()
        assert await desk.due() == set(), "all of it has been read"
        await desk.poll()
        assert platform.asked == ["", "1"], "and once is enough"


async def has_job(hub: Hub) -> bool:
    return bool(await hub.redis.execute("ZCARD", "arq:queue"))
