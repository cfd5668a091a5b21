"""A merchant whose platform is ShipHero's emulator: what the guard knows of it, what a person does there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from synchub import sync_keys
from synchub.mappings import operations as mappings
from synchub.redis import CoalescingRedis
from tests.support.merchants import add_merchant
from tests.support.processes import free_port
from tests.support.registry import settings_for
from tests.support.source import ROOT
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.merchants import Merchant
    from tests.support.processes import Deployment

SECRET: Final = "hush-hush"
TOKEN: Final = "token"
WAREHOUSE: Final = "76733"
TOPICS: Final = ("Inventory Update", "Order Allocated")


@dataclass(frozen=True, kw_only=True)
class HookedPlatform:
    """A merchant, its emulated platform, and what the guard knows of it."""

    hub: Deployment
    merchant: Merchant
    url: str
    session: aiohttp.ClientSession

    def guard(self) -> dict[str, Any]:
        """What the guard knows; empty before it has looked."""
        with self.hub.valkey.client() as client:
            told = client.hget(sync_keys.hook_guard(self.merchant.name), self.merchant.account)
        return dict(json.loads(told)) if told else {}

    async def is_in(self, state: str, *, repairs: int) -> None:
        """Return when the platform stands so, after so many repairs, and nothing is missed any more."""
        await eventually(lambda: self._is_in(state, repairs), within_s=20, what=f"{state}: {self.guard()}")

    def _is_in(self, state: str, repairs: int) -> bool:
        known = self.guard()
        settled = (known.get("hooks"), len(known.get("repairs", ())), known.get("backfill_from_ms"))
        return settled == (state, repairs, 0)

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        """Tell the emulator something."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self.session.post(self.url + path, json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return dict(await answer.json())

    async def delete(self, topic: str) -> None:
        """Delete a webhook, as a person at the platform can."""
        query = (
            "mutation Delete($data: DeleteWebhookInput!) "
            "{ changed: webhook_delete(data: $data) { request_id } }"
        )
        gone = {"data": {"name": topic, "shop_name": "example"}}
        assert "errors" not in await self.post("/graphql", query=query, variables=gone)

    async def change(self, quantity: int) -> int:
        """Change a number at the platform; returns the hub's answer to its delivery."""
        told = await self.post("/_emulator/change", sku="TEE-0001", location="WH1", quantity=quantity)
        return int(told["status"])

    async def shows(self, quantity: int) -> None:
        """Return when agents are told this number."""
        await eventually(lambda: self._shows(quantity), within_s=20, what=f"{quantity} units")

    async def _shows(self, quantity: int) -> bool:
        headers = {"Authorization": f"Bearer {self.merchant.key}"}
        async with self.session.get(f"{self.hub.url}/v1/stock/TEE-0001", headers=headers) as answer:
            return bool((await answer.json())["available"] == quantity)


@contextlib.asynccontextmanager
async def a_platform(
    hub: Deployment, *, token: str = TOKEN, is_mapped: bool = True
) -> AsyncIterator[HookedPlatform]:
    """Run the emulator for a merchant of its own, who has entered this token and perhaps mapped nothing."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    credentials = {"shared_signature_secret": SECRET, "access_token": token, "api_url": f"{url}/graphql"}
    merchant = await add_merchant(hub.valkey.url, platform="shiphero", credentials=credentials)
    settings = settings_for(hub.valkey.url)
    redis = CoalescingRedis(settings.redis)
    if is_mapped:
        account = merchant.account
        await mappings.map_location(redis, merchant.keys, account, WAREHOUSE, "WH1", settings=settings)
    await redis.close()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "connectors.shiphero.emulator", "--port", str(port), "--paused"),
        *("--hook-url", hub.url + merchant.hook, "--rate", "0", "--skus", "5"),
        *("--credential", f"shared_signature_secret={SECRET}", "--credential", f"access_token={TOKEN}"),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        assert json.loads(await process.stdout.readline())["port"] == port
        async with aiohttp.ClientSession() as session:
            yield HookedPlatform(hub=hub, merchant=merchant, url=url, session=session)
    finally:
        process.kill()
        await process.wait()
