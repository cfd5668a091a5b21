"""What it costs to be ready for platforms that stop telling, and what it takes to catch up with one.

Three questions: what a hundred healthy accounts cost a worker beyond none; how soon an account with
10,000 changes is caught up by polling, against a bare client that only reads the same pages; and whether
others' deliveries take longer while one account is stalled, throttled or down.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from redis.asyncio import Redis

from benchmarks import hub, machine, runs
from benchmarks.children import ChildFailedError, module, running
from benchmarks.figures import Figure, median_run
from synchub.keyspace import MerchantKeys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from benchmarks.scale import Scale

ACCOUNTS: Final = 100
HEALTHY_PERCENT: Final = 2.0
SETTLE_S: Final = 15.0
"""First polls of new accounts are no healthy state."""

CHANGES: Final = 10_000
PAGE_ROWS: Final = 1_000
CAUGHT_UP_PER_S: Final = 5_000.0
CATCH_UP_S: Final = 120.0
FAULTS: Final = ("stall", "throttle", "down")
RATE: Final = 1_000
READERS: Final = 50
UNCHANGED: Final = 1.25
"""Two runs of the same differ by as much on a machine that does other things too."""

QUICK: Final = {
    "SYNCHUB_UPSTREAM__PRIVATE_TARGETS": "127.0.0.0/8",
    "SYNCHUB_SYNC__CANARY_EVERY_MS": "2000",
    "SYNCHUB_POLLING__SAFETY_EVERY_MS": "3000",
    "SYNCHUB_POLLING__BUSY_EVERY_MS": "1000",
    "SYNCHUB_POLLING__QUIET_EVERY_MS": "1000",
}
"""So that a fault of seconds is met with all that a fault of hours is met with."""


async def measure_stalls(scale: Scale) -> list[Figure]:
    """Measure all three and return the rows."""
    return [
        await _healthy_row(scale),
        *await _catch_up_rows(scale),
        *await _others_rows(scale),
    ]


async def _healthy_row(scale: Scale) -> Figure:
    none = await _cpu_percent(accounts=0, seconds=scale.idle_s)
    some = await _cpu_percent(accounts=ACCOUNTS, seconds=scale.idle_s)
    return Figure(
        name=f"{ACCOUNTS} healthy accounts, processor beyond none",
        value=some - none,
        unit="%",
        limit=HEALTHY_PERCENT,
        notes={"with": round(some, 2), "without": round(none, 2)},
    )


async def _cpu_percent(*, accounts: int, seconds: float) -> float:
    """Percent of a core that the worker and the store use with so many accounts that nothing happens to."""
    with hub.store() as url:
        async with _emulator("shopify", "--paused", "--skus", "5") as address:
            for number in range(accounts):
                await _add_shop(url, address, f"shop-{number}")
            async with hub.hub(url, settings={"SYNCHUB_UPSTREAM__PRIVATE_TARGETS": "127.0.0.0/8"}) as started:
                await asyncio.sleep(SETTLE_S)
                pids = [started.pids["work"], started.pids["valkey"]]
                before, began = sum(map(machine.cpu_s, pids)), time.monotonic()
                await asyncio.sleep(seconds)
                return 100 * (sum(map(machine.cpu_s, pids)) - before) / (time.monotonic() - began)


async def _catch_up_rows(scale: Scale) -> list[Figure]:
    rates = [await _catch_up() for _ in range(scale.runs)]
    bare = [one for one, _ in rates]
    caught = [one for _, one in rates]
    wanted = min(CAUGHT_UP_PER_S, median_run(bare))
    return [
        Figure(
            name=f"{CHANGES:,} changes caught up by polling",
            value=median_run(caught),
            unit="/s",
            limit=wanted,
            at_least=True,
            runs=tuple(caught),
            notes={"a bare client reads them at, /s": round(median_run(bare))},
        )
    ]


async def _catch_up() -> tuple[float, float]:
    """Changes a second: read by a bare client, and from the first call until all of them count."""
    settings = {"SYNCHUB_UPSTREAM__PRIVATE_TARGETS": "127.0.0.0/8", "SYNCHUB_POLLING__LOOK_EVERY_MS": "100"}
    async with _emulator("http_json", "--paused", "--skus", str(CHANGES)) as address:
        endpoint = f"{address}/stock/sweep?limit={PAGE_ROWS}"
        bare = CHANGES / await _read_all(endpoint)
        with hub.store() as url:
            async with hub.hub(url, settings=settings):
                told = {
                    "url": endpoint,
                    "items_path": "data.rows",
                    "sku_path": "sku",
                    "quantity_path": "stock.available",
                    "location_path": "warehouse",
                    "page_param": "page",
                    "page_size": str(PAGE_ROWS),
                }
                await _add(url, "http_json", "pages", told)
                return bare, CHANGES / await _until_known(url)


async def _read_all(endpoint: str) -> float:
    """Seconds that reading all pages takes when nothing is done with them."""
    async with aiohttp.ClientSession(trust_env=False) as http:
        began = time.monotonic()
        for page in range(1, CHANGES // PAGE_ROWS + 2):
            async with http.get(f"{endpoint}&page={page}") as answer:
                answer.raise_for_status()
                await answer.read()
        return time.monotonic() - began


async def _until_known(redis_url: str) -> float:
    """Seconds from the first known SKU of the merchant until all are known."""
    key = MerchantKeys(hub.MERCHANT).skus
    client: Redis = Redis.from_url(redis_url)
    began = 0.0
    try:
        async with asyncio.timeout(CATCH_UP_S):
            while (known := int(await client.zcard(key))) < CHANGES:
                began = began or (time.monotonic() if known else 0.0)
                await asyncio.sleep(0.005)
    except TimeoutError:
        msg = f"polling did not catch up within {CATCH_UP_S:g} s"
        raise ChildFailedError(msg) from None
    finally:
        await client.aclose()
    return time.monotonic() - (began or time.monotonic() - 0.005)


async def _others_rows(scale: Scale) -> list[Figure]:
    calm = [await _others_p99("", scale) for _ in range(scale.runs)]
    rows = []
    for kind in FAULTS:
        values = [await _others_p99(kind, scale) for _ in range(scale.runs)]
        rows.append(
            Figure(
                name=f"webhook to event, {RATE:,}/s, p99, while another account is in {kind}",
                value=median_run(values),
                unit="ms",
                floor=median_run(calm),
                limit=UNCHANGED,
                of_floor=True,
                runs=tuple(values),
            )
        )
    return rows


async def _others_p99(kind: str, scale: Scale) -> float:
    seconds = scale.seconds
    fault = ("--fault", f"{kind}@0s-600s") if kind else ()
    with hub.store() as url:
        port = hub.free_port()
        hook = f"http://127.0.0.1:{port}/hooks/troubled"
        async with _emulator("shopify", "--skus", "20", "--rate", "5", *fault, hook=hook) as address:
            await _add_shop(url, address, "troubled")
            async with hub.hub(url, settings=QUICK, port=port) as started:
                await asyncio.sleep(SETTLE_S / 2)
                run = await runs.at_rate(
                    started, runs.Sequence(), rate=RATE, seconds=seconds, readers=READERS
                )
    assert run.read is not None
    return run.read.latency.p99_ms


async def _add_shop(redis_url: str, address: str, name: str) -> None:
    await _add(redis_url, "shopify", name, {**SHOP, "shop_domain": address})


async def _add(redis_url: str, platform: str, name: str, credentials: Mapping[str, str]) -> Any:
    told = [text for pair in credentials.items() for text in ("--credential", "=".join(pair))]
    arguments = ("account", "add", platform, "--merchant", hub.MERCHANT, "--name", name, *told)
    return await hub.synchub_json(*arguments, redis_url=redis_url)


SHOP: Final = {"client_secret": "bench", "access_token": "bench"}


@contextlib.asynccontextmanager
async def _emulator(platform: str, *options: str, hook: str = "") -> AsyncIterator[str]:
    """Run a platform's double; yields its address."""
    told: Sequence[str] = (
        [text for pair in SHOP.items() for text in ("--credential", "=".join(pair))]
        if platform == "shopify"
        else []
    )
    command = module(
        f"connectors.{platform}.emulator",
        "--hook-url",
        hook or "http://127.0.0.1:9/hooks/none",
        *told,
        *options,
    )
    async with running(f"emulator of {platform}", command) as child:
        port = (await child.hear(within_s=hub.START_DEADLINE_S))["port"]
        yield f"http://127.0.0.1:{port}"
