"""The guard on a real store, with a platform that forgets, refuses, hangs and changes its mind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from synchub import sync_keys
from synchub.accounts import operations as accounts
from synchub.connector_kit.contract import HookState
from synchub.errors import Fault, InvalidRequest, UpstreamFailed, UpstreamRefused, UpstreamThrottled
from synchub.hook_guard import operations as guard
from synchub.hook_guard import store
from synchub.hook_guard.model import Need
from synchub.kit.clock import now_ms
from synchub.sync_settings import HookGuardSettings
from tests.support.hook_scene import PUBLIC, Scene, a_scene
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EVERY: Final = HookGuardSettings().check_every_ms
HOUR: Final = 3_600_000


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with a_scene(redis_url) as one:
        yield one


async def test_the_platform_is_asked_about_the_accounts_own_address(scene: Scene) -> None:
    state = await scene.look()
    assert scene.platform.asked == [f"check {PUBLIC}/hooks/{scene.account.name}"]
    assert (state.hooks, scene.told) == (HookState.SOUND, [HookState.SOUND])
    assert now_ms() + EVERY * 0.7 < state.due_ms < now_ms() + EVERY * 1.3


async def test_before_it_is_due_the_platform_is_not_asked(scene: Scene) -> None:
    await scene.look()
    await scene.look()
    assert len(scene.platform.asked) == 1


async def test_a_person_can_have_it_asked_at_once(scene: Scene) -> None:
    await scene.look()
    await guard.check_soon(scene.registry.redis, scene.account.merchant, scene.account.name)
    assert (await scene.state()).due_ms == 0
    await scene.look()
    await scene.look()
    assert len(scene.platform.asked) == 2


async def test_what_is_switched_off_again_is_not_called_well_whatever_was_polled(scene: Scene) -> None:
    scene.platform.state = HookState.MISSING
    await scene.look()
    await scene.later(60_000)
    scene.platform.state, scene.platform.does_repair = HookState.DISABLED, False
    await guard.check_soon(scene.registry.redis, "acme", scene.account.name)
    await scene.look()
    scene.polled_ms = now_ms()
    assert (await scene.look()).is_missed
    assert HookState.SOUND not in scene.told


@pytest.mark.parametrize("lost", [HookState.MISSING, HookState.DISABLED])
async def test_what_was_dropped_is_repaired_polled_and_only_then_called_well(
    scene: Scene, lost: HookState
) -> None:
    await scene.look()
    scene.told.clear()
    scene.platform.state = lost
    await scene.later(2 * EVERY)
    state = await scene.look()
    assert scene.platform.repairs == 1
    assert scene.polled == [scene.account.name]
    assert scene.told == [lost]
    assert state.hooks is HookState.SOUND
    assert state.is_missed

    scene.polled_ms = state.backfill_from_ms - 1
    await scene.look()
    assert scene.told == [lost]
    scene.polled_ms = state.backfill_from_ms
    assert not (await scene.look()).is_missed
    assert scene.told == [lost, HookState.SOUND]


async def test_a_platform_that_only_warns_is_left_alone(scene: Scene) -> None:
    scene.platform.state = HookState.WARNED
    state = await scene.look()
    assert (state.hooks, scene.platform.repairs, scene.told) == (HookState.WARNED, 0, [HookState.WARNED])


async def test_the_check_after_a_repair_comes_soon(scene: Scene) -> None:
    scene.platform.state = HookState.MISSING
    state = await scene.look()
    assert state.due_ms < now_ms() + EVERY * 0.2


async def test_a_platform_that_always_takes_it_back_is_repaired_so_often_a_day_and_not_more(
    scene: Scene,
) -> None:
    for _ in range(200):  # a day and more, in looks of ten minutes
        if (await scene.state()).need:
            break
        scene.platform.state = HookState.DISABLED
        await scene.look()
        await scene.later(EVERY)
    for _ in range(20):
        scene.platform.state = HookState.DISABLED
        await scene.look()
        await scene.later(EVERY)
    state = await scene.state()
    assert scene.platform.repairs == scene.registry.settings.hook_guard.repairs_max
    assert state.need is Need.UNDONE
    assert scene.told[-1] is HookState.DISABLED


async def test_a_repair_that_does_not_help_is_not_called_undone(scene: Scene) -> None:
    scene.platform.state, scene.platform.does_repair = HookState.MISSING, False
    for _ in range(10):
        await scene.look()
        await scene.later(HOUR)
    assert ((await scene.state()).need, scene.platform.repairs) == (Need.EXHAUSTED, 3)
    assert not scene.polled


async def test_the_pause_between_repairs_grows(scene: Scene) -> None:
    scene.platform.state, scene.platform.does_repair = HookState.MISSING, False
    waits: list[int] = []
    last = 0
    for minutes in range(120):
        await scene.look()
        await scene.later(60_000)
        if scene.platform.repairs > len(waits):
            waits.append(minutes - last)
            last = minutes
    assert len(waits) == 3
    assert waits[1] >= 10
    assert waits[2] >= 20


async def test_a_person_who_has_found_the_reason_has_it_repaired_at_once(scene: Scene) -> None:
    scene.platform.state, scene.platform.does_repair = HookState.MISSING, False
    for _ in range(10):
        await scene.look()
        await scene.later(HOUR)
    scene.platform.does_repair = True
    await guard.check_soon(scene.registry.redis, "acme", scene.account.name, may_repair=True)
    state = await scene.look()
    assert (state.hooks, state.need) == (HookState.SOUND, Need.NONE)


async def test_what_a_person_has_repaired_himself_is_polled_too(scene: Scene) -> None:
    scene.platform.state, scene.platform.does_repair = HookState.MISSING, False
    await scene.look()
    await scene.later(2 * EVERY)
    scene.platform.state = HookState.SOUND
    state = await scene.look()
    assert state.is_missed
    assert scene.polled == [scene.account.name]


async def test_an_account_that_is_not_polled_is_well_as_soon_as_the_platform_says_so(redis_url: str) -> None:
    async with a_scene(redis_url, polling=None) as scene:
        scene.platform.state = HookState.MISSING
        state = await scene.look()
    assert not state.is_missed
    assert scene.told == [HookState.MISSING, HookState.SOUND]


async def test_a_new_secret_is_kept_beside_the_old_one(scene: Scene) -> None:
    scene.platform.state = HookState.MISSING
    scene.platform.secrets = {"client_secret": "fresh"}
    await scene.look()
    assert (await scene.view()).secrets_at(now_ms()) == ("fresh", "hush")


async def test_a_secret_that_is_told_again_is_not_kept_again(scene: Scene) -> None:
    scene.platform.state = HookState.MISSING
    scene.platform.secrets = {"client_secret": "hush"}
    await scene.look()
    assert (await scene.view()).secrets_at(now_ms()) == ("hush",)


async def test_a_secret_is_kept_although_somebody_changes_the_account_at_the_same_moment(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0
    rotate = accounts.rotate_credential

    async def rotate_at_last(*told: Any, **about: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise InvalidRequest("Somebody else was quicker.") if tries == 1 else Fault("The store is away.")
        return await rotate(*told, **about)

    monkeypatch.setattr(guard, "rotate_credential", rotate_at_last)
    monkeypatch.setattr(guard, "_KEEP_BASE_S", 0.001)
    scene.platform.state, scene.platform.secrets = HookState.MISSING, {"client_secret": "fresh"}
    await scene.look()
    assert (await scene.view()).secrets_at(now_ms())[0] == "fresh"


async def test_a_secret_that_cannot_be_kept_needs_a_person_and_the_repair_is_made_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        msg = "There are too many values."
        raise InvalidRequest(msg)

    scene.platform.state, scene.platform.secrets = HookState.MISSING, {"client_secret": "fresh"}
    with monkeypatch.context() as patch:
        patch.setattr(guard, "rotate_credential", refuse)
        patch.setattr(guard, "_KEEP_BASE_S", 0.001)
        state = await scene.look()
    assert (state.need, state.is_repairing) == (Need.SECRET_LOST, True)
    await scene.later(2 * EVERY)
    state = await scene.look()
    assert scene.platform.repairs == 2
    assert (state.need, state.is_repairing) == (Need.NONE, False)
    assert (await scene.view()).secrets_at(now_ms())[0] == "fresh"


async def test_a_repair_that_kills_its_process_is_counted(scene: Scene) -> None:
    scene.platform.state = HookState.MISSING
    scene.platform.before_repair = _die
    with pytest.raises(SystemExit):
        await scene.look()
    state = await scene.state()
    assert (len(state.repairs), state.is_repairing) == (1, True)


def _die() -> None:
    raise SystemExit


async def test_a_refusal_needs_a_person_and_is_not_asked_again_at_once(scene: Scene) -> None:
    scene.platform.problem = UpstreamRefused("The token has expired.")
    state = await scene.look()
    assert state.need is Need.REFUSED
    assert state.due_ms > now_ms()
    scene.platform.problem = None
    await scene.later(2 * EVERY)
    assert (await scene.look()).need is Need.NONE


@pytest.mark.parametrize(
    "problem",
    [UpstreamFailed("No answer."), UpstreamThrottled("Slow down.", retry_after_s=1), KeyError("webhooks")],
    ids=lambda problem: type(problem).__name__,
)
async def test_a_platform_that_does_not_answer_is_asked_again_and_says_nothing(
    scene: Scene, problem: Exception
) -> None:
    scene.platform.problem = problem
    state = await scene.look()
    assert (state.failures, state.hooks, state.need) == (1, None, Need.NONE)
    assert state.due_ms > now_ms()
    assert not scene.told


async def test_nothing_a_platform_says_in_a_fault_of_its_connector_is_kept(scene: Scene) -> None:
    scene.platform.problem = KeyError("hush")
    assert "hush" not in (await scene.look()).error


async def test_of_several_workers_one_asks(scene: Scene) -> None:
    scene.platform.may_answer.clear()
    first = asyncio.create_task(scene.look())
    await scene.platform.entered.wait()
    await asyncio.gather(*(scene.look() for _ in range(5)))
    scene.platform.may_answer.set()
    await first
    assert len(scene.platform.asked) == 1


async def test_a_platform_that_hangs_is_given_up_before_another_worker_may_begin(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert guard.ROUND_S * 1000 < store.LEASE_MS
    monkeypatch.setattr(guard, "ROUND_S", 0.05)
    scene.platform.may_answer.clear()
    assert (await scene.look()).failures == 1


async def test_a_turn_ends_by_itself_when_its_worker_is_gone(scene: Scene) -> None:
    async with store.turn(scene.registry.redis, "acme", scene.account.name) as is_ours:
        assert is_ours
        left = await scene.registry.redis.execute("PTTL", sync_keys.hook_lease("acme", scene.account.name))
    assert 0 < left <= store.LEASE_MS
    await eventually(lambda: _is_free(scene))


async def _is_free(scene: Scene) -> bool:
    return not await scene.registry.redis.execute("EXISTS", sync_keys.hook_lease("acme", scene.account.name))


async def test_no_secret_lies_in_what_is_kept(scene: Scene) -> None:
    scene.platform.state, scene.platform.secrets = HookState.MISSING, {"client_secret": "fresh-secret"}
    await scene.look()
    flat = await scene.registry.redis.execute("HGETALL", sync_keys.hook_guard("acme"))
    assert b"fresh-secret" not in b"".join(flat)
    assert orjson.loads(flat[1])["hooks"] == "sound"
