"""Who may call a platform when, what its answers say, and how a process counts by itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synchub.connector_kit.contract import Quota
from synchub.errors import UpstreamFailed, UpstreamOpen, UpstreamRefused, UpstreamThrottled
from synchub.kit.breaker import Limits as BreakerLimits
from synchub.kit.breaker import open_ms
from synchub.kit.labels import OTHER, BoundedLabels
from synchub.upstream import rules
from synchub.upstream.model import Bucket, Operation, Priority, Verdict
from tests.support.registry import a_shop


def a_bucket(
    left: float = 10, at_ms: int = 0, capacity: float = 10, rate: float = 2, closed: int = 0
) -> Bucket:
    return Bucket(left=left, at_ms=at_ms, capacity=capacity, restored_per_s=rate, closed_until_ms=closed)


class TestPriorities:
    def test_an_answer_goes_before_a_tickle_and_a_sweep_goes_last(self) -> None:
        names = [priority.name for priority in sorted(Priority, reverse=True)]
        assert names == ["ANSWER", "TICKLE", "REPAIR", "PROBE", "SWEEP"]

    def test_sweeps_leave_the_reserve_probes_half_of_it_and_others_nothing(self) -> None:
        kept = {priority.name: rules.kept_share(priority, 30) for priority in Priority}
        assert kept == {"SWEEP": 0.3, "PROBE": 0.15, "REPAIR": 0, "TICKLE": 0, "ANSWER": 0}

    @pytest.mark.parametrize(
        ("priority", "concurrency", "slots"),
        [
            (Priority.SWEEP, 1, 1),
            (Priority.SWEEP, 2, 1),
            (Priority.SWEEP, 8, 6),
            (Priority.PROBE, 8, 7),
            (Priority.TICKLE, 2, 2),
        ],
    )
    def test_of_several_calls_at_once_one_place_at_least_is_kept_for_the_urgent(
        self, priority: Priority, concurrency: int, slots: int
    ) -> None:
        assert rules.slots_of(priority, concurrency, 25) == slots

    def test_without_a_reserve_nothing_is_kept(self) -> None:
        assert rules.slots_of(Priority.SWEEP, 2, 0) == 2


class TestLimits:
    def test_a_manifest_says_them(self) -> None:
        limits = rules.limits_of(a_shop(limits={"capacity": 40, "restored_per_s": 2, "per_day": 9}).limits)
        assert (limits.capacity, limits.restored_per_s, limits.concurrency) == (40, 2, 2)
        assert (limits.per_day, limits.per_listing_per_day) == (9, 0)

    def test_without_any_they_are_cautious(self) -> None:
        assert rules.limits_of(None).restored_per_s <= 2

    @pytest.mark.parametrize("odd", [math.nan, math.inf, 0.0, -1.0])
    def test_odd_numbers_of_a_platform_are_not_counted_with(self, odd: float) -> None:
        quota = rules.usable(Quota(remaining=3, capacity=odd, restored_per_s=odd))
        assert quota == Quota(remaining=3)

    @pytest.mark.parametrize("odd", [math.nan, math.inf])
    def test_a_remainder_that_is_no_number_says_nothing(self, odd: float) -> None:
        assert rules.usable(Quota(remaining=odd, capacity=5)) is None

    def test_a_debt_is_an_empty_bucket(self) -> None:
        assert rules.usable(Quota(remaining=-5)) == Quota(remaining=0)


class TestRepeating:
    @pytest.mark.parametrize("operation", [Operation.LEVELS, Operation.PAGE])
    def test_reads_may_be_repeated_though_they_are_posted(self, operation: Operation) -> None:
        assert rules.may_repeat(operation, "POST", None)

    @pytest.mark.parametrize("operation", [Operation.WRITE, Operation.SUBSCRIPTION, Operation.CANARY])
    def test_what_changes_something_may_not(self, operation: Operation) -> None:
        assert not rules.may_repeat(operation, "POST", {"accept": "application/json"})
        assert rules.may_repeat(operation, "get", None)

    def test_unless_the_platform_knows_it_again(self) -> None:
        assert rules.may_repeat(Operation.WRITE, "POST", {"Idempotency-Key": "17"})


class TestVerdicts:
    @pytest.mark.parametrize(
        ("problem", "verdict"),
        [
            (None, Verdict.WELL),
            (UpstreamRefused("401", answered=401), Verdict.WELL),
            (UpstreamRefused("not even sent"), Verdict.NOTHING),
            (UpstreamThrottled("429"), Verdict.NOTHING),
            (UpstreamFailed("500"), Verdict.FAILED),
            (KeyboardInterrupt(), Verdict.NOTHING),
        ],
    )
    def test_only_failures_of_the_platform_are_failures(
        self, problem: BaseException | None, verdict: Verdict
    ) -> None:
        assert rules.verdict_on(problem) is verdict

    def test_an_open_breaker_is_a_failed_platform_to_callers(self) -> None:
        assert issubclass(UpstreamOpen, UpstreamFailed)

    def test_a_web_page_is_no_answer(self) -> None:
        assert rules.is_page_for_people("text/HTML; charset=utf-8", b"\n <!doctype html>")
        assert not rules.is_page_for_people("text/html", b'{"levels": []}')
        assert not rules.is_page_for_people("application/xml", b"<levels/>")


class TestCountingAlone:
    def test_a_bucket_fills_up_to_its_capacity(self) -> None:
        assert rules.filled(a_bucket(left=0), 3000).left == 6
        assert rules.filled(a_bucket(left=0), 60_000).left == 10

    def test_while_the_platform_wants_no_calls_it_does_not_fill(self) -> None:
        bucket = a_bucket(left=0, closed=2000)
        assert rules.filled(bucket, 2000).left == 0
        assert rules.wait_ms(rules.filled(bucket, 1000), 1, 0) == 1500

    def test_a_clock_that_steps_back_takes_nothing_away_and_gives_nothing(self) -> None:
        bucket = rules.filled(a_bucket(left=5, at_ms=10_000), 4000)
        assert (bucket.left, bucket.at_ms) == (5, 10_000)

    def test_a_call_that_costs_more_than_there_can_be_waits_for_a_full_bucket(self) -> None:
        assert rules.wait_ms(a_bucket(left=10), 500, 0) == 0
        assert rules.wait_ms(a_bucket(left=9), 500, 0) == 500

    def test_a_process_by_itself_takes_a_part(self) -> None:
        part = rules.part_of(a_bucket(left=8, capacity=40, rate=4))
        assert (part.left, part.capacity, part.restored_per_s) == (2, 10, 1)

    @given(
        capacity=st.floats(1, 100),
        rate=st.floats(0.1, 50),
        calls=st.lists(st.tuples(st.integers(0, 2000), st.floats(0.1, 5)), max_size=60),
    )
    def test_in_no_stretch_of_time_is_more_taken_than_the_bucket_allows(
        self, capacity: float, rate: float, calls: list[tuple[int, float]]
    ) -> None:
        bucket, now, taken = a_bucket(capacity, 0, capacity, rate), 0, []
        for pause, cost in calls:
            now += pause
            bucket = rules.filled(bucket, now)
            if rules.wait_ms(bucket, cost, 0) == 0:
                bucket = a_bucket(bucket.left - cost, bucket.at_ms, capacity, rate)
                taken.append((now, cost))
        for first in range(len(taken)):
            for last in range(first, len(taken)):
                spent = sum(cost for _, cost in taken[first : last + 1])
                seconds = (taken[last][0] - taken[first][0]) / 1000
                largest = max(cost for _, cost in taken[first : last + 1])
                assert spent <= max(capacity, largest) + rate * seconds + 1e-6


class TestNames:
    def test_so_many_are_named_and_the_others_are_one(self) -> None:
        labels = BoundedLabels(2)
        assert [labels.of(name) for name in ("a", "b", "c", "a")] == ["a", "b", OTHER, "a"]
        assert (labels.has("b"), labels.has("c")) == (True, False)


@pytest.mark.parametrize(("chance", "ms"), [(0.0, 200), (0.5, 300), (1.0, 400)])
def test_half_of_the_time_that_a_breaker_is_open_is_left_to_chance(chance: float, ms: int) -> None:
    assert open_ms(2, BreakerLimits(open_ms=200), chance) == ms
