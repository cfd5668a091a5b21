"""The store is away for longer than it may be: real processes go on without it, and with it again."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from tests.support.deliveries import body_of, level, signed
from tests.support.merchants import add_merchant
from tests.support.processes import Deployment
from tests.support.wait import eventually, lasting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.merchants import Merchant

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.xdist_group("store-away")]

AT_ONCE_S: Final = 1.0
"""Much less than a command waits for its answer; a machine that is busy needs some of it."""
QUERY: Final = {"items": [{"sku": "TEE"}]}
HOLD: Final = {"lines": [{"sku": "TEE", "quantity": 1}], "mode": "cart"}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Processes with the settings of production."""
    with Deployment(tmp_path_factory.mktemp("hub")) as started:
        yield started


async def test_killed_for_more_than_five_seconds(hub: Deployment, seed: int) -> None:
    merchant = await add_merchant(hub.valkey.url)
    pids = [process.pid for process in hub.processes.values()]
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {merchant.key}"}) as http:
        await eventually(lambda: _is_stocked(hub, http, merchant, 7, 1), what="the stock")
        epoch = _head(hub, merchant)["epoch"]
        async with http.get(f"{hub.url}/v1/feed?bound_ms=500") as feed:
            await _heartbeat(feed, is_degraded=False)
            hub.valkey.kill()
            frozen = (await _heartbeat(feed, is_degraded=True))["asof"]
            await eventually(lambda: _says(hub, "synchub_store_away 1.0"), what="the outage noticed")
            assert (await _heartbeat(feed, is_degraded=True))["asof"] == frozen
            assert json.loads(hub.api.text("/readyz")) | {"problems": []} == {
                "ready": True,
                "degraded": True,
                "problems": [],
            }
            for _ in range(3):
                begun = asyncio.get_running_loop().time()
                for path, body in (
                    ("/v1/reservations", HOLD),
                    ("/v1/stock/query", {"items": [{"sku": "TEE"}]}),
                ):
                    async with http.post(hub.url + path, json=body) as answer:
                        told = await answer.json(content_type=None)
                        assert (answer.status, told["code"]) == (503, "store_unavailable")
                        assert int(answer.headers["Retry-After"]) >= 1
                assert asyncio.get_running_loop().time() - begun < 2 * AT_ONCE_S
            assert await _post(hub, merchant, 9, 2) == 503
            await lasting(random.Random(seed).uniform(0.1, 1.0))
            await asyncio.to_thread(hub.valkey.start)
            await eventually(lambda: _says(hub, "synchub_store_away 0.0"), what="the store found again")
            while (await _heartbeat(feed, is_degraded=False))["asof"] <= frozen:
                pass
        await eventually(lambda: _is_stocked(hub, http, merchant, 9, 2), what="the delivery sent again")
        async with http.post(f"{hub.url}/v1/reservations", json=HOLD) as answer:
            assert answer.status == 201
    assert _head(hub, merchant)["epoch"] == epoch
    assert [process.pid for process in hub.processes.values()] == pids
    assert "store_away" in hub.api.log()
    assert "store_back" in hub.api.log()


async def _heartbeat(feed: aiohttp.ClientResponse, *, is_degraded: bool) -> dict[str, Any]:
    """Read up to the next heartbeat of that kind; a history that begins anew would be a loss."""
    event = b""
    async with asyncio.timeout(20):
        while True:
            line = (await feed.content.readline()).strip()
            if line.startswith(b"event:"):
                event = line
                assert b"reset" not in event
            elif line.startswith(b"data:") and event.endswith(b"hb"):
                data: dict[str, Any] = json.loads(line[5:])
                if bool(data.get("degraded")) is is_degraded:
                    return data


async def _is_stocked(
    hub: Deployment, http: aiohttp.ClientSession, merchant: Merchant, units: int, sequence: int
) -> bool:
    if await _post(hub, merchant, units, sequence) != 202:
        return False
    async with http.get(f"{hub.url}/v1/stock/TEE") as answer:
        return bool((await answer.json(content_type=None)).get("available") == units)


async def _post(hub: Deployment, merchant: Merchant, units: int, sequence: int) -> int:
    body = body_of(level("TEE", units), sequence=sequence)
    headers = signed(merchant, body, message_id=f"level-{sequence}")
    async with (
        aiohttp.ClientSession() as http,
        http.post(hub.url + merchant.hook, data=body, headers=headers) as answer,
    ):
        return answer.status


async def _says(hub: Deployment, line: str) -> bool:
    async with aiohttp.ClientSession() as http, http.get(f"{hub.url}/metrics") as answer:
        return line in await answer.text()


def _head(hub: Deployment, merchant: Merchant) -> dict[str, str]:
    with hub.valkey.client() as client:
        head: dict[str, str] = client.hgetall(merchant.keys.head)
    return head
