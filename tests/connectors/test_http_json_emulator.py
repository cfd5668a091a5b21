"""The emulated endpoint, read by the real client in each of its four forms."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from connectors.http_json import Client, check_settings
from connectors.http_json.emulator import HttpJsonEmulator
from synchub.connector_kit import emulation
from synchub.connector_kit.contract import Access
from synchub.connector_kit.emulated_faults import parse_fault
from synchub.connector_kit.emulation import Bucket, Options
from synchub.connector_kit.events import Level
from synchub.connector_kit.http import AiohttpPlatformHttp
from synchub.errors import CursorRefused, UpstreamFailed, UpstreamRefused, UpstreamThrottled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET = "Bearer only-for-tests"
SHARED = {"items_path": "data.rows", "sku_path": "sku", "quantity_path": "stock.available"}
PLACED = {**SHARED, "location_path": "warehouse", "updated_path": "updated_at", "auth_header": SECRET}
FORMS: dict[str, dict[str, str]] = {
    "/stock/sweep?limit=3": {"page_param": "page", "page_size": "3"},
    "/stock/updated?limit=3": {
        "cursor_param": "since",
        "page_size": "3",
        "tie_param": "after_id",
        "id_path": "id",
        "overlap_s": "1",
    },
    "/stock/changes?limit=3": {
        "cursor_kind": "event_id",
        "cursor_param": "after",
        "sequence_path": "id",
    },
    "/stock/delta?limit=3": {
        "cursor_kind": "opaque",
        "cursor_param": "token",
        "cursor_path": "token",
        "next_path": "next",
        "page_param": "token",
    },
}

Levels = dict[str, dict[str, int]]


@dataclass
class Scene:
    """An emulator and a client that reads one of its forms."""

    emulator: HttpJsonEmulator
    control: TestClient[Any, Any]
    client: Client
    cursor: str = ""

    async def read(self) -> Levels:
        """Read on to the last page and return what was told."""
        found: Levels = {}
        for _ in range(100):
            page = await self.client.fetch_page(self.cursor)
            self.cursor = page.cursor
            for event in (event for record in page.records for event in record.events):
                assert isinstance(event, Level)
                assert event.quantity is not None
                found.setdefault(event.item, {})[event.location] = event.quantity
            assert page.refused == ()
            if page.is_last:
                return found
        pytest.fail("no last page")

    async def change(self, sku: str, location: str, quantity: int) -> None:
        wish = {"sku": sku, "location": location, "quantity": quantity}
        assert (await self.control.post("/_emulator/change", json=wish)).status == 200

    async def calls(self) -> dict[str, Any]:
        found: dict[str, Any] = await (await self.control.get("/_emulator/calls")).json()
        return found


@asynccontextmanager
async def scene(
    form: str, *faults: str, token_lives_s: float = 30, deadline_s: float = 5, **settings: str
) -> AsyncIterator[Scene]:
    options = Options(
        hook_url="",
        credentials={"auth_header": SECRET},
        skus=4,
        locations=("WH1", "WH2"),
        rate=0,
        paused=True,
        faults=tuple(parse_fault(fault) for fault in faults),
    )
    emulator = HttpJsonEmulator(options, token_lives_s=token_lives_s)
    async with TestClient(TestServer(emulator.app())) as control, aiohttp.ClientSession() as session:
        credentials = {"url": str(control.make_url(form)), **PLACED, **FORMS.get(form, {}), **settings}
        assert check_settings(credentials) == ()
        http = AiohttpPlatformHttp(session, deadline_s=deadline_s)
        yield Scene(emulator, control, Client(Access(http=http, credentials=credentials)))


@pytest.mark.parametrize("form", FORMS)
async def test_everything_is_read_and_then_what_changed(form: str) -> None:
    async with scene(form) as here:
        assert await here.read() == here.emulator.levels
        await here.change("TEE-0002", "WH2", 77)
        assert (await here.read())["TEE-0002"]["WH2"] == 77
        await here.change("TEE-0002", "WH2", 78)
        await here.change("TEE-0001", "WH1", 9)
        told = await here.read()
        assert (told["TEE-0002"]["WH2"], told["TEE-0001"]["WH1"]) == (78, 9)


@pytest.mark.parametrize("form", list(FORMS)[2:])
async def test_nothing_new_is_nothing_told(form: str) -> None:
    async with scene(form) as here:
        await here.read()
        assert await here.read() == {}


async def test_polling_can_begin_at_a_time() -> None:
    async with scene("/stock/updated?limit=3") as here:
        here.cursor = here.client.cursor_at(4_102_444_800_000)
        assert await here.read() == {}
        here.cursor = here.client.cursor_at(1_000)
        assert await here.read() == here.emulator.levels


async def test_a_token_expires_and_reading_begins_anew() -> None:
    async with scene("/stock/delta?limit=3", token_lives_s=0) as here:
        first = await here.client.fetch_page("")
        with pytest.raises(CursorRefused):
            await here.client.fetch_page(first.cursor)


async def test_events_that_are_no_longer_kept_are_a_refused_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.http_json.emulator.EVENTS_MAX", 8)
    async with scene("/stock/changes?limit=3") as here:
        first = await here.client.fetch_page("")
        for quantity in range(10):
            await here.change("TEE-0001", "WH1", quantity)
        with pytest.raises(CursorRefused):
            await here.client.fetch_page(first.cursor)


async def test_single_skus_are_asked_for() -> None:
    async with scene("/stock", items_param="sku", items_join="repeat") as here:
        found = await here.client.fetch_levels(["TEE-0001", "TEE-0003", "TEE-9999"])
        told = {(one.item, one.location): one.quantity for one in found if isinstance(one, Level)}
        levels = here.emulator.levels
        assert told == {(sku, at): levels[sku][at] for sku in ("TEE-0001", "TEE-0003") for at in levels[sku]}


async def test_a_wrong_secret_is_refused() -> None:
    async with scene("/stock/sweep?limit=3", auth_header="Bearer another") as here:
        with pytest.raises(UpstreamRefused):
            await here.client.fetch_page("")
        assert (await here.calls())["calls"] == {"sweep": {"refused": 1}}


async def test_more_calls_than_it_allows_are_throttled_with_a_time_to_wait() -> None:
    async with scene("/stock/sweep?limit=3") as here:
        here.emulator.bucket = Bucket(capacity=2, restored_per_s=0.01)
        await here.client.fetch_page("")
        await here.client.fetch_page("")
        with pytest.raises(UpstreamThrottled) as failure:
            await here.client.fetch_page("")
        assert 90 <= (failure.value.retry_after_s or 0) <= 100
        assert await here.calls() == {"total": 3, "calls": {"sweep": {"ok": 2, "throttled": 1}}}


@pytest.mark.parametrize(
    ("fault", "failure", "counted"),
    [
        ("down@0-60", UpstreamFailed, "unanswered"),
        ("throttle@0-60", UpstreamThrottled, "throttled"),
        ("half@0-60", UpstreamFailed, "ok"),
        ("html@0-60", UpstreamFailed, "ok"),
    ],
)
async def test_its_faults_are_those_failures(fault: str, failure: type[Exception], counted: str) -> None:
    async with scene("/stock/delta?limit=3", fault) as here:
        with pytest.raises(failure):
            await here.client.fetch_page("")
        (results,) = (await here.calls())["calls"].values()
        assert set(results) == {counted}


async def test_a_slow_answer_is_a_failure_for_whoever_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulation, "SLOW_S", 0.2)
    async with scene("/stock/sweep?limit=3", "slow@0-60", deadline_s=0.05) as here:
        with pytest.raises(UpstreamFailed, match="in time"):
            await here.client.fetch_page("")
    async with scene("/stock/sweep?limit=3", "slow@0-60") as here:
        assert len((await here.client.fetch_page("")).records) == 3


async def test_forgeries_concern_only_those_who_are_posted_to() -> None:
    async with scene("/stock/changes?limit=3", "forge@0-60") as here:
        await here.read()
        await here.change("TEE-0001", "WH1", 5)
        assert await here.read() == {"TEE-0001": {"WH1": 5}}
