"""Calls of several processes to one platform, over real sockets and with the real store."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from synchub import metrics
from synchub.errors import UpstreamFailed, UpstreamOpen, UpstreamPutOff, UpstreamRefused, UpstreamThrottled
from synchub.kit.tasks import end
from synchub.sync_settings import UpstreamSettings
from synchub.upstream.budgets import Budget
from synchub.upstream.model import Limits, Operation, Place, Priority, Wanted
from synchub.upstream.operations import read_upstream
from synchub.upstream.reach import Reach
from tests.support.platform_calls import (
    Clock,
    Line,
    NoStore,
    a_connector,
    a_platform,
    a_process,
    a_store,
    always,
    an_account,
    well,
)
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.redis import CoalescingRedis, Part
    from tests.support.platform_calls import Process

CAREFREE: dict[str, Any] = {"breaker_calls_min": 100_000, "deadline_ms": 60_000}
"""A breaker that no test of something else meets, and all the time in the world."""


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[CoalescingRedis]:
    async with a_store(redis_url) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


class TestStorms:
    @pytest.mark.parametrize(("status", "headers"), [(429, {"Retry_After": "1"}), (503, {})])
    async def test_of_a_hundred_calls_ten_at_most_are_repeated(
        self, redis: CoalescingRedis, clock: Clock, status: int, headers: dict[str, str]
    ) -> None:
        async with (
            a_platform(always(status, **headers)) as platform,
            a_process(redis, platform.url, times=clock.times(), **CAREFREE) as first,
            a_process(redis, platform.url, times=clock.times(), **CAREFREE) as second,
        ):
            for _ in range(50):
                assert await first.outcome() in {"UpstreamThrottled", "UpstreamFailed"}
                assert await second.outcome() in {"UpstreamThrottled", "UpstreamFailed"}
            assert 100 + 8 <= len(platform.taken) <= 100 + 10

    async def test_being_throttled_is_no_failure_and_a_refusal_neither(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        for status, named in ((429, "UpstreamThrottled"), (401, "UpstreamRefused"), (404, "UpstreamRefused")):
            async with (
                a_platform(always(status)) as platform,
                a_process(redis, platform.url, times=clock.times(), breaker_calls_min=2) as process,
            ):
                assert {await process.outcome() for _ in range(20)} == {named}

    @pytest.mark.parametrize("status", [408, 500, 503, 302])
    async def test_a_platform_that_fails_is_left_alone(
        self, redis: CoalescingRedis, clock: Clock, status: int
    ) -> None:
        async with (
            a_platform(always(status)) as platform,
            a_process(redis, platform.url, times=clock.times(), breaker_calls_min=5, tries_max=1) as process,
        ):
            outcomes = [await process.outcome() for _ in range(8)]
        assert outcomes == ["UpstreamFailed"] * 5 + ["UpstreamOpen"] * 3
        assert len(platform.taken) == 5

    async def test_a_call_that_may_not_be_tried_gives_its_turn_back(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        go_on = asyncio.Event()

        async def answer(request: web.Request) -> web.StreamResponse:
            if request.path == "/try":
                await go_on.wait()
            return web.Response(status=200 if request.path == "/try" else 500)

        about: dict[str, Any] = {"breaker_calls_min": 1, "breaker_permits": 1, "tries_max": 1}
        once = a_connector(capacity=2, restored_per_s=0.001, concurrency=3)
        async with (
            a_platform(answer) as platform,
            a_process(redis, platform.url, connector=once, times=clock.times(), **about) as process,
        ):
            await process.outcome("fail")
            clock.ms += 2_000_000
            trying = asyncio.create_task(process.outcome("try"))
            await eventually(lambda: platform.at_once == 1)
            assert await process.outcome("try") == "UpstreamOpen"
            assert await process.outcome("try") == "UpstreamOpen", "and not put off"
            go_on.set()
            assert await trying == "ok"

    async def test_one_operation_that_fails_does_not_stop_the_others(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(status=500 if request.path == "/page" else 200)

        async with (
            a_platform(answer) as platform,
            a_process(redis, platform.url, times=clock.times(), breaker_calls_min=2, tries_max=1) as process,
        ):
            for _ in range(3):
                await process.outcome("page", operation=Operation.PAGE)
            assert await process.outcome("page", operation=Operation.PAGE) == "UpstreamOpen"
            assert await process.outcome("levels") == "ok"

    async def test_slow_answers_open_it(self, redis: CoalescingRedis, clock: Clock) -> None:
        async def slowly(_: web.Request) -> web.StreamResponse:
            clock.ms += 30_000
            return web.json_response({})

        async with (
            a_platform(slowly) as platform,
            a_process(redis, platform.url, times=clock.times(), breaker_window_ms=3_600_000) as process,
        ):
            outcomes = [await process.outcome() for _ in range(12)]
        assert outcomes == ["ok"] * 10 + ["UpstreamOpen"] * 2

    async def test_a_web_page_with_status_200_is_a_failure(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        async def page(_: web.Request) -> web.StreamResponse:
            return web.Response(text="<html>We will be back soon.</html>", content_type="text/html")

        async with (
            a_platform(page) as platform,
            a_process(redis, platform.url, times=clock.times(), breaker_calls_min=2, tries_max=1) as process,
        ):
            outcomes = [await process.outcome() for _ in range(3)]
        assert outcomes == ["UpstreamFailed", "UpstreamFailed", "UpstreamOpen"]

    async def test_a_call_in_a_hurry_that_fails_does_not_stop_those_with_time(
        self, redis: CoalescingRedis
    ) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            if request.path == "/never":
                await asyncio.Event().wait()
            return web.json_response({})

        async with (
            a_platform(answer) as platform,
            a_process(redis, platform.url, breaker_calls_min=1) as process,
        ):
            assert await process.outcome("never", deadline_ms=100) == "UpstreamFailed"
            assert await process.outcome("never", deadline_ms=100) == "UpstreamOpen"
            assert await process.outcome("levels") == "ok"


class TestRepeating:
    async def test_a_read_that_failed_once_is_made_again(self, redis: CoalescingRedis, clock: Clock) -> None:
        async with self._failing_once(redis, clock) as (process, taken):
            assert await process.outcome("levels", method="POST") == "ok"
            assert taken.count("/levels") == 2

    async def test_a_change_is_not(self, redis: CoalescingRedis, clock: Clock) -> None:
        async with self._failing_once(redis, clock) as (process, taken):
            about: dict[str, Any] = {"method": "POST", "operation": Operation.WRITE}
            assert await process.outcome("write", **about) == "UpstreamFailed"
            assert taken.count("/write") == 1

    async def test_unless_the_platform_would_know_it_again(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        async with self._failing_once(redis, clock) as (process, taken):
            about: dict[str, Any] = {"method": "POST", "operation": Operation.WRITE}
            assert await process.outcome("write", headers={"idempotency-key": "17"}, **about) == "ok"
            assert taken.count("/write") == 2

    async def test_an_address_that_refuses_us_is_not_asked_again(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        async with (
            a_platform(always(401)) as platform,
            a_process(redis, platform.url, times=clock.times(), retry_percent=100) as process,
        ):
            assert await process.outcome() == "UpstreamRefused"
            assert len(platform.taken) == 1

    @contextlib.asynccontextmanager
    async def _failing_once(
        self, redis: CoalescingRedis, clock: Clock
    ) -> AsyncIterator[tuple[Process, list[str]]]:
        seen = set[str]()

        async def once(request: web.Request) -> web.StreamResponse:
            is_first = request.path not in seen
            seen.add(request.path)
            return web.Response(status=500 if is_first else 200)

        async with (
            a_platform(once) as platform,
            a_process(redis, platform.url, times=clock.times(), retry_percent=100) as process,
        ):
            yield process, platform.taken


class TestLimits:
    async def test_all_processes_share_one_bucket(self, redis: CoalescingRedis, clock: Clock) -> None:
        tight = a_connector(capacity=5, restored_per_s=0.001)
        async with (
            a_platform() as platform,
            contextlib.AsyncExitStack() as stack,
        ):
            opened = [
                a_process(redis, platform.url, connector=tight, times=clock.times(), wait_max_ms=0)
                for _ in range(4)
            ]
            processes = [await stack.enter_async_context(process) for process in opened]
            outcomes = await asyncio.gather(*(processes[number % 4].outcome() for number in range(40)))
        assert outcomes.count("ok") == 5
        assert outcomes.count("UpstreamPutOff") == 35
        assert len(platform.taken) == 5

    async def test_all_processes_share_the_calls_at_once(self, redis: CoalescingRedis) -> None:
        go_on = asyncio.Event()

        async def held(_: web.Request) -> web.StreamResponse:
            await go_on.wait()
            return web.json_response({})

        narrow = a_connector(concurrency=2)
        async with (
            a_platform(held) as platform,
            a_process(redis, platform.url, connector=narrow) as first,
            a_process(redis, platform.url, connector=narrow) as second,
        ):
            calls = [asyncio.create_task(one.outcome()) for one in (first, second) for _ in range(5)]
            await eventually(lambda: platform.at_once == 2)
            go_on.set()
            assert set(await asyncio.gather(*calls)) == {"ok"}
        assert (len(platform.taken), platform.most_at_once) == (10, 2)

    async def test_one_that_would_wait_too_long_is_told_how_long(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        slow = a_connector(capacity=2, restored_per_s=0.05)
        async with (
            a_platform() as platform,
            a_process(redis, platform.url, connector=slow, times=clock.times(), wait_max_ms=5000) as process,
        ):
            await process.call(cost=2)
            with pytest.raises(UpstreamPutOff) as refused:
                await process.call()
        assert refused.value.retry_after_s == 20

    async def test_a_short_wait_is_waited(self, redis: CoalescingRedis, clock: Clock) -> None:
        slow = a_connector(capacity=2, restored_per_s=0.5)
        async with (
            a_platform() as platform,
            a_process(redis, platform.url, connector=slow, times=clock.times()) as process,
        ):
            await process.call(cost=2)
            await process.call()
        assert sum(clock.slept) == pytest.approx(2)

    async def test_the_callers_own_deadline_contains_the_wait(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        slow = a_connector(capacity=2, restored_per_s=0.5)
        async with (
            a_platform() as platform,
            a_process(redis, platform.url, connector=slow, times=clock.times()) as process,
        ):
            await process.call(cost=2)
            with pytest.raises(UpstreamPutOff):
                await process.call(deadline_ms=500)

    async def test_a_call_that_is_called_off_gives_its_place_back(self, redis: CoalescingRedis) -> None:
        async def held(request: web.Request) -> web.StreamResponse:
            if request.path == "/never":
                await asyncio.Event().wait()
            return web.json_response({})

        narrow = a_connector(concurrency=1)
        async with (
            a_platform(held) as platform,
            a_process(redis, platform.url, connector=narrow) as process,
        ):
            calling = asyncio.create_task(process.outcome("never"))
            await eventually(lambda: platform.at_once == 1)
            calling.cancel()
            assert await process.outcome() == "ok"

    async def test_what_the_platform_says_is_left_is_obeyed(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.json_response({}, headers={"X-Left": "0", "X-Capacity": "10", "X-Rate": "0.5"})

        async with (
            a_platform(answer) as platform,
            a_process(redis, platform.url, times=clock.times()) as first,
            a_process(redis, platform.url, times=clock.times(), wait_max_ms=1000) as second,
        ):
            await first.call()
            with pytest.raises(UpstreamPutOff) as refused:
                await second.call()
        assert refused.value.retry_after_s == 2

    async def test_being_asked_to_wait_stops_every_process(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        async with (
            a_platform(always(429, Retry_After="60")) as platform,
            a_process(redis, platform.url, times=clock.times()) as first,
            a_process(redis, platform.url, times=clock.times()) as second,
        ):
            with pytest.raises(UpstreamThrottled):
                await first.call()
            with pytest.raises(UpstreamPutOff) as refused:
                await second.call()
        assert refused.value.retry_after_s is not None
        assert 60 <= refused.value.retry_after_s <= 61
        assert len(platform.taken) == 1


class TestUrgency:
    @pytest.mark.parametrize("processes", [1, 2])
    async def test_a_tickle_goes_before_a_waiting_sweep(self, redis: CoalescingRedis, processes: int) -> None:
        clock = Clock(runs=False)
        slow = a_connector(capacity=4, restored_per_s=1)
        about: dict[str, Any] = {"connector": slow, "times": clock.times(), "reserve_percent": 0}
        async with (
            a_platform() as platform,
            a_process(redis, platform.url, **about) as first,
            a_process(redis, platform.url, **about) as second,
        ):
            await first.call("begin", cost=4)
            sweep = asyncio.create_task(
                first.outcome("sweep", priority=Priority.SWEEP, operation=Operation.PAGE)
            )
            await eventually(lambda: len(clock.sleeping()) == 1)
            other = first if processes == 1 else second
            tickle = asyncio.create_task(other.outcome("tickle"))
            await eventually(lambda: len(clock.sleeping()) == 2)
            await self._until(clock, sweep, tickle)
        assert platform.taken == ["/begin", "/tickle", "/sweep"]

    async def test_one_without_patience_does_not_wait_behind_one_with_patience(
        self, redis: CoalescingRedis
    ) -> None:
        clock = Clock(runs=False)
        reach = Reach(redis, UpstreamSettings(), clock.times())
        place = Place(merchant="acme", account="shop")
        budget = Budget(place, Limits(capacity=1, restored_per_s=0.5), "shop", reach)
        wanted = Wanted(priority=Priority.TICKLE, cost=1)
        await budget.take(wanted, wait_ms=0, lease_ms=1000)
        patient = asyncio.create_task(budget.take(wanted, wait_ms=60_000, lease_ms=1000))
        hasty = asyncio.create_task(budget.take(wanted, wait_ms=0, lease_ms=1000))
        await eventually(hasty.done)
        with pytest.raises(UpstreamPutOff):
            await hasty
        assert not patient.done()
        await end(patient)

    async def test_a_sweep_leaves_the_reserve_to_others(self, redis: CoalescingRedis, clock: Clock) -> None:
        slow = a_connector(capacity=8, restored_per_s=0.001)
        async with (
            a_platform() as platform,
            a_process(redis, platform.url, connector=slow, times=clock.times(), wait_max_ms=0) as process,
        ):
            swept = [await process.outcome("sweep", priority=Priority.SWEEP) for _ in range(8)]
            probed = [await process.outcome("probe", priority=Priority.PROBE) for _ in range(3)]
            others = [await process.outcome("other", priority=Priority.REPAIR) for _ in range(3)]
        assert swept.count("ok") == 6
        assert probed.count("ok") == 1
        assert others.count("ok") == 1

    @staticmethod
    async def _until(clock: Clock, *tasks: asyncio.Task[str]) -> None:
        async def moved() -> bool:
            await clock.advance(20)
            return all(task.done() for task in tasks)

        await eventually(moved, what="both calls")
        assert {task.result() for task in tasks} == {"ok"}


class TestWithoutTheStore:
    async def test_calls_go_on_within_a_part_of_the_limits(self, clock: Clock) -> None:
        tight = a_connector(capacity=20, restored_per_s=0.001)
        async with (
            a_platform() as platform,
            a_process(
                NoStore(), platform.url, connector=tight, times=clock.times(), wait_max_ms=0
            ) as process,
        ):
            outcomes = [await process.outcome() for _ in range(20)]
        assert outcomes.count("ok") == 5

    async def test_being_throttled_is_remembered(self, clock: Clock) -> None:
        async with (
            a_platform(always(429, Retry_After="60")) as platform,
            a_process(NoStore(), platform.url, times=clock.times()) as process,
        ):
            outcomes = [await process.outcome() for _ in range(3)]
        assert outcomes == ["UpstreamThrottled", "UpstreamPutOff", "UpstreamPutOff"]

    async def test_no_more_calls_are_on_their_way_than_the_platform_takes(self) -> None:
        async with (
            a_platform() as platform,
            a_process(NoStore(), platform.url, connector=a_connector(concurrency=2)) as process,
        ):
            assert set(await asyncio.gather(*(process.outcome() for _ in range(8)))) == {"ok"}
        assert platform.most_at_once <= 2

    async def test_a_store_that_does_not_answer_holds_no_call_up_twice(self) -> None:
        class Silent:
            asked = 0

            async def execute(self, *_: Part) -> Any:
                self.asked += 1
                await asyncio.Event().wait()

        store = Silent()
        async with a_platform() as platform, a_process(store, platform.url, share_every_ms=60_000) as process:
            assert [await process.outcome() for _ in range(5)] == ["ok"] * 5
        assert store.asked == 1

    async def test_what_was_called_meanwhile_is_counted_when_the_store_is_back(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        line, tight = Line(redis), a_connector(capacity=20, restored_per_s=0.001)
        about: dict[str, Any] = {"connector": tight, "times": clock.times(), "wait_max_ms": 0}
        async with (
            a_platform() as platform,
            a_process(line, platform.url, share_every_ms=50, **about) as process,
            a_process(redis, platform.url, **about) as other,
        ):
            line.is_cut = True
            assert [await process.outcome() for _ in range(4)] == ["ok"] * 4
            line.is_cut = False
            away = metrics.upstream_store_away
            await eventually(lambda: away._value.get() == 0)
            assert await process.outcome() == "ok"
            outcomes = [await other.outcome() for _ in range(20)]
        assert outcomes.count("ok") == 15


class TestAddresses:
    async def test_an_address_that_is_not_public_is_not_called(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        async with (
            a_platform() as platform,
            a_process(
                redis, platform.url, times=clock.times(), private_targets="", breaker_calls_min=1
            ) as process,
        ):
            for _ in range(3):
                with pytest.raises(UpstreamRefused, match="not public"):
                    await process.call()
        assert platform.taken == []

    async def test_a_packed_answer_is_unpacked_and_measured_afterwards(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        async def packed(_: web.Request) -> web.StreamResponse:
            answer = web.Response(body=b"x" * 100_000)
            answer.enable_compression(web.ContentCoding.gzip)
            return answer

        async with a_platform(packed) as platform:
            for limit, outcome in ((100_000, "ok"), (99_999, "UpstreamFailed")):
                async with a_process(
                    redis, platform.url, times=clock.times(), answer_max_bytes=limit
                ) as process:
                    assert await process.outcome() == outcome


class TestLooking:
    async def test_operators_see_what_is_left_and_how_breakers_stand(self, redis: CoalescingRedis) -> None:
        account = an_account()
        assert (await read_upstream(redis, account)).budget is None
        async with (
            a_platform(always(500)) as platform,
            a_process(redis, platform.url, breaker_calls_min=1, tries_max=1) as process,
        ):
            with pytest.raises(UpstreamFailed):
                await process.call(cost=400)
            with pytest.raises(UpstreamOpen):
                await process.call()
        seen = await read_upstream(redis, account)
        assert seen.budget is not None
        assert (seen.budget.capacity, seen.budget.calls_today, seen.budget.in_flight) == (1000, 1, 0)
        assert 600 <= seen.budget.remaining <= 1000
        assert seen.breakers["levels"].state == "open"
        assert 0 < seen.breakers["levels"].wait_ms <= 5000
        assert seen.breakers["levels"].trips == 1

    async def test_metrics_say_what_came_of_calls(self, redis: CoalescingRedis, clock: Clock) -> None:
        account = an_account("seen")
        calls = metrics.upstream_calls.labels("shop", "canary", "ok")
        before = calls._value.get()
        async with (
            a_platform(well) as platform,
            a_process(redis, platform.url, account=account, times=clock.times()) as process,
        ):
            await process.call(operation=Operation.CANARY, cost=100)
        assert calls._value.get() == before + 1
        assert metrics.upstream_budget.labels("seen")._value.get() == pytest.approx(900, abs=1)
        assert metrics.upstream_breaker.labels("seen", "canary")._value.get() == 0
