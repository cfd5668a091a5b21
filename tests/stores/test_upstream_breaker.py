"""A breaker is decided by each process, shared by all, and works for one that has no store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from synchub import metrics
from synchub.errors import UpstreamOpen
from synchub.sync_settings import UpstreamSettings
from synchub.upstream.breakers import Permit, SharedBreaker
from synchub.upstream.model import Place, Verdict
from synchub.upstream.reach import Reach
from tests.support.platform_calls import Clock, Line, NoStore, a_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.lua import Executes
    from synchub.redis import CoalescingRedis

PLACE: Final = Place(merchant="acme", account="shop")
LEASE_MS: Final = 5000
QUICK: Final = {"breaker_calls_min": 2, "breaker_open_ms": 1000, "breaker_permits": 2, "share_every_ms": 50}


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[CoalescingRedis]:
    async with a_store(redis_url) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


def a_breaker(
    redis: Executes, clock: Clock, *, chance: float = 1.0, place: Place = PLACE, **about: Any
) -> SharedBreaker:
    """One process's view of the breaker; by default it looks at the others before each call."""
    told = {
        "breaker_calls_min": 2,
        "breaker_open_ms": 1000,
        "breaker_permits": 2,
        "share_every_ms": 50,
        **about,
    }
    return SharedBreaker(place, "levels", Reach(redis, UpstreamSettings(**told), clock.times(chance)))


async def is_open(breaker: SharedBreaker) -> bool:
    try:
        await breaker.check()
        permit = await breaker.permit(LEASE_MS)
    except UpstreamOpen:
        return True
    await breaker.tell(permit, Verdict.NOTHING, 0)
    return False


async def fail(
    breaker: SharedBreaker, times: int = 1, verdict: Verdict = Verdict.FAILED, took_ms: int = 0
) -> None:
    for _ in range(times):
        await breaker.check()
        await breaker.tell(await breaker.permit(LEASE_MS), verdict, took_ms)


async def tried(breaker: SharedBreaker, clock: Clock) -> Permit:
    """Be let through a half open breaker."""
    clock.ms += 60
    await breaker.check()
    return await breaker.permit(LEASE_MS)


