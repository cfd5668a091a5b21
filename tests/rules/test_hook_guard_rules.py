"""When platforms are asked about our subscriptions, when they are repaired, and when a person is needed."""

from __future__ import annotations

from typing import Any, Final

import pytest

from synchub.connector_kit.contract import HookReport, HookState
from synchub.hook_guard import rules
from synchub.hook_guard.model import GuardState, Need
from synchub.sync_settings import HookGuardSettings

NOW: Final = 1_800_000_000_000
MINUTE: Final = 60_000
EVERY: Final = 10 * MINUTE
SETTINGS: Final = HookGuardSettings(check_every_ms=EVERY, repairs_max=3)


def heard(state: GuardState, said: HookState, now_ms: int = NOW, **about: Any) -> GuardState:
    return rules.heard(state, HookReport(state=said, **about), now_ms, is_polled=True)


def broken(*repairs: int, **about: Any) -> GuardState:
    told: dict[str, Any] = {"hooks": HookState.DISABLED, "since_ms": NOW - 1, "repairs": repairs}
    return GuardState(**(told | about))


def concluded(state: GuardState, now_ms: int = NOW, chance: float = 0.5) -> GuardState:
    return rules.concluded(state, now_ms, chance, SETTINGS)


@pytest.mark.parametrize(("chance", "minutes"), [(0, 8), (0.5, 10), (1, 12)])
def test_checks_come_a_fifth_earlier_to_a_fifth_later(chance: float, minutes: int) -> None:
    state = concluded(heard(GuardState(), HookState.SOUND), chance=chance)
    assert state.due_ms - NOW == minutes * MINUTE


def test_a_new_account_is_asked_about_within_a_fifth_of_the_ordinary_time() -> None:
    assert rules.first(NOW, 0, SETTINGS).due_ms == NOW
    assert rules.first(NOW, 1, SETTINGS).due_ms == NOW + 2 * MINUTE


def test_the_first_repair_is_made_at_once_and_each_further_one_waits_twice_as_long() -> None:
    assert rules.may_repair(broken(), NOW, SETTINGS)
    assert rules.next_repair_ms(broken(NOW), SETTINGS) == NOW + EVERY
    assert rules.next_repair_ms(broken(NOW - EVERY, NOW), SETTINGS) == NOW + 2 * EVERY
    assert not rules.may_repair(broken(NOW), NOW + EVERY - 1, SETTINGS)
    assert rules.may_repair(broken(NOW), NOW + EVERY, SETTINGS)


def test_after_as_many_repairs_in_a_day_as_there_may_be_a_person_is_needed() -> None:
    repairs = (NOW - 5 * EVERY, NOW - 4 * EVERY, NOW - 2 * EVERY)
    state = concluded(broken(*repairs, since_ms=NOW - 6 * EVERY))
    assert not rules.may_repair(state, NOW + rules.DAY_MS // 2, SETTINGS)
    assert state.need is Need.EXHAUSTED
    assert "3 repairs in a day did not help: a person is needed." in rules.sentence(state)


def test_a_platform_that_takes_every_repair_back_is_told_as_such() -> None:
    repairs = (NOW - 5 * EVERY, NOW - 4 * EVERY, NOW - 2 * EVERY)
    state = concluded(broken(*repairs, since_ms=NOW - EVERY))
    assert state.need is Need.UNDONE
    assert "is switched off again, after 3 repairs in a day" in rules.sentence(state)


def test_repairs_are_forgotten_after_a_day() -> None:
    day_ago = NOW - rules.DAY_MS
    state = heard(broken(day_ago, day_ago + 1, day_ago + 2), HookState.DISABLED)
    assert state.repairs == (day_ago + 1, day_ago + 2)
    assert rules.may_repair(state, NOW, SETTINGS)


def test_without_repairs_a_person_is_needed_at_once() -> None:
    settings = HookGuardSettings(repairs_max=0)
    state = rules.concluded(broken(), NOW, 0.5, settings)
    assert not rules.may_repair(state, NOW, settings)
    assert state.need is Need.EXHAUSTED


def test_once_the_platform_sends_again_nobody_is_needed_and_polls_must_reach_the_end() -> None:
    state = concluded(heard(broken(need=Need.EXHAUSTED, need_since_ms=NOW - 1), HookState.SOUND))
    assert (state.need, state.need_since_ms) == (Need.NONE, 0)
    assert state.backfill_from_ms == NOW


def test_a_platform_that_is_not_polled_has_nothing_to_catch_up() -> None:
    state = rules.heard(broken(), HookReport(state=HookState.SOUND), NOW, is_polled=False)
    assert not state.is_missed


def test_a_platform_that_does_not_answer_is_asked_soon_and_then_ever_later() -> None:
    state, waits = heard(GuardState(), HookState.SOUND), []
    for _ in range(6):
        state = rules.failed(state, "No answer.", NOW, 0.5, SETTINGS)
        waits.append((state.due_ms - NOW) // MINUTE)
    assert waits == [1, 2, 4, 8, 10, 10]
    assert "did not answer 6 times in a row" in rules.sentence(state)
    assert heard(state, HookState.SOUND).failures == 0


def test_a_platform_that_asks_for_a_pause_gets_it() -> None:
    state = rules.failed(GuardState(), "Slow down.", NOW, 0.5, SETTINGS, wait_ms=30 * MINUTE)
    assert state.due_ms == NOW + 30 * MINUTE


def test_a_refusal_needs_a_person_since_the_first_one() -> None:
    once = rules.refused(GuardState(), "The token has expired.", NOW, 0.5, SETTINGS)
    twice = rules.refused(once, "The token has expired.", NOW + MINUTE, 0.5, SETTINGS)
    assert (twice.need, twice.need_since_ms) == (Need.REFUSED, NOW)
    assert "does not let us ask or repair: The token has expired." in rules.sentence(twice)


@pytest.mark.parametrize(
    ("url", "credentials", "is_reached"),
    [
        ("", ["https://shop.example/api"], False),
        ("https://hub.example.com", ["https://shop.example/api"], True),
        ("http://127.0.0.1:8080", ["https://shop.example/api", "token"], False),
        ("http://127.0.0.1:8080", ["token", "http://127.0.0.1:9999/graphql"], True),
        ("http://[::1]:8080", ["http://localhost:9999/graphql"], True),
    ],
)
def test_an_address_on_this_machine_is_reached_only_from_this_machine(
    url: str, credentials: list[str], is_reached: bool
) -> None:
    assert rules.reaches(url, credentials) is is_reached


@pytest.mark.parametrize("said", HookState)
def test_there_is_a_sentence_for_everything_a_platform_says(said: HookState) -> None:
    state = heard(GuardState(), said, topics=("orders/create",), detail="It says so itself.")
    assert rules.sentence(state).startswith("The platform")
    assert "It says so itself." in rules.sentence(state)
