from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from connectors.standard import normalize, verify
from connectors.standard.emulator import StandardEmulator
from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.emulated_faults import FaultKind, FaultWindow, parse_fault
from synchub.connector_kit.emulation import Options, demo_sku
from synchub.connector_kit.events import Heartbeat, Level, StockEvent
from synchub.errors import InvalidRequest, SignatureRefused
from tests.support.wait import eventually

SECRET = "whsec_YSBzaWduaW5nIHNlY3JldCBmb3IgdGVzdHMgb25seS4="

Emulated = TestClient[web.Request, web.Application]


class Hub:
    """Verifies and reads what the emulator posts, and answers what it is told to."""

    def __init__(self) -> None:
        self.received: list[tuple[str, Level]] = []
        self.forgeries = 0
        self.answers: list[int] = []
        self.attempts = 0

    @property
    def levels(self) -> dict[str, dict[str, int | None]]:
        found: dict[str, dict[str, int | None]] = defaultdict(dict)
        for _, level in self.received:
            found[level.item][level.location] = level.quantity
        return dict(found)

    async def receive(self, request: web.Request) -> web.Response:
        self.attempts += 1
        headers = {name.lower(): value for name, value in request.headers.items()}
        arrived = Delivery(
            account="acc_1", headers=headers, body=await request.read(), arrived_at_us=time.time_ns() // 1000
        )
        if self.answers:
            return web.Response(status=self.answers.pop(0))
        try:
            verify(arrived, [SECRET], now_ms=time.time_ns() // 1_000_000)
        except SignatureRefused:
            self.forgeries += 1
            return web.Response(status=401)
        for event in normalize("stock.changed", arrived):
            assert isinstance(event, Level)
            self.received.append((headers["webhook-id"], event))
        return web.Response(status=202)


@asynccontextmanager
async def emulated(hub: Hub, *faults: str, **options: Any) -> AsyncIterator[Emulated]:
    app = web.Application()
    app.router.add_post("/hooks/acc_1", hub.receive)
    async with TestServer(app) as server:
        chosen = Options(
            hook_url=str(server.make_url("/hooks/acc_1")),
            credentials={"signing_secret": SECRET},
            faults=tuple(parse_fault(fault) for fault in faults),
            **{"skus": 4, "locations": ("WH1", "WH2"), "rate": 0, **options},
        )
        async with TestClient(TestServer(StandardEmulator(chosen).app())) as client:
            yield client


async def truth(client: Emulated) -> dict[str, Any]:
    async with client.get("/_emulator/truth") as answer:
        return dict(await answer.json())


async def change(client: Emulated, quantity: int, sku: str = demo_sku(1), location: str = "WH1") -> Any:
    async with client.post(
        "/_emulator/change", json={"sku": sku, "location": location, "quantity": quantity}
    ) as answer:
        return await answer.json()


def received(hub: Hub, count: int) -> Callable[[], bool]:
    return lambda: len(hub.received) >= count


async def test_it_announces_every_level_at_the_start() -> None:
    hub = Hub()
    async with emulated(hub) as client:
        await eventually(received(hub, 8))
        told = await truth(client)
    assert hub.levels == told["levels"]
    assert told["skus"] == {demo_sku(index): demo_sku(index) for index in range(1, 5)}
    assert told["posted"] == 8


async def test_it_waits_for_a_word_when_it_starts_paused() -> None:
    hub = Hub()
    async with emulated(hub, paused=True, rate=200) as client:
        assert (await truth(client))["posted"] == 0
        await client.post("/_emulator/announce")
        await eventually(received(hub, 8))
        await client.post("/_emulator/resume")
        await eventually(received(hub, 12))
        await client.post("/_emulator/pause")


async def test_a_change_on_demand_answers_with_the_hubs_status() -> None:
    hub = Hub()
    async with emulated(hub, paused=True) as client:
        assert await change(client, 77) == {"status": 202}
        assert [level.quantity for _, level in hub.received] == [77]
        assert (await truth(client))["levels"][demo_sku(1)]["WH1"] == 77


async def test_random_changes_keep_their_order_and_end_at_the_truth() -> None:
    hub = Hub()
    async with emulated(hub, rate=500, skus=2) as client:
        await eventually(received(hub, 60))
        await client.post("/_emulator/pause")

        async def nothing_is_pending() -> bool:
            return not (await truth(client))["pending"]

        await eventually(nothing_is_pending)
        told = await truth(client)
    numbers = defaultdict(list)
    for _, level in hub.received:
        assert level.version is not None
        numbers[level.item].append(level.version.number)
    assert all(found == sorted(found) for found in numbers.values())
    assert hub.levels == told["levels"]


async def test_two_emulators_of_one_seed_start_equal_and_of_another_differ() -> None:
    stocks = [StandardEmulator(Options(hook_url="", seed=seed)).levels for seed in (1, 1, 2)]
    assert stocks[0] == stocks[1] != stocks[2]


async def test_a_refused_delivery_is_tried_again_under_its_own_id() -> None:
    hub = Hub()
    async with emulated(hub, paused=True) as client:
        hub.answers = [503]
        assert await change(client, 5) == {"status": 202}
        hub.answers = [503, 503, 503]
        assert await change(client, 6) == {"status": 503}
        told = await truth(client)
    assert (told["posted"], told["accepted"], told["failed"]) == (2, 1, 1)


async def test_a_stalled_platform_changes_and_says_nothing() -> None:
    hub = Hub()
    async with emulated(hub, "stall@0s-60s", paused=True) as client:
        assert await change(client, 5) == {"status": 0}
        told = await truth(client)
    assert hub.attempts == 0
    assert told["withheld"] == 1
    assert told["levels"][demo_sku(1)]["WH1"] == 5


async def test_duplicates_are_the_same_delivery_five_times() -> None:
    hub = Hub()
    async with emulated(hub, "duplicate@0s-60s", paused=True) as client:
        await change(client, 5)
        told = await truth(client)
    assert Counter(name for name, _ in hub.received).most_common(1)[0][1] == 5
    assert (told["posted"], told["duplicates"]) == (1, 4)


async def test_reordered_deliveries_all_arrive_and_not_in_order() -> None:
    hub = Hub()
    async with emulated(hub, "reorder@0s-60s", skus=20):
        await eventually(received(hub, 40))
    numbers = [level.version.number for _, level in hub.received if level.version]
    assert numbers != sorted(numbers)


async def test_forgeries_look_like_deliveries_and_are_refused() -> None:
    hub = Hub()
    async with emulated(hub, "forge@0s-60s", paused=True) as client:
        assert await change(client, 5) == {"status": 202}
        told = await truth(client)
    assert hub.forgeries == told["forged"] == told["refused"] == 1
    assert told["forged_accepted"] == 0
    assert [level.quantity for _, level in hub.received] == [5]


async def test_a_disabled_subscription_stays_silent() -> None:
    hub = Hub()
    async with emulated(hub, "disable@0s-1s", paused=True) as client:
        assert await change(client, 5) == {"status": 0}


async def test_an_sku_that_is_not_there_is_404() -> None:
    async with emulated(Hub(), paused=True) as client:
        assert "error" in await change(client, 1, sku="TEE-9999")
        assert "error" in await change(client, 1, location="WH9")


def test_a_fault_is_a_kind_and_two_moments() -> None:
    assert parse_fault("stall@5s-25s") == FaultWindow(kind=FaultKind.STALL, from_s=5, to_s=25)
    assert parse_fault("down@0.5-2").is_open(0.5)
    assert not parse_fault("down@0.5-2").is_open(2)
    for text in ("stall", "sleep@1s-2s", "stall@2s-1s", "stall@-1s-2s", "stall@1m-2m"):
        with pytest.raises(InvalidRequest):
            parse_fault(text)


def test_the_process_says_its_port_first_and_ends_on_sigterm() -> None:
    command = [sys.executable, "-m", "connectors.standard.emulator", "--hook-url", "http://127.0.0.1:9/"]
    process = subprocess.Popen(
        [*command, "--credential", f"signing_secret={SECRET}", "--paused"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    assert process.stdout is not None
    with process:
        assert json.loads(process.stdout.readline())["port"] > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_a_missing_credential_is_a_usage_error() -> None:
    command = [sys.executable, "-m", "connectors.standard.emulator", "--hook-url", "http://127.0.0.1:9/"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "signing_secret" in done.stderr


async def test_signs_of_life_come_by_themselves_and_stop_with_the_deliveries() -> None:
    seen: list[StockEvent] = []

    async def receive(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        arrived = Delivery(account="acc_1", headers=headers, body=body, arrived_at_us=time.time_ns() // 1000)
        verify(arrived, [SECRET], now_ms=time.time_ns() // 1_000_000)
        seen.extend(normalize(json.loads(body)["type"], arrived))
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/hooks/shop", receive)
    async with TestServer(app) as server:
        options = Options(
            hook_url=str(server.make_url("/hooks/shop")),
            credentials={"signing_secret": SECRET},
            heartbeat_s=0.1,
            paused=True,
        )
        emulator = StandardEmulator(options)
        async with TestClient(TestServer(emulator.app())):
            await eventually(lambda: len(seen) >= 3, what="three signs of life")
            assert set(seen) == {Heartbeat(every_ms=100)}
            emulator.sender.is_subscribed = False
            await eventually(lambda: emulator.sender.counts["withheld"] >= 2, what="signs that are withheld")
