"""What each setting of the guard over subscriptions at platforms changes."""

from __future__ import annotations

import pytest

from synchub.connector_kit.contract import HookState
from synchub.sync_settings import HookGuardSettings
from tests.support.hook_scene import a_scene


@pytest.mark.parametrize("every_ms", [1000, 900_000])
async def test_the_platform_is_asked_again_after_about_the_time_between_checks(
    redis_url: str, every_ms: int
) -> None:
    async with a_scene(redis_url, HookGuardSettings(check_every_ms=every_ms)) as scene:
        state = await scene.look()
    assert 0.75 * every_ms <= state.due_ms - state.checked_ms <= 1.25 * every_ms


@pytest.mark.parametrize("repairs_max", [0, 1, 4])
async def test_no_more_is_repaired_in_a_day_than_the_limit(redis_url: str, repairs_max: int) -> None:
    async with a_scene(redis_url, HookGuardSettings(repairs_max=repairs_max)) as scene:
        scene.platform.state, scene.platform.does_repair = HookState.DISABLED, False
        for _ in range(10):
            await scene.look()
            await scene.later(2 * 3_600_000)
        assert (await scene.state()).need
    assert scene.platform.repairs == repairs_max
