"""What changes when a setting of noticing stalls is changed."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from synchub.kit.tasks import end
from synchub.sync_lag import operations as sync_lag
from synchub.sync_lag.model import SyncState
from tests.support.wait import a_turn, eventually
from tests.support.watching import watched

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS


@pytest.mark.parametrize(("every_ms", "looks"), [(50, True), (3_600_000, False)])
async def test_silence_is_judged_as_often_as_it_says(redis_url: str, every_ms: int, looks: bool) -> None:
    async with watched(redis_url, look_every_ms=every_ms) as shop:
        first = (await sync_lag.read_everyone(shop.hub.redis)).judged_ms
        # The clock of the judge is the machine's when it runs by itself: the first look is another time.
        task = asyncio.create_task(shop.judge.run())
        await eventually(lambda: _is_judged(shop.hub.redis, first), what="the first look")
        count = 0
        turn = shop.judge.turn

        async def counted(now: int | None = None) -> bool:
            nonlocal count
            count += 1
            return await turn(now)

        shop.judge.turn = counted  # type: ignore[method-assign]  # looks are what is counted
        if looks:
            await eventually(lambda: count >= 3, what="three more looks")
        else:
            for _ in range(50):
                await a_turn()
            assert count == 0
        await end(task)


async def _is_judged(redis: Any, first: int) -> bool:
    return (await sync_lag.read_everyone(redis)).judged_ms != first


@pytest.mark.parametrize(("floor_ms", "state"), [(20_000, SyncState.SUSPECT), (HOUR_MS, SyncState.HEALTHY)])
async def test_silence_shorter_than_the_floor_is_no_sign(
    redis_url: str, floor_ms: int, state: SyncState
) -> None:
    async with watched(redis_url, learned=60, silence_floor_ms=floor_ms) as shop:
        assert await shop.wait(30 * MINUTE_MS) is state


async def test_the_rarer_silence_may_be_wrong_the_longer_it_must_be(redis_url: str) -> None:
    silences = []
    # The second account that is judged makes the bound longer by itself, so the rare one comes first.
    for weeks in (520, 1):
        async with watched(redis_url, learned=60, false_alarm_weeks=weeks) as shop:
            await shop.wait(15 * MINUTE_MS)
            silences.append((await shop.known()).topics["stock"])
    assert 0 < silences[0] < silences[1]


@pytest.mark.parametrize(("hours", "state"), [(168, SyncState.SUSPECT), (168 * 10, SyncState.HEALTHY)])
async def test_a_rhythm_observed_for_less_time_says_nothing(
    redis_url: str, hours: int, state: SyncState
) -> None:
    async with watched(redis_url, learned=60, learn_hours=hours) as shop:
        assert await shop.wait(HOUR_MS) is state


@pytest.mark.parametrize("every_ms", [MINUTE_MS, 5 * MINUTE_MS])
async def test_a_platform_is_asked_for_a_sign_of_life_as_often_as_it_says(
    redis_url: str, every_ms: int
) -> None:
    async with watched(redis_url, canary="asked", canary_every_ms=every_ms) as shop:
        await shop.wait(HOUR_MS)
        # A judge looks every nine seconds here, so an ask may be so much later.
        assert 0.8 * HOUR_MS / every_ms - 1 <= len(shop.asks) <= HOUR_MS / (0.95 * every_ms) + 1


@pytest.mark.parametrize(("missed", "state"), [(3, SyncState.STALLED), (30, SyncState.SUSPECT)])
async def test_so_many_signs_of_life_must_be_missing(redis_url: str, missed: int, state: SyncState) -> None:
    async with watched(redis_url, canary_missed_max=missed) as shop:
        await shop.second(canary_ms=shop.now, canary_every_ms=MINUTE_MS)
        assert await shop.wait(5 * MINUTE_MS) is state


@pytest.mark.parametrize(
    ("grace_ms", "state"), [(MINUTE_MS, SyncState.STALLED), (HOUR_MS, SyncState.HEALTHY)]
)
async def test_a_delivery_may_be_so_late_before_it_is_lost(
    redis_url: str, grace_ms: int, state: SyncState
) -> None:
    async with watched(redis_url, grace_ms=grace_ms) as shop:
        await shop.hear()
        await shop.wait(10 * MINUTE_MS)
        await shop.poll(1, age_ms=2 * MINUTE_MS)
        assert await shop.wait(1000) is state


@pytest.mark.parametrize(("wanted", "state"), [(2, SyncState.HEALTHY), (3, SyncState.RECOVERING)])
async def test_so_many_deliveries_must_have_arrived_before_it_is_well(
    redis_url: str, wanted: int, state: SyncState
) -> None:
    async with watched(redis_url, recover_deliveries=wanted) as shop:
        await _stall(shop)
        assert await _recovered(shop, deliveries=2, polls=9) is state


@pytest.mark.parametrize(("wanted", "state"), [(2, SyncState.HEALTHY), (3, SyncState.RECOVERING)])
async def test_so_many_polls_must_have_found_nothing_before_it_is_well(
    redis_url: str, wanted: int, state: SyncState
) -> None:
    async with watched(redis_url, recover_polls=wanted) as shop:
        await _stall(shop)
        assert await _recovered(shop, deliveries=9, polls=2) is state


async def _stall(shop: Any) -> None:
    await shop.hear()
    await shop.wait(10 * MINUTE_MS)
    await shop.poll(1, age_ms=2 * MINUTE_MS)
    assert await shop.wait(1000) is SyncState.STALLED


async def _recovered(shop: Any, *, deliveries: int, polls: int) -> SyncState:
    for _ in range(deliveries):
        shop.now += 1000
        await shop.hear()
        await shop.wait(1000)
    for _ in range(polls):
        await shop.poll()
        await shop.wait(1000)
    state: SyncState = (await shop.known()).state
    return state
