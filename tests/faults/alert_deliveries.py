"""Faults in what is received and in the processes that receive, apply and tell it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

import aiohttp

from synchub.kit.clock import now_ms
from synchub.redis import CoalescingRedis
from synchub.stock import store as stock
from tests.faults.alert_trial import AlertFault, until
from tests.support.alerting import MINUTE_S
from tests.support.deliveries import body_of, level, signed
from tests.support.faulty_worker import POISON
from tests.support.hooked_platform import a_platform
from tests.support.merchants import add_merchant
from tests.support.processes import free_port
from tests.support.reader import FeedReader
from tests.support.registry import settings_for
from tests.support.rows import order, push
from tests.support.wait import eventually, lasting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis import Redis

    from tests.faults.alert_trial import Scene
    from tests.support.merchants import Merchant
    from tests.support.processes import Deployment

HOUR_MS: Final = 3_600_000
BACKLOG: Final = 10_200
AT_ONCE: Final = 50
_ids = itertools.count(1)


@contextlib.asynccontextmanager
async def posting(hub: Deployment, merchant: Merchant) -> AsyncIterator[Poster]:
    """Post deliveries of a merchant whom the api knows."""
    async with aiohttp.ClientSession() as session:
        poster = Poster(hub, merchant, session)
        await eventually(lambda: poster.is_taken(level("TEE", 1)), what="a delivery that is taken")
        yield poster


class Poster:
    """Posts signed deliveries."""

    def __init__(self, hub: Deployment, merchant: Merchant, session: aiohttp.ClientSession) -> None:
        self._hub = hub
        self.merchant = merchant
        self._session = session

    async def is_taken(self, *rows: dict[str, object]) -> bool:
        """Post rows; whether they were accepted."""
        return await self.post(body_of(*rows, sequence=next(_ids))) == 202

    async def post(self, body: bytes, *, signed_for: bytes | None = None) -> int:
        """Post a body and return the answer's status; ``signed_for``: the signature is that of another."""
        headers = signed(self.merchant, body if signed_for is None else signed_for,
                         message_id=f"msg_{next(_ids)}")  # fmt: skip
        url = self._hub.url + self.merchant.hook
        async with self._session.post(url, data=body, headers=headers) as answer:
            return answer.status

    async def beat(self, every_s: float) -> None:
        """Give a sign of life and say how soon the next one follows."""
        body = b'{"type": "stock.heartbeat", "data": {"every_s": %g}}' % every_s
        assert await self.post(body) == 202

    async def dated(self, units: int) -> None:
        """Tell a level, and when it was changed."""
        row = level("TEE", units, as_of=datetime.now(UTC).isoformat())
        assert await self.is_taken(row)


async def send_rubbish(scene: Scene) -> None:
    """Have a platform send what breaks its connector, what nobody understands, and what nobody has signed."""
    hub = scene.hub
    merchant = await add_merchant(hub.valkey.url)
    with hub.valkey.client() as client:
        async with posting(hub, merchant) as poster:
            with scene.scraped() as scrapes:
                await until(scrapes, 3)
                scene.strikes()
                assert await poster.is_taken(level(POISON, 1))
                assert await poster.is_taken(level("TEE", "many"))
                await eventually(
                    lambda: client.xlen("synchub:{ingest}:dead") == 1, within_s=20, what="a dead letter"
                )
                began = scrapes.turns
                while scrapes.turns < began + 12 * 60 / scrapes.stands_for_s:
                    forged = body_of(level("TEE", 3), sequence=next(_ids))
                    assert await poster.post(forged, signed_for=b"another") == 401
                    await lasting(0.05)


