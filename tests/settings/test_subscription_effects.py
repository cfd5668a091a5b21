"""What changes when a setting of subscriptions is changed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from synchub.errors import Misconfigured
from synchub.kit.clock import now_ms
from synchub.settings import load_settings
from synchub.subscriptions.backlog import Backlog
from synchub.subscriptions.model import EVERYTHING, Filter, Spot
from tests.support.endpoints import Endpoint, open_town
from tests.support.wait import eventually

URL = "https://agent.example.com/stock"


@pytest.mark.parametrize(("limit", "status"), [(1, 422), (2, 201)])
async def test_a_subscription_may_name_so_many_skus_and_no_more(
    redis_url: str, limit: int, status: int
) -> None:
    async with open_town(redis_url, tells=False, subscriptions={"skus_max": limit}) as town:
        assert (await town.ask("POST", url=URL, skus=["A", "B"])).status == status


async def test_no_more_is_granted_than_the_limit_and_that_when_nothing_is_asked(redis_url: str) -> None:
    async with open_town(redis_url, subscriptions={"grant_ms": 1000}) as town:
        asked = await town.subscribe(url=f"{URL}/1", ttl_ms=3_600_000)
        unasked = await town.subscribe(url=f"{URL}/2")
        await town.becomes(asked["id"], "expired")
        await town.becomes(unasked["id"], "expired")


@pytest.mark.parametrize(("limit", "sizes"), [(2, [2, 2, 1]), (100, [5])])
async def test_a_message_holds_no_more_items_than_the_limit(
    redis_url: str, limit: int, sizes: list[int]
) -> None:
    async with open_town(redis_url, subscriptions={"items_max": limit}) as town:
        await town.change(A=1, B=2, C=3, D=4, E=5)
        await town.subscribe(**{"from": "everything"})
        await eventually(lambda: len(town.endpoint.known()) == 5)
    assert [len(one.items) for one in town.endpoint.taken] == sizes


@pytest.mark.parametrize(("limit", "is_behind"), [(2, True), (100, False)])
async def test_no_more_skus_wait_in_memory_than_the_limit(
    redis_url: str, limit: int, *, is_behind: bool
) -> None:
    async with open_town(redis_url, tells=False, subscriptions={"pending_max": limit}) as town:
        hub, keys = town.hub, town.site.merchant.keys
        await town.change(A=1)
        epoch = (await town.subscribe(url=URL))["cursor"].partition(":")[0]
        present = Spot(epoch=epoch, seq=0)
        backlog = Backlog(hub.redis, keys, Filter(), hub.settings, lambda: present, asyncio.Semaphore(1))
        await backlog.fill(Spot(epoch=epoch, seq=EVERYTHING))
        [answer], upto = backlog.take(10)
        backlog.strike_off(upto.seq)
        for number in range(3):
            object.__setattr__(answer, "sku", f"S{number}")
            object.__setattr__(answer, "seq", upto.seq + number + 1)
            backlog.note(answer)
        assert backlog.is_behind is is_behind


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (3, 3)])
async def test_so_many_endpoints_are_called_at_once(redis_url: str, limit: int, most: int) -> None:
    running, peak = 0, 0
    gate = asyncio.Event()

    async def counted(_: web.Request) -> web.StreamResponse:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await gate.wait()
        running -= 1
        return web.Response()

    async with AsyncExitStack() as stack:
        endpoints = [await stack.enter_async_context(Endpoint().serving()) for _ in range(3)]
        town = await stack.enter_async_context(open_town(redis_url, subscriptions={"at_once": limit}))
        for endpoint in endpoints:
            endpoint.answers = [counted]
            await town.subscribe(url=endpoint.url)
        await town.change(TEE=1)
        await eventually(lambda: running == most)
        gate.set()
        await eventually(lambda: sum(len(one.taken) for one in endpoints) == 3)
    assert peak == most


async def test_an_endpoint_that_has_not_answered_by_the_timeout_has_failed(redis_url: str) -> None:
    async with open_town(redis_url, subscriptions={"timeout_ms": 50}) as town:
        made = await town.subscribe()
        town.endpoint.gate = asyncio.Event()
        await town.change(TEE=1)
        await town.has_logged(made["id"], "timed_out")
        town.endpoint.gate.set()


@pytest.mark.parametrize(("base_ms", "least"), [(1, 6), (600_000, 1)])
async def test_the_first_pauses_are_as_long_as_the_base_says(
    redis_url: str, base_ms: int, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synchub.subscriptions.lanes.random.random", lambda: 0.5)
    pauses = {"retry_base_ms": base_ms, "retry_max_ms": 3_600_000}
    async with open_town(redis_url, subscriptions=pauses) as town:
        made = await town.subscribe()
        town.endpoint.status = 500
        await town.change(TEE=1)
        await town.has_logged(made["id"], "failed", least)
        shown = await town.show(made["id"])
    assert shown["failures"] >= least
    assert (len(town.endpoint.taken) == 1) is (base_ms > 1)


async def test_no_pause_is_longer_than_the_longest(redis_url: str) -> None:
    async with open_town(redis_url, subscriptions={"retry_base_ms": 600_000, "retry_max_ms": 10}) as town:
        await town.subscribe()
        town.endpoint.headers = {"Retry-After": "600"}
        town.endpoint.answers = [500, 429, 503, 500]
        await town.change(TEE=1)
        await eventually(lambda: bool(town.endpoint.accepted))


@pytest.mark.parametrize(("after_ms", "status"), [(1, "disabled"), (3_600_000, "active")])
async def test_an_endpoint_that_takes_nothing_for_so_long_is_left_alone(
    redis_url: str, after_ms: int, status: str
) -> None:
    async with open_town(redis_url, subscriptions={"disable_after_ms": after_ms}) as town:
        made = await town.subscribe()
        town.endpoint.status = 500
        started_ms = now_ms()
        await town.change(TEE=1)
        await town.has_logged(made["id"], "failed", 2)
        await town.becomes(made["id"], status)
    assert now_ms() - started_ms < 3_600_000


@pytest.mark.parametrize("kept", [2, 5])
async def test_so_many_lines_of_the_log_are_kept_and_these_are_the_newest(redis_url: str, kept: int) -> None:
    async with open_town(redis_url, subscriptions={"attempts_kept": kept}) as town:
        made = await town.subscribe()
        town.endpoint.answers = [500] * 8
        await town.change(TEE=1)
        await town.has_logged(made["id"], "delivered")
        outcomes = [line["outcome"] for line in await town.attempts(made["id"])]
    assert outcomes == ["failed"] * (kept - 1) + ["delivered"]


@pytest.mark.parametrize(("networks", "outcome"), [("127.0.0.0/8", "delivered"), ("10.0.0.0/8", "forbidden")])
async def test_endpoints_in_networks_that_are_named_are_called_and_no_others(
    redis_url: str, networks: str, outcome: str
) -> None:
    async with open_town(redis_url, subscriptions={"private_targets": networks}) as town:
        made = await town.subscribe()
        await town.change(TEE=1)
        await town.has_logged(made["id"], outcome)
    assert bool(town.endpoint.taken) is (outcome == "delivered")


def test_what_is_no_network_is_refused_at_the_start() -> None:
    with pytest.raises(Misconfigured, match="private_targets"):
        load_settings(subscriptions={"private_targets": "10.0.0.0/8, everywhere"})
    settings = load_settings(subscriptions={"private_targets": " 10.0.0.0/8 ,"})
    assert settings.subscriptions.private_targets == " 10.0.0.0/8 ,"
