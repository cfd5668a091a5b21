"""The breaker does what Resilience4j's count-based one does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synchub.kit.breaker import Breaker, Limits, State

LIMITS = Limits(window=10, calls_min=4, slow_ms=1000, open_ms=100, trials=2)


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
