"""What changes when a setting of polling is changed."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from synchub.errors import UpstreamFailed
from synchub.kit.clock import now_ms
from synchub.kit.tasks import end
from synchub.polling import operations as polling
from synchub.sync_lag.model import AccountSync, SyncState
from tests.support.polled import Desk, Platform, a_desk
from tests.support.wait import eventually
from workers.turns import Poller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest


async def test_a_healthy_account_is_polled_as_often_as_safety_says(redis_url: str) -> None:
    async with a_desk(redis_url, Platform(), polling={"safety_every_ms": 500}) as desk:
        await desk.poll()
        assert await _wait_ms(desk) <= 500


async def test_a_stalled_account_is_polled_as_often_as_its_hour_says(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    intervals = {"busy_every_ms": 3_000, "quiet_every_ms": 20_000}
    async with a_desk(redis_url, Platform(), polling=intervals) as desk:
        _judge(desk, monkeypatch, is_busy=True)
        await desk.poll()
        assert await _wait_ms(desk) <= 3_000
        _judge(desk, monkeypatch, is_busy=False)
        await desk.poll()
        assert 10_000 < await _wait_ms(desk) <= 20_000


async def test_hours_that_are_told_count_more_than_learned_ones(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"busy_every_ms": 3_000, "quiet_every_ms": 20_000, "busy_hours": "00-24"}
    async with a_desk(redis_url, Platform(), polling=told) as desk:
        _judge(desk, monkeypatch, is_busy=False)
        await desk.poll()
        assert await _wait_ms(desk) <= 3_000


async def test_the_first_pause_after_a_failure_is_no_longer_than_the_base(redis_url: str) -> None:
    platform = Platform(problems=[UpstreamFailed("It is ill.")])
    async with a_desk(redis_url, platform, polling={"retry_base_ms": 10}) as desk:
        await desk.poll()
        assert (await desk.state()).failures == 1
        assert await _wait_ms(desk) <= 10


async def test_no_pause_is_longer_than_the_longest(redis_url: str) -> None:
    platform = Platform(problems=[UpstreamFailed("It is ill.")])
    pauses = {"retry_base_ms": 10_000_000, "retry_max_ms": 100}
    async with a_desk(redis_url, platform, polling=pauses) as desk:
        await desk.poll()
        assert (await desk.state()).failures == 1
        assert await _wait_ms(desk) <= 100


async def test_due_polls_are_found_as_often_as_workers_look(redis_url: str) -> None:
    platform = Platform()
    async with a_desk(redis_url, platform, polling={"look_every_ms": 50}) as desk, _polling(desk):
        await eventually(lambda: bool(platform.asked), within_s=10, what="the first poll")
        for count in range(2, 5):
            await polling.poll_soon(desk.hub.redis, desk.merchant.name, desk.merchant.account)
            # The default would be a second each.
            await eventually(partial(_has_asked, platform, count), within_s=0.9, what="a poll")


def _has_asked(platform: Platform, count: int) -> bool:
    return len(platform.asked) >= count


@contextlib.asynccontextmanager
async def _polling(desk: Desk) -> AsyncIterator[None]:
    running = asyncio.create_task(Poller(desk.hub).run())
    try:
        yield
    finally:
        await end(running)


async def _wait_ms(desk: Desk) -> int:
    """How long from the beginning of the last turn until the next is due."""
    state = await desk.state()
    return state.due_ms - (now_ms() if state.failures else state.last_ms)


def _judge(desk: Desk, monkeypatch: pytest.MonkeyPatch, **about: Any) -> None:
    name = desk.merchant.account
    judged = AccountSync(
        account=name,
        merchant=desk.merchant.name,
        platform="standard",
        state=SyncState.STALLED,
        since_ms=0,
        suspicion=1.0,
        **about,
    )

    async def read_accounts(_: object) -> dict[str, AccountSync]:
        return {name: judged}

    monkeypatch.setattr("synchub.sync_lag.operations.read_accounts", read_accounts)
