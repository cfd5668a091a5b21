"""A merchant's own endpoint, all the way: an account is added, polled, and its levels are the stock."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from connectors.http_json import check_settings
from connectors.http_json.emulator import HttpJsonEmulator
from synchub.accounts import operations as accounts
from synchub.accounts.model import NewAccount
from synchub.connector_kit.discovery import discover
from synchub.connector_kit.emulation import Options
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import now_ms
from synchub.polling import operations as polling
from synchub.stock import operations as stock
from synchub.upstream.operations import Upstream
from tests.support.registry import open_registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.accounts.model import AccountView
    from synchub.accounts.operations import Registry

CONNECTOR = discover()["http_json"]
ACME = MerchantKeys("acme")
ROWS = {
    "items_path": "data.rows",
    "sku_path": "sku",
    "quantity_path": "stock.available",
    "location_path": "warehouse",
    "updated_path": "updated_at",
}
FORMS = {
    "/stock/sweep?limit=3": {"page_param": "page"},
    "/stock/updated?limit=500": {"cursor_param": "since"},
    "/stock/changes?limit=3": {"cursor_kind": "event_id", "cursor_param": "after", "sequence_path": "id"},
    "/stock/delta?limit=3": {
        "cursor_param": "token",
        "cursor_path": "token",
        "next_path": "next",
        "page_param": "token",
    },
}


@pytest.fixture
async def registry(redis_url: str) -> AsyncIterator[Registry]:
    async with open_registry(redis_url) as opened:
        yield accounts.Registry(
            redis=opened.redis,
            vault=opened.vault,
            manifests={"http_json": CONNECTOR.manifest},
            settings=opened.settings,
            settings_faults=lambda _platform, settings: check_settings(settings),
        )


@contextlib.asynccontextmanager
async def emulated() -> AsyncIterator[tuple[HttpJsonEmulator, TestClient[Any, Any]]]:
    emulator = HttpJsonEmulator(Options(hook_url="", skus=4, rate=0, paused=True))
    async with TestClient(TestServer(emulator.app())) as control:
        yield emulator, control


async def add(registry: Registry, url: str, **settings: str) -> AccountView:
    wanted = NewAccount(platform="http-json", merchant="acme", credentials={"url": url, **ROWS, **settings})
    added = await accounts.add_account(registry, wanted)
    return accounts.open_view(registry.vault, added.account, CONNECTOR.manifest, at_ms=now_ms())


async def poll(registry: Registry, account: AccountView) -> None:
    async with aiohttp.ClientSession() as session:
        upstream = Upstream(registry.redis, session, registry.settings)
        async with polling.turn(registry.redis, upstream, account, CONNECTOR, registry.settings) as turn:
            assert turn is not None
            async for page in turn.pages():
                await turn.apply(page, turn.normalize(page))


async def stocked(registry: Registry, emulator: HttpJsonEmulator) -> dict[str, int | None]:
    reading = await stock.read(registry.redis, ACME, sorted(emulator.levels))
    return {answer.sku: answer.ats for answer in reading.answers}


def truth(emulator: HttpJsonEmulator) -> dict[str, int]:
    return {sku: sum(held.values()) for sku, held in emulator.levels.items()}


@pytest.mark.parametrize("form", FORMS)
async def test_what_the_endpoint_says_is_the_stock(registry: Registry, form: str) -> None:
    async with emulated() as (emulator, control):
        account = await add(registry, str(control.make_url(form)), **FORMS[form])
        await poll(registry, account)
        assert await stocked(registry, emulator) == truth(emulator)
        wish = {"sku": "TEE-0002", "location": "WH1", "quantity": 77}
        assert (await control.post("/_emulator/change", json=wish)).status == 200
        await poll(registry, account)
        assert (await stocked(registry, emulator))["TEE-0002"] == 77
        assert await stocked(registry, emulator) == truth(emulator)