class TestSharing:
    async def test_what_one_process_finds_stops_the_others(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        first, second = a_breaker(redis, clock), a_breaker(redis, clock)
        assert not await is_open(second)
        await fail(first, 2)
        assert await is_open(first)
        clock.ms += 60
        assert await is_open(second)

    async def test_who_opened_it_says_for_how_long(self, redis: CoalescingRedis, clock: Clock) -> None:
        first, second = a_breaker(redis, clock, breaker_open_ms=7000), a_breaker(redis, clock)
        await fail(first, 2)
        with pytest.raises(UpstreamOpen) as refused:
            await second.check()
        assert refused.value.retry_after_s == 7

    async def test_others_are_looked_at_only_so_often(self, redis: CoalescingRedis, clock: Clock) -> None:
        first = a_breaker(redis, clock, breaker_open_ms=20_000)
        second = a_breaker(redis, clock, share_every_ms=10_000)
        assert not await is_open(second)
        await fail(first, 2)
        clock.ms += 9999
        assert not await is_open(second)
        clock.ms += 1
        assert await is_open(second)

    async def test_all_processes_together_try_so_many_calls_and_no_more(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        breakers = [a_breaker(redis, clock, breaker_permits=3) for _ in range(6)]
        await fail(breakers[0], 2)
        clock.ms += 1000
        permits = await asyncio.gather(
            *(tried(breaker, clock) for breaker in breakers), return_exceptions=True
        )
        assert sum(isinstance(permit, Permit) for permit in permits) == 3
        assert sum(isinstance(permit, UpstreamOpen) for permit in permits) == 3

    async def test_when_these_go_well_it_is_closed_for_all(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        first, second = a_breaker(redis, clock), a_breaker(redis, clock)
        await fail(first, 2)
        clock.ms += 1000
        for breaker in (first, second):
            await breaker.tell(await tried(breaker, clock), Verdict.WELL, 0)
        clock.ms += 60
        for breaker in (first, second):
            await breaker.check()
            assert breaker.is_closed

    async def test_what_has_been_tried_counts_among_them(self, redis: CoalescingRedis, clock: Clock) -> None:
        first, second = a_breaker(redis, clock), a_breaker(redis, clock)
        await fail(first, 2)
        clock.ms += 1000
        await first.tell(await tried(first, clock), Verdict.WELL, 0)
        last = await tried(first, clock)
        with pytest.raises(UpstreamOpen):
            await tried(second, clock)
        await first.tell(last, Verdict.WELL, 0)
        assert first.is_closed

    async def test_after_it_has_closed_it_opens_as_briefly_as_the_first_time(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        breaker = a_breaker(redis, clock, breaker_permits=1)
        for _ in range(2):
            await fail(breaker, 2)
            with pytest.raises(UpstreamOpen) as refused:
                await breaker.check()
            assert refused.value.retry_after_s == 1
            clock.ms += 1000
            await breaker.tell(await tried(breaker, clock), Verdict.WELL, 0)

    async def test_who_has_slept_through_its_opening_and_closing_opens_it_for_nobody(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        sleeper = a_breaker(redis, clock, share_every_ms=100_000)
        first = a_breaker(redis, clock, breaker_permits=1)
        await fail(sleeper)
        await fail(first, 2)
        clock.ms += 1000
        await first.tell(await tried(first, clock), Verdict.WELL, 0)
        await fail(sleeper)
        clock.ms += 60
        assert not await is_open(first)
        assert not await is_open(sleeper)

    async def test_when_half_of_them_fail_it_opens_for_twice_as_long(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        first, second = a_breaker(redis, clock), a_breaker(redis, clock)
        await fail(first, 2)
        waits = []
        for _ in range(3):
            with pytest.raises(UpstreamOpen) as refused:
                await first.check()
            waits.append(refused.value.retry_after_s)
            clock.ms += 1000 * (refused.value.retry_after_s or 0)
            permits = [await tried(first, clock), await tried(second, clock)]
            await first.tell(permits[0], Verdict.WELL, 0)
            await second.tell(permits[1], Verdict.FAILED, 0)
            clock.ms += 60
        assert waits == [1, 2, 4]

    async def test_chance_brings_it_back_at_another_time(self, redis: CoalescingRedis, clock: Clock) -> None:
        early, other = a_breaker(redis, clock, chance=0.0), Place(merchant="acme", account="other")
        late = a_breaker(redis, clock, chance=1.0, place=other)
        await fail(early, 2)
        await fail(late, 2)
        clock.ms += 600
        assert not await is_open(early)
        assert await is_open(late)

    async def test_slow_trials_are_bad_trials(self, redis: CoalescingRedis, clock: Clock) -> None:
        breaker = a_breaker(redis, clock, breaker_slow_ms=100, breaker_slow_percent=100)
        await fail(breaker, 2, Verdict.WELL, took_ms=100)
        assert await is_open(breaker)
        clock.ms += 1000
        for _ in range(2):
            await breaker.tell(await tried(breaker, clock), Verdict.WELL, 100)
        assert await is_open(breaker)

    async def test_a_trial_that_came_to_nothing_is_somebody_elses(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        first, second = a_breaker(redis, clock, breaker_permits=1), a_breaker(redis, clock, breaker_permits=1)
        await fail(first, 2)
        clock.ms += 1000
        permit = await tried(first, clock)
        with pytest.raises(UpstreamOpen):
            await tried(second, clock)
        await first.tell(permit, Verdict.NOTHING, 0)
        await second.tell(await tried(second, clock), Verdict.WELL, 0)
        assert second.is_closed

    async def test_a_trial_whose_process_was_killed_is_given_to_another_one(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        killed, other = a_breaker(redis, clock, breaker_permits=1), a_breaker(redis, clock, breaker_permits=1)
        await fail(killed, 2)
        clock.ms += 1000
        lost = await tried(killed, clock)
        with pytest.raises(UpstreamOpen):
            await tried(other, clock)
        clock.ms += LEASE_MS
        taken = await tried(other, clock)
        await killed.tell(lost, Verdict.FAILED, 0)
        assert not await is_open(killed) or not other.is_closed
        await other.tell(taken, Verdict.WELL, 0)
        assert other.is_closed, "what came too late has counted for nothing"

    async def test_what_was_called_before_it_opened_says_nothing_afterwards(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        breaker = a_breaker(redis, clock, breaker_permits=1)
        before = await breaker.permit(LEASE_MS)
        await fail(breaker, 2)
        clock.ms += 1000
        trial = await tried(breaker, clock)
        await breaker.tell(before, Verdict.FAILED, 0)
        await breaker.tell(trial, Verdict.WELL, 0)
        assert breaker.is_closed

    async def test_opening_is_counted_once_for_all(self, redis: CoalescingRedis, clock: Clock) -> None:
        place = Place(merchant="acme", account="counted")
        counter = metrics.upstream_trips.labels("counted", "levels")
        first, second = a_breaker(redis, clock, place=place), a_breaker(redis, clock, place=place)
        await fail(first, 2)
        clock.ms += 60
        assert await is_open(second)
        assert counter._value.get() == 1


class TestWithoutTheStore:
    async def test_each_process_decides_by_itself(self, clock: Clock) -> None:
        breaker = a_breaker(NoStore(), clock)
        await fail(breaker, 2)
        assert await is_open(breaker)
        clock.ms += 1000
        permits = [await breaker.permit(LEASE_MS) for _ in range(2)]
        with pytest.raises(UpstreamOpen):
            await breaker.permit(LEASE_MS)
        for permit in permits:
            await breaker.tell(permit, Verdict.WELL, 0)
        assert breaker.is_closed

    async def test_what_was_called_before_it_opened_says_nothing_here_either(self, clock: Clock) -> None:
        breaker = a_breaker(NoStore(), clock, breaker_permits=1)
        before = await breaker.permit(LEASE_MS)
        await fail(breaker, 2)
        clock.ms += 1000
        trial = await breaker.permit(LEASE_MS)
        await breaker.tell(before, Verdict.FAILED, 0)
        await breaker.tell(trial, Verdict.WELL, 0)
        assert breaker.is_closed

    async def test_nobody_asks_again_until_it_is_back(self, clock: Clock) -> None:
        store = NoStore()
        breaker = a_breaker(store, clock)
        for _ in range(20):
            clock.ms += 1000
            await fail(breaker, verdict=Verdict.WELL)
        assert store.asked == 1

    async def test_what_it_found_meanwhile_is_told_when_the_store_is_back(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        line = Line(redis)
        settings = UpstreamSettings(breaker_calls_min=2, breaker_open_ms=5000, share_every_ms=50)
        reach = Reach(line, settings, clock.times())
        first, second = SharedBreaker(PLACE, "levels", reach), a_breaker(redis, clock)
        line.is_cut = True
        await fail(first, 2)
        assert first.is_closed is False
        assert not await is_open(second)
        line.is_cut = False
        await reach.look()
        await first.look()
        clock.ms += 60
        assert await is_open(second)
        assert await is_open(first)

    async def test_a_trial_begun_with_the_store_and_ended_without_decides_here(
        self, redis: CoalescingRedis, clock: Clock
    ) -> None:
        line = Line(redis)
        breaker = a_breaker(line, clock, breaker_permits=1)
        await fail(breaker, 2)
        clock.ms += 1000
        permit = await tried(breaker, clock)
        line.is_cut = True
        await breaker.tell(permit, Verdict.WELL, 0)
        assert breaker.is_closed
