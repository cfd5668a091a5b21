"""Faults of the store, of its clock and of what is kept beside it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from synchub.kit.clock import now_ms
from synchub.redis import CoalescingRedis
from synchub.stock import operations as stock
from tests.faults.alert_deliveries import posting
from tests.faults.alert_trial import AlertFault, until
from tests.support.deliveries import level
from tests.support.history import keep, put_back
from tests.support.merchants import add_merchant
from tests.support.reader import FeedReader
from tests.support.registry import settings_for
from tests.support.rows import push
from tests.support.wait import eventually

if TYPE_CHECKING:
    from tests.faults.alert_trial import Scene
    from tests.support.merchants import Merchant
    from tests.support.processes import Deployment

SKUS: Final = 2000
CHANGES: Final = 130_000
STEP: Final = 500
LINES: Final = 4
"""Steps that are written at once."""


async def kill_store(scene: Scene) -> None:
    """Kill the store of a hub that was well for some minutes."""
    merchant = await add_merchant(scene.hub.valkey.url)
    with scene.scraped() as scrapes:
        async with posting(scene.hub, merchant) as poster:
            assert await poster.is_taken(level("TEE", 2))
        await until(scrapes, 6)
        scene.strikes()
        scene.hub.valkey.kill()
        await until(scrapes, 5)


async def lose_changes(scene: Scene) -> None:
    """Put the store back to what it was some acknowledged changes ago."""
    hub = scene.hub
    merchant = await add_merchant(hub.valkey.url)
    async with posting(hub, merchant) as poster, FeedReader(lambda: hub.url, merchant) as reader:
        await eventually(lambda: reader.items.get("TEE") is not None, what="the level")
        with scene.scraped() as scrapes:
            await until(scrapes, 3)
            kept = await asyncio.to_thread(keep, hub.valkey, scene.folder / "kept")
            for units in range(2, 2 + scene.chance.randint(3, 20)):
                assert await poster.is_taken(level("TEE", units))
            await eventually(lambda: reader.items["TEE"]["available"] == units, what="the changes")
            scene.strikes()
            await asyncio.to_thread(put_back, hub.valkey, kept)
            await eventually(lambda: _is_frozen(hub), within_s=20, what="the freeze")
            await until(scrapes, 3)


def _is_frozen(hub: Deployment) -> bool:
    return "\nsynchub_merchants_frozen 1.0" in hub.workers[0].text("/metrics")


async def mistake_the_time(scene: Scene) -> None:
    """Run a worker whose clock is seconds ahead of the store's, from its beginning on."""
    with scene.scraped() as scrapes:
        await until(scrapes, 7)


async def flood_without_archive(scene: Scene) -> None:
    """Change levels faster than they are told, with a file where the archive's folder should be."""
    hub = scene.hub
    merchant = await add_merchant(hub.valkey.url)
    async with posting(hub, merchant), FeedReader(lambda: hub.url, merchant) as reader:
        await eventually(lambda: reader.items.get("TEE") is not None, what="the level")
        with scene.scraped() as scrapes:
            await until(scrapes, 3)
            scene.strikes()
            await _change(hub, merchant, CHANGES)
            await eventually(lambda: _has_dropped(hub), within_s=60, what="entries that are given up")
            await until(scrapes, 12)


async def _change(hub: Deployment, merchant: Merchant, count: int) -> None:
    settings = settings_for(hub.valkey.url)
    redis = CoalescingRedis(settings.redis)
    lines = asyncio.Semaphore(LINES)

    async def step(first: int) -> None:
        rows = [
            push(number, at=now_ms(), version=number, account=merchant.account, item=f"S-{number % SKUS}")
            for number in range(first, first + STEP)
        ]
        async with lines:
            await stock.apply(redis, merchant.keys, rows, settings=settings)

    try:
        await asyncio.gather(*[step(first) for first in range(1, count, STEP)])
    finally:
        await redis.close()


def _has_dropped(hub: Deployment) -> bool:
    told = hub.workers[0].text("/metrics")
    return "\nsynchub_archive_dropped_total" in told and "\nsynchub_archive_dropped_total 0.0" not in told


FAULTS: Final = (
    AlertFault(
        name="store-killed",
        alerts=("SynchubStoreUnsafe", "SynchubStoreAway", "SynchubWatchdog"),
        act=kill_store,
        is_short=True,
    ),
    AlertFault(
        name="changes-lost", alerts=("SynchubHistoryLost", "SynchubFrozen"), act=lose_changes
    ),
    AlertFault(
        name="clock-wrong",
        alerts=("SynchubClockSkew",),
        act=mistake_the_time,
        worker=("tests.faults.alert_clock",),
    ),
    AlertFault(
        name="archive-away",
        alerts=(
            "SynchubArchiveFails", "SynchubArchiveBehind", "SynchubArchiveDropped", "SynchubFeedBehind",
        ),
        act=flood_without_archive,
        settings={
            "ARCHIVE__FOLDER": "/dev/null/archive",
            "ARCHIVE__EVERY_MS": "100",
            "ARCHIVE__WAIT_MS": "0",
            "ARCHIVE__BACKLOG_MAX": "120000",
            "FEED__READ_MAX": "1",
        },
    ),
)  # fmt: skip