async def kill_everything(scene: Scene) -> None:
    """Kill the worker; when 10,000 deliveries wait, kill the api as well."""
    hub = scene.hub
    merchant = await add_merchant(hub.valkey.url)
    async with posting(hub, merchant) as poster:
        # A judgement is five seconds old when it is fresh, so its alert needs time that runs slower.
        with scene.scraped() as scrapes, scene.scraped(every_s=1.0) as slow:
            await until(slow, 2)
            scene.strikes()
            hub.workers[0].kill()
            began = slow.turns
            for _ in range(BACKLOG // AT_ONCE):
                posted = [poster.is_taken(level("TEE", units)) for units in range(AT_ONCE)]
                assert all(await asyncio.gather(*posted))
            await eventually(
                lambda: "\nsynchub_workers 0.0" in hub.api.text("/metrics"),
                within_s=20, what="a worker that is missed",
            )  # fmt: skip
            await until(scrapes, 4)
            await eventually(lambda: slow.turns >= began + 14, within_s=30, what="an old judgement")
            hub.api.kill()
            await until(scrapes, 2.5)


async def choke_worker(scene: Scene) -> None:
    """Stop the worker again and again for a moment, each time with a delivery on its way."""
    hub = scene.hub
    merchant = await add_merchant(hub.valkey.url)
    worker = hub.workers[0]
    with hub.valkey.client() as client:
        async with posting(hub, merchant) as poster, FeedReader(lambda: hub.url, merchant):
            with scene.scraped(every_s=0.2, stands_for_s=MINUTE_S) as scrapes:
                await until(scrapes, 3)
                scene.strikes()
                began = scrapes.turns
                while scrapes.turns < began + 22 * 60 / scrapes.stands_for_s:
                    units, pause_s = next(_ids), scene.chance.uniform(0.3, 0.5)
                    worker.freeze()
                    try:
                        assert await poster.is_taken(level("TEE", units))
                        await lasting(pause_s)
                    finally:
                        worker.thaw()
                    await eventually(partial(_tells, client, merchant, units), what="the change")


def _tells(client: Redis, merchant: Merchant, units: int) -> bool:
    return f"|{units}|" in str(client.hget(merchant.keys.sku("TEE"), "answer"))


async def leave_to_people(scene: Scene) -> None:
    """Leave things undone for an hour that only people can do: a mapping, a sale, an endpoint, an address."""
    hub = scene.hub
    merchant = await add_merchant(hub.valkey.url)
    await _sell_two_hours_ago(hub, merchant)
    async with a_platform(hub, is_mapped=False) as platform, posting(hub, merchant) as poster:
        await platform.is_in("sound", repairs=0)
        with scene.scraped(stands_for_s=MINUTE_S) as scrapes:
            await until(scrapes, 5)
            scene.strikes()
            for url in (f"http://127.0.0.1:{free_port()}/", "http://127.0.0.2/"):
                await _subscribe(hub, merchant, url)
            assert await platform.change(4) == 200
            assert await poster.is_taken(level("CAP", 2))
            await eventually(lambda: _waits(hub, platform.merchant), what="an item that waits")
            # Counted once a minute, and when a worker begins.
            await asyncio.to_thread(hub.workers[0].stop)
            await asyncio.to_thread(hub.restore)
            await until(scrapes, 80)


def _waits(hub: Deployment, merchant: Merchant) -> bool:
    with hub.valkey.client() as client:
        return any("parked" in str(key) for key in client.scan_iter(f"*{merchant.name}*"))


async def _sell_two_hours_ago(hub: Deployment, merchant: Merchant) -> None:
    """Have a sale in the books that no level has contained since; time passes as the test says."""
    settings = settings_for(hub.valkey.url)
    settings = settings.model_copy(update={"stock": settings.stock.model_copy(update={"clock": "proposed"})})
    redis = CoalescingRedis(settings.redis)
    sold_ms = now_ms() - 2 * HOUR_MS
    rows = [
        push(10, at=sold_ms, version=1, account=merchant.account, item="SOLD"),
        order(2, at=sold_ms, version=2, account=merchant.account, item="SOLD"),
    ]
    try:
        await stock.apply_rows(redis, merchant.keys, rows, now_ms=sold_ms, settings=settings)
    finally:
        await redis.close()


async def _subscribe(hub: Deployment, merchant: Merchant, url: str) -> None:
    headers = {"Authorization": f"Bearer {merchant.key}"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def is_made() -> bool:
            async with session.post(f"{hub.url}/v1/subscriptions", json={"url": url}) as answer:
                return answer.status in {201, 409}

        await eventually(is_made, what="the subscription")


FAULTS: Final = (
    AlertFault(
        name="rubbish",
        alerts=("SynchubDeadLetters", "SynchubQuarantineGrows", "SynchubSignaturesFail"),
        act=send_rubbish,
        worker=("tests.support.faulty_worker",),
    ),
    AlertFault(
        name="all-killed",
        alerts=(
            "SynchubNoWorker", "SynchubDeliveriesWait", "SynchubIngestBacklog", "SynchubNobodyJudges",
            "SynchubProcessDown", "SynchubAway",
        ),
        act=kill_everything,
    ),
    AlertFault(
        name="worker-choked",
        alerts=("SynchubChangesLateFast", "SynchubChangesLateSlow", "SynchubEventLoopLags"),
        act=choke_worker,
    ),
    AlertFault(
        name="left-undone",
        alerts=("SynchubParked", "SynchubSalesOverdue", "SynchubPushWaits", "SynchubPushForbidden"),
        act=leave_to_people,
        settings={
            "STOCK__CLOCK": "proposed",
            "STOCK__SETTLE_AFTER_HOURS": "1",
            "SUBSCRIPTIONS__PRIVATE_TARGETS": "127.0.0.1/32",
        },
    ),
)  # fmt: skip
