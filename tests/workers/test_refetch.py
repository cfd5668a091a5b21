"""A platform whose deliveries carry no version: what they raise counts only after a fetch has shown it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from synchub.connector_kit.signatures import sign_hmac_sha256_base64
from synchub.mappings import operations as mappings
from synchub.redis import CoalescingRedis
from tests.support.merchants import Merchant, add_merchant
from tests.support.processes import Deployment, free_port
from tests.support.registry import settings_for
from tests.support.source import ROOT
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("refetch")]

SECRET: Final = "hush-hush"
TOKEN: Final = "token"
WAREHOUSE: Final = 76733
QUICK: Final = {
    "INGRESS__CLAIM_IDLE_MS": "500",
    "REFETCH__SWEEP_EVERY_MS": "200",
    "REFETCH__CONFIRM_AFTER_MS": "300",
    "REFETCH__BACKOFF_BASE_MS": "50",
    "REFETCH__BACKOFF_MAX_MS": "200",
    "UPSTREAM__DEADLINE_MS": "2000",
    "UPSTREAM__PRIVATE_TARGETS": "127.0.0.0/8",
}


class Warehouse:
    """One emulated platform, its merchant, and the hub between them and whoever asks."""

    def __init__(
        self, hub: Deployment, merchant: Merchant, url: str, pid: int, session: aiohttp.ClientSession
    ) -> None:
        self.hub = hub
        self.merchant = merchant
        self._url = url
        self._pid = pid
        self._session = session
        self._posted = 0

    async def has(self, sku: str, quantity: int) -> None:
        """Change the platform's number; it posts that itself."""
        wish = {"sku": sku, "location": "WH1", "quantity": quantity}
        async with self._session.post(f"{self._url}/_emulator/change", json=wish) as answer:
            assert (await answer.json())["status"] == 200

    async def push(self, sku: str, quantity: int) -> None:
        """Post a rightly signed delivery in the platform's name, whatever the platform has."""
        self._posted += 1
        counted = {"inventory": str(quantity), "sell_ahead": 0}
        row = {"sku": sku, **counted, "updated_warehouse": {"warehouse_id": WAREHOUSE, **counted}}
        body = json.dumps({"webhook_type": "Inventory Update", "inventory": [row]}).encode()
        headers = {
            "X-Shiphero-Hmac-Sha256": sign_hmac_sha256_base64(body, SECRET),
            "X-Shiphero-Message-ID": f"push-{self._posted}",
        }
        async with self._session.post(
            self.hub.url + self.merchant.hook, data=body, headers=headers
        ) as answer:
            assert answer.status == 200, await answer.text()

    async def number(self, sku: str) -> int:
        """What an agent is told."""
        headers = {"Authorization": f"Bearer {self.merchant.key}"}
        async with self._session.get(f"{self.hub.url}/v1/stock/{sku}", headers=headers) as answer:
            return int((await answer.json())["available"])

    async def shows(self, sku: str, quantity: int, *, within_s: float = 10) -> None:
        """Return when agents are told this number."""
        await eventually(lambda: self._is(sku, quantity), within_s=within_s, what=f"{sku} at {quantity}")

    def due(self) -> dict[str, float]:
        """What the hub wants to fetch."""
        with self.hub.valkey.client() as client:
            found = client.zrange(self.merchant.keys.refetch(self.merchant.account), 0, -1, withscores=True)
        return dict(found)

    def calls(self, result: str) -> float:
        """How many calls the worker has made with this result."""
        text = self.hub.workers[0].text("/metrics")
        pattern = rf'^synchub_poll_requests_total{{connector="shiphero",result="{result}"}} (\S+)$'
        return sum(float(found) for found in re.findall(pattern, text, re.MULTILINE))

    async def applied(self) -> None:
        """Return when no delivery waits to be applied."""
        with self.hub.valkey.client() as client:
            await eventually(lambda: client.xlen("synchub:{ingest}:stream") == 0)

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Let the platform answer nothing for a while."""
        os.kill(self._pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._pid, signal.SIGCONT)

    async def _is(self, sku: str, quantity: int) -> bool:
        return await self.number(sku) == quantity


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Processes that all tests here share."""
    with Deployment(tmp_path_factory.mktemp("hub"), settings=QUICK) as started:
        yield started
        sys.stdout.write(started.logs())


@contextlib.asynccontextmanager
async def a_warehouse(hub: Deployment, *arguments: str) -> AsyncIterator[Warehouse]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    credentials = {"shared_signature_secret": SECRET, "access_token": TOKEN, "api_url": f"{url}/graphql"}
    merchant = await add_merchant(hub.valkey.url, platform="shiphero", credentials=credentials)
    await _map_location(hub, merchant)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "connectors.shiphero.emulator", "--port", str(port), "--paused"),
        *("--hook-url", hub.url + merchant.hook, "--rate", "0", "--skus", "60"),
        *("--credential", f"shared_signature_secret={SECRET}", "--credential", f"access_token={TOKEN}"),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        assert json.loads(await process.stdout.readline())["port"] == port
        async with aiohttp.ClientSession() as session:
            yield Warehouse(hub, merchant, url, process.pid, session)
    finally:
        process.kill()
        await process.wait()


