"""When accounts are polled, and how."""

from __future__ import annotations

from typing import Any, Final

import pytest

from synchub.polling.model import Mode, PollState
from synchub.polling.rules import FIRST_MAX_MS, is_busy, mode_of, pages_max, plan
from synchub.sync_lag.model import AccountSync, SyncState
from synchub.sync_settings import PollingSettings

NOW: Final = 1_700_000_000_000
HOUR_MS: Final = 3_600_000
SETTINGS: Final = PollingSettings()


def a_sync(state: SyncState = SyncState.HEALTHY, **about: Any) -> AccountSync:
    told = {"account": "wms", "merchant": "acme", "platform": "standard", "since_ms": NOW, "suspicion": 0.0}
    return AccountSync(**{**told, "state": state, **about})


def due_ms(
    state: PollState, sync: AccountSync | None = None, *, name: str = "wms", posts: bool = True
) -> int:
    planned = plan(name, state, sync, has_deliveries=posts, first_ms=NOW, now_ms=NOW, settings=SETTINGS)
    return planned.due_ms


@pytest.mark.parametrize(
    ("state", "mode"),
    [
        (SyncState.HEALTHY, Mode.SAFETY),
        (SyncState.SUSPECT, Mode.PROBE),
        (SyncState.STALLED, Mode.FULL),
        (SyncState.RECOVERING, Mode.FULL),
    ],
)
def test_the_state_of_deliveries_decides_how_an_account_is_polled(state: SyncState, mode: Mode) -> None:
    assert mode_of(a_sync(state), has_deliveries=True) is mode
    assert mode_of(a_sync(state), has_deliveries=False) is Mode.FULL
    assert mode_of(None, has_deliveries=True) is Mode.SAFETY


def test_a_probe_is_one_page() -> None:
    assert pages_max(Mode.PROBE, SETTINGS) == 1
    assert pages_max(Mode.FULL, SETTINGS) == SETTINGS.pages_max


def test_the_first_poll_is_soon_and_not_everybodys_at_once() -> None:
    firsts = {due_ms(PollState(), name=f"a-{n}") for n in range(100)}
    assert len(firsts) > 90
    assert NOW <= min(firsts) <= max(firsts) <= NOW + FIRST_MAX_MS


def test_a_safety_poll_is_never_later_than_its_interval_whatever_is_heard() -> None:
    for heard_ms in (0, NOW, NOW + HOUR_MS):
        due = due_ms(PollState(last_ms=NOW), a_sync(heard_ms=heard_ms))
        assert NOW + 0.8 * SETTINGS.safety_every_ms <= due <= NOW + SETTINGS.safety_every_ms


def test_a_suspicion_is_looked_into_at_once_and_then_now_and_then() -> None:
    suspect = a_sync(SyncState.SUSPECT, since_ms=NOW)
    assert due_ms(PollState(last_ms=NOW - HOUR_MS), suspect) <= NOW + SETTINGS.busy_every_ms / 10
    assert due_ms(PollState(last_ms=NOW), suspect) == NOW + SETTINGS.busy_every_ms


def test_a_stalled_account_is_polled_often_in_busy_hours_and_less_in_quiet_ones() -> None:
    state = PollState(last_ms=NOW)
    assert due_ms(state, a_sync(SyncState.STALLED, is_busy=True)) == NOW + SETTINGS.busy_every_ms
    assert due_ms(state, a_sync(SyncState.STALLED, is_busy=False)) == NOW + SETTINGS.quiet_every_ms


def test_deliveries_that_arrive_put_full_polling_off_but_not_for_ever() -> None:
    state, every_ms = PollState(last_ms=NOW), SETTINGS.busy_every_ms
    recovering = SyncState.RECOVERING
    assert due_ms(state, a_sync(recovering, heard_ms=NOW + 1000)) == NOW + 1000 + every_ms
    assert due_ms(state, a_sync(recovering, heard_ms=NOW + HOUR_MS)) == NOW + 2 * every_ms


@pytest.mark.parametrize(
    ("hours", "hour", "busy"),
    [("08-20", 8, True), ("08-20", 20, False), ("22-06", 23, True), ("22-06", 5, True), ("22-06", 6, False)],
)
def test_busy_hours_may_be_told(hours: str, hour: int, busy: bool) -> None:
    settings = SETTINGS.model_copy(update={"busy_hours": hours})
    at_ms = (NOW // (24 * HOUR_MS)) * 24 * HOUR_MS + hour * HOUR_MS
    assert is_busy(a_sync(is_busy=not busy), now_ms=at_ms, settings=settings) is busy


def test_what_was_cut_short_goes_on_at_once_unless_it_fails() -> None:
    assert due_ms(PollState(last_ms=NOW, has_more=True)) == NOW
    assert due_ms(PollState(last_ms=NOW, has_more=True, failures=1, retry_ms=NOW + 9)) == NOW + 9


def test_who_asks_for_a_poll_gets_it_even_while_polls_fail() -> None:
    asked = PollState(last_ms=NOW - 5, soon_ms=NOW, failures=9, retry_ms=NOW + HOUR_MS)
    assert due_ms(asked) == NOW
    served = PollState(last_ms=NOW + 1, soon_ms=NOW)
    assert due_ms(served) > NOW + HOUR_MS / 10


def test_a_wish_for_everything_is_due_at_once() -> None:
    assert due_ms(PollState(last_ms=NOW, sweep_wished_ms=5, sweep_ms=4)) == NOW
    assert due_ms(PollState(last_ms=NOW, sweep_wished_ms=5, sweep_ms=5)) > NOW


def test_a_platform_that_posts_nothing_is_polled_as_often_as_a_stalled_one() -> None:
    assert due_ms(PollState(last_ms=NOW), a_sync(is_busy=True), posts=False) == NOW + SETTINGS.busy_every_ms
