"""Workers that die while they tell a subscriber: nothing is lost, and what comes again has its id."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.faults.conftest import SHORT_WAITS
from tests.support.deliveries import body_of, level, signed
from tests.support.endpoints import LOOPBACK, Endpoint
from tests.support.merchants import add_merchant
from tests.support.processes import Deployment
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.merchants import Merchant

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.xdist_group("kills")]

SETTINGS = {
    **SHORT_WAITS,
    "SUBSCRIPTIONS__PRIVATE_TARGETS": LOOPBACK,
    "SUBSCRIPTIONS__RETRY_BASE_MS": "50",
    "SUBSCRIPTIONS__RETRY_MAX_MS": "200",
    "SUBSCRIPTIONS__TIMEOUT_MS": "60000",
}


class Town:
    """One merchant of a deployed hub whose agent has an endpoint."""

    def __init__(self, hub: Deployment, merchant: Merchant, session: aiohttp.ClientSession) -> None:
        self.hub = hub
        self.merchant = merchant
        self.session = session
        self.sequence = 0

    async def subscribe(self, endpoint: Endpoint) -> None:
        """Have everything told."""
        headers = {"Authorization": f"Bearer {self.merchant.key}"}
        asked: dict[str, Any] = {"json": {"url": endpoint.url}, "headers": headers}

        async def is_made() -> bool:
            async with self.session.post(f"{self.hub.url}/v1/subscriptions", **asked) as answer:
                return answer.status in {201, 409}

        await eventually(is_made, what="the subscription")

    async def change(self, **units: int) -> None:
        """Let the platform tell levels until the hub has taken them."""
        self.sequence += 1
        body = body_of(*[level(sku, number) for sku, number in units.items()], sequence=self.sequence)
        headers = signed(self.merchant, body, message_id=f"msg_{self.sequence}")

        async def is_taken() -> bool:
            try:
                url = self.hub.url + self.merchant.hook
                async with self.session.post(url, data=body, headers=headers) as answer:
                    return answer.status == 202
            except aiohttp.ClientError:
                return False

        await eventually(is_taken, within_s=30, what="a taken delivery")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Town, Endpoint]]:
    with Deployment(folder, workers=2, settings=SETTINGS) as hub:
        merchant = await add_merchant(hub.valkey.url)
        async with aiohttp.ClientSession() as session, Endpoint().serving() as endpoint:
            town = Town(hub, merchant, session)
            await town.subscribe(endpoint)
            yield town, endpoint
        print(hub.logs())  # noqa: T201 - pytest shows it with a failure


@pytest.mark.blocking_allowed  # processes are started and killed
async def test_killed_between_sending_and_noting_it_another_sends_it_again_under_its_id(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (town, endpoint):
        endpoint.gate = asyncio.Event()
        await town.change(TEE=1, CAP=1)
        await endpoint.reached(1)
        for worker in town.hub.workers:
            worker.kill()
        town.hub.restore()
        await town.change(TEE=2)
        endpoint.gate.set()
        await eventually(lambda: endpoint.known() == {"TEE": 2, "CAP": 1}, within_s=30, what="the truth")
    first, again = endpoint.taken[:2]
    assert again.id == first.id
    assert again.occurrence["cursor"] == first.occurrence["cursor"]
    assert {item["sku"] for item in again.occurrence["data"]["items"]} == set(first.items)


@pytest.mark.blocking_allowed  # processes are started, frozen and killed
async def test_through_kills_a_freeze_and_a_restart_of_the_store_the_endpoint_ends_with_the_truth(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (town, endpoint):
        acts = [
            town.hub.workers[0].kill,
            town.hub.workers[1].freeze,
            town.hub.valkey.kill,
            town.hub.workers[1].thaw,
            town.hub.workers[1].kill,
        ]
        truth: dict[str, int] = {}
        for number, act in enumerate(acts, 1):
            units = {f"SKU-{number % 3}": number, "TEE": number * 10}
            truth |= units
            await town.change(**units)
            endpoint.answers = [500, 503]
            act()
            town.hub.restore()
        await town.change(LAST=1)
        await eventually(lambda: endpoint.known() == {**truth, "LAST": 1}, within_s=60, what="the truth")
    told: dict[str, set[str]] = {}
    for one in endpoint.taken:
        told.setdefault(one.id, set()).add(json.dumps(one.occurrence["cursor"]))
    assert all(len(cursors) == 1 for cursors in told.values()), "an id stands for one position"
