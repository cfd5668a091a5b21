"""The breaker does what Resilience4j's two do: one looks back on calls, the other one on time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synchub.kit.breaker import Breaker, Limits, State

LIMITS = Limits(window=10, calls_min=4, slow_ms=1000, open_ms=100, trials=2)
TIMED = Limits(window_ms=1000, calls_min=4, slow_ms=1000, open_ms=100, trials=2)


def fed(*results: bool, limits: Limits = LIMITS) -> Breaker:
    """A breaker at time 0 that has seen these calls; True has failed."""
    breaker = Breaker(limits)
    for has_failed in results:
        assert breaker.permits(0)
        breaker.record(0, has_failed=has_failed)
    return breaker


def test_with_too_few_results_nothing_is_concluded() -> None:
    assert fed(True, True, True).state(0) is State.CLOSED


def test_it_opens_when_half_of_the_last_calls_have_failed() -> None:
    assert fed(True, False, False, True).state(0) is State.OPEN
    assert fed(True, False, False, False).state(0) is State.CLOSED


def test_calls_before_the_window_count_for_nothing() -> None:
    calls = [*[False] * 10, True, True]
    assert fed(*calls, limits=Limits(window=4, calls_min=4)).state(0) is State.OPEN
    assert fed(*calls, limits=Limits(window=20, calls_min=4)).state(0) is State.CLOSED


def test_slow_calls_open_it_though_they_succeed() -> None:
    breaker = Breaker(LIMITS)
    for _ in range(4):
        breaker.record(0, has_failed=False, took_ms=1000)
    assert breaker.state(0) is State.OPEN


def test_open_it_lets_nothing_through_until_its_time_is_over() -> None:
    breaker = fed(True, True, True, True)
    assert (breaker.permits(99), breaker.wait_ms(40)) == (False, 60)
    assert (breaker.wait_ms(100), breaker.state(100)) == (0, State.HALF_OPEN)
    assert breaker.permits(100)


def test_half_open_it_lets_a_few_calls_through_and_closes_when_they_succeed() -> None:
    breaker = fed(True, True, True, True)
    assert [breaker.permits(100) for _ in range(3)] == [True, True, False]
    breaker.record(101, has_failed=False)
    assert breaker.state(101) is State.HALF_OPEN
    breaker.record(102, has_failed=False)
    assert (breaker.state(102), breaker.trips) == (State.CLOSED, 0)


def test_it_opens_again_for_longer_each_time_up_to_the_longest() -> None:
    limits = Limits(window=4, calls_min=1, open_ms=100, open_max_ms=250, trials=1)
    breaker, now, waits = fed(True, limits=limits), 0, []
    for _ in range(4):
        waits.append(breaker.wait_ms(now))
        now += waits[-1]
        assert breaker.permits(now)
        breaker.record(now, has_failed=True)
    assert waits == [100, 200, 250, 250]


def test_a_call_without_a_result_gives_its_permit_back() -> None:
    breaker = fed(True, True, True, True)
    assert breaker.permits(100)
    assert breaker.permits(100)
    breaker.forget()
    assert breaker.permits(100)


def test_results_of_calls_begun_before_it_opened_change_nothing() -> None:
    breaker = fed(True, True, True, True)
    breaker.record(50, has_failed=False)
    assert breaker.wait_ms(50) == 50


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=80))
def test_whatever_happens_it_opens_within_the_window_of_failures_and_lets_a_call_through_again(
    calls: list[tuple[int, bool]],
) -> None:
    breaker, now = Breaker(LIMITS), 0
    for pause, has_failed in calls:
        now += pause
        if breaker.permits(now):
            breaker.record(now, has_failed=has_failed)
    for _ in range(LIMITS.window + 1):
        now += breaker.wait_ms(now)
        if breaker.state(now) is State.OPEN:
            break
        if breaker.permits(now):
            breaker.record(now, has_failed=True)
        if breaker.wait_ms(now):
            break
    assert breaker.wait_ms(now) > 0
    assert breaker.wait_ms(now) <= LIMITS.open_max_ms
    assert breaker.permits(now + breaker.wait_ms(now))


@pytest.mark.parametrize("percent", [1, 50, 100])
def test_the_share_of_failures_is_what_counts(percent: int) -> None:
    limits = Limits(window=100, calls_min=100, failed_percent=percent, open_ms=1)
    below = [True] * (percent - 1) + [False] * (101 - percent)
    assert fed(*below, limits=limits).state(0) is State.CLOSED
    assert fed(*[True] * percent, *[False] * (100 - percent), limits=limits).state(0) is State.OPEN


class TestLookingBackOnTime:
    def test_what_was_longer_ago_counts_for_nothing(self) -> None:
        for gap, state in ((900, State.OPEN), (1100, State.CLOSED)):
            breaker = fed(True, True, True, limits=TIMED)
            breaker.record(gap, has_failed=True)
            assert breaker.state(gap) is state

    def test_however_many_calls_there_were_in_the_time_all_count(self) -> None:
        breaker = fed(*[False] * 500, limits=TIMED)
        for _ in range(499):
            breaker.record(500, has_failed=True)
        assert breaker.state(500) is State.CLOSED
        breaker.record(500, has_failed=True)
        assert breaker.state(500) is State.OPEN

    def test_slow_calls_open_it_too(self) -> None:
        breaker = Breaker(TIMED)
        for now in range(4):
            breaker.record(now, has_failed=False, took_ms=1000)
        assert breaker.state(4) is State.OPEN

    def test_a_pause_empties_the_window(self) -> None:
        breaker = fed(False, False, False, limits=TIMED)
        for now in range(5000, 5003):
            breaker.record(now, has_failed=True)
        assert breaker.state(5003) is State.CLOSED
        breaker.record(5003, has_failed=True)
        assert breaker.state(5003) is State.OPEN

    @given(st.lists(st.tuples(st.integers(0, 400), st.booleans()), min_size=1, max_size=60))
    def test_it_opens_exactly_when_half_of_what_the_window_holds_has_failed(
        self, calls: list[tuple[int, bool]]
    ) -> None:
        breaker, now, seen = Breaker(TIMED), 0, list[tuple[int, bool]]()
        for pause, has_failed in calls:
            now += pause
            breaker.record(now, has_failed=has_failed)
            seen.append((now // 100, has_failed))
            recent = [failed for step, failed in seen if step > now // 100 - 10]
            is_bad = len(recent) >= 4 and 2 * sum(recent) >= len(recent)
            assert (breaker.state(now) is State.OPEN) is is_bad
            if is_bad:
                return


class TestBeingTold:
    def test_it_becomes_what_others_have_found(self) -> None:
        breaker = fed(True, True, True)
        breaker.adopt(0, State.OPEN, wait_ms=250, trips=3)
        assert (breaker.permits(249), breaker.wait_ms(200), breaker.trips) == (False, 50, 3)
        breaker.adopt(210, State.CLOSED)
        assert breaker.permits(210)

    def test_what_it_has_seen_of_another_state_is_dropped(self) -> None:
        breaker = fed(True, True, True)
        breaker.adopt(0, State.OPEN, wait_ms=10)
        breaker.adopt(0, State.CLOSED)
        breaker.record(0, has_failed=True)
        assert breaker.state(0) is State.CLOSED

    def test_being_told_what_it_is_drops_nothing(self) -> None:
        breaker = fed(True, True, True)
        breaker.adopt(0, State.CLOSED)
        breaker.record(0, has_failed=True)
        assert breaker.state(0) is State.OPEN

    def test_every_change_begins_another_era(self) -> None:
        breaker = Breaker(LIMITS)
        eras = [breaker.era]
        for state in (State.OPEN, State.HALF_OPEN, State.CLOSED):
            breaker.adopt(0, state)
            eras.append(breaker.era)
        assert len(set(eras)) == 4

    def test_when_it_opens_chance_decides_half_of_how_long(self) -> None:
        breaker = fed(True, True, True)
        breaker.record(0, has_failed=True, chance=0.0)
        assert breaker.wait_ms(0) == 50
