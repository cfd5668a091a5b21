"""What changes when a setting of calls to platforms is changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from synchub.errors import Misconfigured, UpstreamOpen
from synchub.settings import load_settings
from synchub.upstream.model import Operation, Priority
from tests.support.platform_calls import (
    LOOPBACK,
    Clock,
    a_connector,
    a_platform,
    a_process,
    a_store,
    always,
)
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.redis import CoalescingRedis
    from tests.support.platform_calls import Answer


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[CoalescingRedis]:
    async with a_store(redis_url) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def outcomes(
    redis: CoalescingRedis, clock: Clock, answer: Answer, count: int, **about: Any
) -> list[str]:
    """What came of so many calls to a platform that answers like this."""
    async with (
        a_platform(answer) as platform,
        a_process(redis, platform.url, times=clock.times(), **about) as process,
    ):
        return [await process.outcome() for _ in range(count)]


def failing_first(count: int) -> Answer:
    """Fail so often, then never again."""
    left = [count]

    async def answer(_: web.Request) -> web.StreamResponse:
        left[0] -= 1
        return web.Response(status=200 if left[0] < 0 else 500)

    return answer


def taking(clock: Clock, *durations_ms: int) -> Answer:
    """Take so long for each call in turn."""
    left = list(durations_ms)

    async def answer(_: web.Request) -> web.StreamResponse:
        clock.ms += left.pop(0) if left else 0
        return web.json_response({})

    return answer


class TestAnswers:
    async def test_an_answer_that_is_not_complete_by_the_deadline_is_a_failure(
        self, redis: CoalescingRedis
    ) -> None:
        async def never(_: web.Request) -> web.StreamResponse:
            await asyncio.Event().wait()
            raise AssertionError

        async with a_platform(never) as platform, a_process(redis, platform.url, deadline_ms=100) as process:
            async with asyncio.timeout(3):  # much less than the default
                assert await process.outcome() == "UpstreamFailed"

    @pytest.mark.parametrize(("limit", "outcome"), [(2999, "UpstreamFailed"), (3000, "ok")])
    async def test_a_larger_answer_than_the_limit_is_a_failure(
        self, redis: CoalescingRedis, clock: Clock, limit: int, outcome: str
    ) -> None:
        async def large(_: web.Request) -> web.StreamResponse:
            return web.Response(body=b"x" * 3000)

        assert await outcomes(redis, clock, large, 1, answer_max_bytes=limit) == [outcome]

    async def test_a_process_opens_so_many_connections_and_no_more(self, redis: CoalescingRedis) -> None:
        go_on = asyncio.Event()

        async def held(_: web.Request) -> web.StreamResponse:
            await go_on.wait()
            return web.json_response({})

        async with a_platform(held) as platform, a_process(redis, platform.url, connections_max=2) as process:
            calls = [asyncio.create_task(process.outcome()) for _ in range(6)]
            await eventually(lambda: platform.at_once == 2)
            go_on.set()
            assert set(await asyncio.gather(*calls)) == {"ok"}
        assert platform.most_at_once == 2

    async def test_platforms_in_networks_that_are_named_are_called_and_no_others(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        for networks, outcome in (
            (LOOPBACK, "ok"),
            ("10.0.0.0/8", "UpstreamRefused"),
            ("", "UpstreamRefused"),
        ):
            assert await outcomes(redis, clock, always(200), 1, private_targets=networks) == [outcome]

    def test_what_is_no_network_is_refused(self) -> None:
        with pytest.raises(Misconfigured, match="private_targets"):
            load_settings(upstream={"private_targets": "10.0.0.0/8, everywhere"})


class TestTurns:
    @pytest.mark.parametrize(("wait_ms", "outcome"), [(1999, "UpstreamPutOff"), (2000, "ok")])
    async def test_a_call_that_would_wait_longer_is_put_off(
        self, redis: CoalescingRedis, clock: Clock, wait_ms: int, outcome: str
    ) -> None:
        slow = a_connector(capacity=1, restored_per_s=0.5)
        told = await outcomes(redis, clock, always(200), 2, connector=slow, wait_max_ms=wait_ms)
        assert told == ["ok", outcome]

    @pytest.mark.parametrize(("reserve", "swept"), [(0, 10), (50, 5), (90, 1)])
    async def test_sweeps_leave_the_reserve_to_single_items(
        self, redis: CoalescingRedis, clock: Clock, reserve: int, swept: int
    ) -> None:
        slow = a_connector(capacity=10, restored_per_s=0.001)
        about: dict[str, Any] = {"connector": slow, "times": clock.times(), "wait_max_ms": 0}
        async with (
            a_platform() as platform,
            a_process(redis, platform.url, reserve_percent=reserve, **about) as process,
        ):
            told = [await process.outcome(priority=Priority.SWEEP) for _ in range(11)]
            assert told.count("ok") == swept
            assert await process.outcome() == ("ok" if reserve else "UpstreamPutOff")


class TestRepeating:
    @pytest.mark.parametrize("tries", [1, 2, 4])
    async def test_a_call_is_sent_so_often_and_no_more(
        self, redis: CoalescingRedis, clock: Clock, tries: int
    ) -> None:
        about: dict[str, Any] = {"tries_max": tries, "retry_percent": 100, "breaker_calls_min": 1000}
        async with (
            a_platform(always(500)) as platform,
            a_process(redis, platform.url, times=clock.times(), backoff_base_ms=10, **about) as process,
        ):
            for _ in range(12):
                await process.outcome("saving", method="POST", operation=Operation.WRITE)
            before = len(platform.taken)
            assert await process.outcome() == "UpstreamFailed"
            assert len(platform.taken) - before == tries

    @pytest.mark.parametrize("percent", [0, 20, 50])
    async def test_so_many_of_a_hundred_calls_are_repeated(
        self, redis: CoalescingRedis, clock: Clock, percent: int
    ) -> None:
        async with (
            a_platform(always(500)) as platform,
            a_process(
                redis, platform.url, times=clock.times(), retry_percent=percent, breaker_calls_min=1000
            ) as process,
        ):
            for _ in range(50):
                await process.outcome()
            assert len(platform.taken) == 50 + percent // 2

    async def test_the_first_pause_before_a_repetition_is_no_longer_than_the_base(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        about = {"retry_percent": 100, "backoff_base_ms": 10}
        assert await outcomes(redis, clock, failing_first(1), 1, **about) == ["ok"]
        assert len(clock.slept) == 1
        assert clock.slept[0] <= 0.01

    async def test_no_pause_before_a_repetition_is_longer_than_the_longest(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        about = {"retry_percent": 100, "backoff_base_ms": 10_000_000, "backoff_max_ms": 100}
        assert await outcomes(redis, clock, failing_first(1), 1, **about) == ["ok"]
        assert len(clock.slept) == 1
        assert clock.slept[0] <= 0.1


class TestBreaker:
    @pytest.mark.parametrize(("window_ms", "last"), [(60_000, "UpstreamOpen"), (2000, "UpstreamFailed")])
    async def test_failures_before_the_window_are_forgotten(
        self, redis: CoalescingRedis, clock: Clock, window_ms: int, last: str
    ) -> None:
        async def slowly_failing(_: web.Request) -> web.StreamResponse:
            clock.ms += 1500
            return web.Response(status=500)

        about = {"breaker_window_ms": window_ms, "breaker_calls_min": 3, "tries_max": 1}
        assert (await outcomes(redis, clock, slowly_failing, 4, **about))[-1] == last

    async def test_so_many_calls_are_needed_for_a_conclusion(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        told = await outcomes(redis, clock, always(500), 6, breaker_calls_min=4, tries_max=1)
        assert told == ["UpstreamFailed"] * 4 + ["UpstreamOpen"] * 2

    @pytest.mark.parametrize(("percent", "last"), [(50, "ok"), (40, "UpstreamOpen")])
    async def test_so_many_failures_of_a_hundred_open_it(
        self, redis: CoalescingRedis, clock: Clock, percent: int, last: str
    ) -> None:
        about = {"breaker_calls_min": 10, "breaker_failed_percent": percent, "tries_max": 1}
        assert (await outcomes(redis, clock, failing_first(4), 11, **about))[-1] == last

    @pytest.mark.parametrize(("slow_ms", "last"), [(100, "UpstreamOpen"), (101, "ok")])
    async def test_calls_that_take_so_long_open_it(
        self, redis: CoalescingRedis, clock: Clock, slow_ms: int, last: str
    ) -> None:
        about = {"breaker_calls_min": 3, "breaker_slow_ms": slow_ms}
        assert (await outcomes(redis, clock, taking(clock, 100, 100, 100), 4, **about))[-1] == last

    @pytest.mark.parametrize(("percent", "last"), [(50, "UpstreamOpen"), (51, "ok")])
    async def test_so_many_slow_calls_of_a_hundred_open_it(
        self, redis: CoalescingRedis, clock: Clock, percent: int, last: str
    ) -> None:
        about = {"breaker_calls_min": 4, "breaker_slow_ms": 100, "breaker_slow_percent": percent}
        assert (await outcomes(redis, clock, taking(clock, 100, 100, 1, 1), 5, **about))[-1] == last

    async def test_it_stays_open_for_so_long_the_first_time(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        assert await self._open_for(redis, clock, breaker_open_ms=7000) == [7, 14]

    async def test_it_never_stays_open_for_longer(self, redis: CoalescingRedis, clock: Clock) -> None:
        assert await self._open_for(redis, clock, breaker_open_ms=7000, breaker_open_max_ms=9000) == [7, 9]

    async def test_so_many_calls_are_tried_by_all_processes_together(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        go_on = asyncio.Event()

        async def answer(request: web.Request) -> web.StreamResponse:
            if request.path == "/try":
                await go_on.wait()
            return web.Response(status=200 if request.path == "/try" else 500)

        about: dict[str, Any] = {
            "times": clock.times(),
            "breaker_calls_min": 1,
            "breaker_permits": 2,
            "tries_max": 1,
        }
        async with (
            a_platform(answer) as platform,
            a_process(redis, platform.url, **about) as first,
            a_process(redis, platform.url, **about) as second,
        ):
            await first.outcome("fail")
            clock.ms += 5000
            calls = [asyncio.create_task(one.outcome("try")) for one in (first, second) for _ in range(4)]
            await eventually(lambda: platform.at_once == 2 and sum(call.done() for call in calls) == 6)
            go_on.set()
            told = await asyncio.gather(*calls)
        assert sorted(told) == ["UpstreamOpen"] * 6 + ["ok"] * 2

    @pytest.mark.parametrize(("every_ms", "outcome"), [(50, "UpstreamOpen"), (10_000, "ok")])
    async def test_what_others_have_found_is_looked_at_so_often(
        self, redis: CoalescingRedis, clock: Clock, every_ms: int, outcome: str
    ) -> None:
        about: dict[str, Any] = {"times": clock.times(), "breaker_calls_min": 1, "tries_max": 1}

        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(status=500 if request.path == "/fail" else 200)

        async with (
            a_platform(answer) as platform,
            a_process(redis, platform.url, **about) as first,
            a_process(redis, platform.url, share_every_ms=every_ms, **about) as second,
        ):
            assert await second.outcome("levels") == "ok"
            await first.outcome("fail")
            clock.ms += 60
            assert await second.outcome("levels") == outcome

    async def _open_for(self, redis: CoalescingRedis, clock: Clock, **about: Any) -> list[int | None]:
        """Fail twice in a row and return for how long it was open each time."""
        waits = []
        async with (
            a_platform(always(500)) as platform,
            a_process(
                redis,
                platform.url,
                times=clock.times(),
                breaker_calls_min=1,
                breaker_permits=1,
                tries_max=1,
                **about,
            ) as process,
        ):
            for _ in range(2):
                assert await process.outcome() == "UpstreamFailed"
                with pytest.raises(UpstreamOpen) as refused:
                    await process.call()
                waits.append(refused.value.retry_after_s)
                clock.ms += 1000 * (refused.value.retry_after_s or 0)
        return waits
