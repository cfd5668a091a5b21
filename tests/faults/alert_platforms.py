"""Faults of platforms: some send nothing more, some refuse, some are away, some bear few calls."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import sys
import time
from typing import TYPE_CHECKING, Final

from tests.faults.alert_deliveries import posting
from tests.faults.alert_trial import STRETCH_MAX, AlertFault, until
from tests.support.alerting import SCRAPE_S
from tests.support.hooked_platform import TOPICS, a_platform
from tests.support.merchants import add_merchant
from tests.support.processes import free_port
from tests.support.source import ROOT
from tests.support.wait import eventually, lasting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.alert_deliveries import Poster
    from tests.faults.alert_trial import Scene
    from tests.support.merchants import Merchant
    from tests.support.processes import Deployment

BEAT_S: Final = 1.0
POLL_S: Final = 4
SKUS: Final = 5
COVERAGE_WITHIN_S: Final = 60
SLOWLY_S: Final = SCRAPE_S / STRETCH_MAX
"""Of a sign of life the hub tells within five seconds."""
WELL_TURNS: Final = 14


async def stop_sending(scene: Scene) -> None:
    """Have a platform switch its webhooks off while its stock goes on changing."""
    hub = scene.hub
    async with a_platform(hub) as platform:
        await platform.is_in("sound", repairs=0)
        await platform.change(3)
        await platform.shows(3)
        with scene.scraped() as scrapes:
            await until(scrapes, 3)
            scene.strikes()
            for topic in TOPICS:
                await platform.post("/_emulator/health", name=topic, health="UNHEALTHY")
            await eventually(lambda: _is(hub, platform.merchant, "stalled"), within_s=20, what="a stall")
            deadline_s = time.monotonic() + COVERAGE_WITHIN_S
            for number in itertools.count():
                if _has_coverage(hub, platform.merchant):
                    break
                assert time.monotonic() < deadline_s, "polls found no change that was not delivered"
                # Each row is left alone until a poll has found it: only a late change was surely lost.
                row = {"sku": f"TEE-000{number % SKUS + 1}", "location": "WH1"}
                await platform.post("/_emulator/change", **row, quantity=10 + number)
                await lasting(POLL_S / (SKUS - 1))
            await until(scrapes, 12)


def _is(hub: Deployment, merchant: Merchant, state: str) -> bool:
    series = f'synchub_connector_state{{account="{merchant.account}",state="{state}"}} 1.0'
    return series in hub.workers[0].text("/metrics")


def _has_coverage(hub: Deployment, merchant: Merchant) -> bool:
    told = hub.workers[0].text("/metrics")
    found = re.search(rf'synchub_sync_coverage_ratio{{account="{merchant.account}"}} ([0-9.]+)', told)
    return found is not None and float(found[1]) < 0.99


async def fall_silent(scene: Scene) -> None:
    """Have one of two senders fall silent, then the other one too."""
    hub = scene.hub
    merchants = [await add_merchant(hub.valkey.url) for _ in range(2)]
    async with posting(hub, merchants[0]) as first, posting(hub, merchants[1]) as second:
        await first.dated(7)
        with scene.scraped(every_s=SLOWLY_S) as scrapes:
            while scrapes.turns < WELL_TURNS:
                await _beat(first, second)
            scene.strikes()
            while not _is(hub, merchants[0], "stalled"):
                await _beat(second)
            began = scrapes.turns
            while scrapes.turns < began + 8 * 60 / scrapes.stands_for_s:
                await _beat(second)
            await eventually(lambda: _are_all_silent(hub), within_s=20, what="silence of all")
            await until(scrapes, 3)


async def _beat(*posters: Poster) -> None:
    for poster in posters:
        await poster.beat(BEAT_S)
    await lasting(BEAT_S / 2)


def _are_all_silent(hub: Deployment) -> bool:
    return "\nsynchub_sync_all_silent 1.0" in hub.workers[0].text("/metrics")


async def refuse_calls(scene: Scene) -> None:
    """Have one platform refuse its token, another one away, and a third one that bears twenty calls."""
    hub = scene.hub
    nowhere = f"http://127.0.0.1:{free_port()}/graphql"
    credentials = {"shared_signature_secret": "hush", "access_token": "token", "api_url": nowhere}
    async with _small_shop() as shop, a_platform(hub, token="revoked") as platform:
        with scene.scraped() as scrapes:
            await until(scrapes, 3)
            scene.strikes()
            await add_merchant(hub.valkey.url, platform="shiphero", credentials=credentials)
            await add_merchant(hub.valkey.url, platform="http_json", credentials=shop)
            await platform.change(9)
            await platform.change(3)
            await eventually(lambda: _has_open_breaker(hub), within_s=30, what="an open breaker")
            await until(scrapes, 31)


def _has_open_breaker(hub: Deployment) -> bool:
    told = hub.workers[0].text("/metrics")
    return re.search(r"\nsynchub_upstream_breaker_state\{[^}]*\} 2\.0", told) is not None


@contextlib.asynccontextmanager
async def _small_shop() -> AsyncIterator[dict[str, str]]:
    """A polled shop with so many pages that nobody reads them with a few calls; what its account is told."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "connectors.http_json.emulator", "--port", str(port), "--paused"),
        *("--rate", "0", "--skus", "400"),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        assert json.loads(await process.stdout.readline())["port"] == port
        yield {
            "url": f"http://127.0.0.1:{port}/stock/sweep?limit=2",
            "items_path": "data.rows",
            "sku_path": "sku",
            "quantity_path": "stock.available",
            "location_path": "warehouse",
            "cursor_kind": "sweep",
            "page_param": "page",
            "page_size": "2",
        }
    finally:
        process.kill()
        await process.wait()


FAULTS: Final = (
    AlertFault(
        name="platform-stops",
        alerts=("SynchubAccountStalled", "SynchubSubscriptionNeedsPerson", "SynchubCoverageLow"),
        act=stop_sending,
        settings={
            "SYNC__GRACE_MS": "100",
            "POLLING__SAFETY_EVERY_MS": f"{POLL_S * 1000}",
            "POLLING__BUSY_EVERY_MS": f"{POLL_S * 1000}",
            "POLLING__QUIET_EVERY_MS": f"{POLL_S * 1000}",
            "POLLING__LOOK_EVERY_MS": "100",
        },
    ),
    AlertFault(
        name="senders-silent",
        alerts=("SynchubAccountStalled", "SynchubCanaryLate", "SynchubSourceLag", "SynchubAllSilent"),
        act=fall_silent,
    ),
    AlertFault(
        name="calls-refused",
        alerts=(
            "SynchubCallsRefused", "SynchubPollsFail", "SynchubRefetchBehind", "SynchubBreakerOpen",
            "SynchubBudgetLow",
        ),
        act=refuse_calls,
        settings={
            "POLLING__SAFETY_EVERY_MS": "500",
            "POLLING__LOOK_EVERY_MS": "100",
            "POLLING__RETRY_BASE_MS": "100",
            "POLLING__RETRY_MAX_MS": "500",
            "REFETCH__CONFIRM_AFTER_MS": "0",
            "REFETCH__SWEEP_EVERY_MS": "200",
            "UPSTREAM__RESERVE_PERCENT": "0",
        },
    ),
)  # fmt: skip