@pytest.fixture
async def warehouse(hub: Deployment) -> AsyncIterator[Warehouse]:
    """A platform with all its numbers known to itself, and TEE-0001 at 10 known to the hub."""
    async with a_warehouse(hub) as opened:
        await opened.has("TEE-0001", 10)
        await opened.shows("TEE-0001", 10)
        await eventually(lambda: not opened.due(), what="nothing left to fetch")
        yield opened


async def test_a_lower_number_counts_at_once_and_is_confirmed(warehouse: Warehouse) -> None:
    with warehouse.silent():
        await warehouse.push("TEE-0001", 4)
        await warehouse.shows("TEE-0001", 4)
    # The platform itself still has 10, which the confirming fetch finds out.
    await warehouse.shows("TEE-0001", 10)


async def test_a_higher_number_waits_for_the_fetch(warehouse: Warehouse) -> None:
    with warehouse.silent():
        await warehouse.push("TEE-0001", 50)
        await eventually(lambda: "TEE-0001" in warehouse.due(), what="a wish to fetch")
        await warehouse.applied()
        assert await warehouse.number("TEE-0001") == 10
    await eventually(lambda: not warehouse.due(), what="the fetch")
    assert await warehouse.number("TEE-0001") == 10, "the platform's own word counts"


async def test_a_rise_is_told_as_soon_as_the_platform_has_confirmed_it(warehouse: Warehouse) -> None:
    await warehouse.has("TEE-0001", 25)
    await warehouse.shows("TEE-0001", 25, within_s=5)


async def test_many_deliveries_become_few_calls(warehouse: Warehouse) -> None:
    before = warehouse.calls("ok") + warehouse.calls("failed")
    with warehouse.silent():
        for number in range(60):
            await warehouse.push(f"TEE-{number % 20 + 1:04d}", 100 + number)
        await warehouse.applied()
        assert len(warehouse.due()) <= 20
    await eventually(lambda: not warehouse.due(), within_s=15, what="all fetches")
    # One for the 20 items, another for those asked for again meanwhile, and one that met the silence.
    assert warehouse.calls("ok") + warehouse.calls("failed") - before <= 4


async def test_a_wish_without_a_job_is_found_by_the_sweep(warehouse: Warehouse) -> None:
    with warehouse.hub.valkey.client() as client:
        for key in client.keys("arq:*"):
            client.delete(key)
        client.zadd(warehouse.merchant.keys.refetch(warehouse.merchant.account), {"TEE-0007": 1})
    await eventually(lambda: not warehouse.due(), within_s=5, what="the fetch")
    assert await warehouse.number("TEE-0007") >= 0


async def test_a_throttle_is_waited_for(hub: Deployment) -> None:
    async with a_warehouse(hub, "--fault", "throttle@0s-2s") as warehouse:
        before = warehouse.calls("throttled")
        await eventually(lambda: _changes(warehouse), what="an accepted delivery")
        await eventually(lambda: warehouse.calls("throttled") > before, what="a throttled call")
        await warehouse.shows("TEE-0001", 7)
        assert warehouse.calls("throttled") - before <= 5, "while throttled the platform is left alone"


@pytest.mark.slow
async def test_a_fetch_that_died_with_its_worker_is_done_by_the_next(warehouse: Warehouse) -> None:
    with warehouse.silent():
        await warehouse.push("TEE-0001", 90)
        await eventually(lambda: _is_held(warehouse), what="a fetch that has begun")
        warehouse.hub.workers[0].kill()
        await asyncio.to_thread(warehouse.hub.restore)
    await eventually(lambda: not warehouse.due(), within_s=15, what="the fetch")
    assert await warehouse.number("TEE-0001") == 10


async def _changes(warehouse: Warehouse) -> bool:
    try:
        await warehouse.has("TEE-0001", 7)
    except AssertionError:
        return False
    return True


def _is_held(warehouse: Warehouse) -> bool:
    keys: Any = warehouse.merchant.keys
    with warehouse.hub.valkey.client() as client:
        return bool(client.exists(keys.fetch_lease(warehouse.merchant.account)))


async def _map_location(hub: Deployment, merchant: Merchant) -> None:
    settings = settings_for(hub.valkey.url)
    redis = CoalescingRedis(settings.redis)
    try:
        await mappings.map_location(
            redis, merchant.keys, merchant.account, str(WAREHOUSE), "WH1", settings=settings
        )
    finally:
        await redis.close()
