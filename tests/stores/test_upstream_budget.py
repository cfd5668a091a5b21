"""All processes together call a platform no more often than its limits allow."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from synchub import sync_keys
from synchub.connector_kit.contract import Quota
from synchub.upstream import store
from synchub.upstream.model import Limits, Place, Priority, Wanted
from synchub.upstream.store import Ended, Left, Turn, Wish
from tests.support.platform_calls import EPOCH_MS

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping

    from synchub.redis import Part

PLACE: Final = Place(merchant="acme", account="shop")
KEY: Final = sync_keys.budget("acme", "shop")
DAY_MS: Final = 86_400_000
_names = itertools.count(1)


class Direct:
    """A client that does not wait, so that a whole history is played within one test."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def execute(self, *command: Part) -> Any:
        return self._client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py


def done(work: Coroutine[Any, Any, Any]) -> Any:
    """Run what never waits."""
    try:
        work.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError


@dataclass
class Account:
    """One account's limits at the store, with a clock of the test's."""

    client: Redis
    limits: Limits = field(default_factory=lambda: Limits(capacity=10, restored_per_s=1, concurrency=20))
    now_ms: int = EPOCH_MS

    def take(
        self,
        cost: float = 1,
        *,
        name: str = "",
        process: str = "p1",
        priority: Priority = Priority.TICKLE,
        kept: float = 0.0,
        slots: int | None = None,
        listing: str = "",
        owed: float = 0.0,
        lease_ms: int = 10_000,
        waits_ms: int = 0,
    ) -> Turn:
        wish = Wish(
            call=name or f"call-{next(_names)}",
            process=process,
            wanted=Wanted(priority=priority, cost=cost, listing=listing),
            kept=kept,
            slots=self.limits.concurrency if slots is None else slots,
            owed=owed,
            owed_calls=int(owed > 0),
            lease_ms=lease_ms,
            waits_ms=waits_ms,
        )
        turn: Turn = done(store.take(Direct(self.client), PLACE, self.limits, wish, now_ms=self.now_ms))
        return turn

    def settle(
        self,
        name: str,
        quota: Quota | None = None,
        *,
        throttled_ms: int = 0,
        is_unused: bool = False,
        listing: str = "",
    ) -> Left:
        ended = Ended(call=name, listing=listing, quota=quota, throttled_ms=throttled_ms, is_unused=is_unused)
        left: Left = done(store.settle(Direct(self.client), PLACE, self.limits, ended, now_ms=self.now_ms))
        return left


@pytest.fixture
def account(redis_url: str) -> Iterator[Account]:
    with Redis.from_url(redis_url) as client:
        yield Account(client)


class TestTheBucket:
    def test_as_many_calls_as_it_holds_may_begin_and_then_as_many_as_it_is_filled_with(
        self, account: Account
    ) -> None:
        assert [account.take().has_begun for _ in range(11)] == [True] * 10 + [False]
        account.now_ms += 2000
        assert [account.take().has_begun for _ in range(3)] == [True, True, False]

    def test_who_has_to_wait_is_told_how_long(self, account: Account) -> None:
        account.take(10)
        turn = account.take(3)
        assert (turn.has_begun, turn.why, turn.wait_ms) == (False, "bucket", 3000)

    def test_a_sweep_leaves_the_reserve(self, account: Account) -> None:
        taken = [account.take(priority=Priority.SWEEP, kept=0.3).has_begun for _ in range(8)]
        assert taken == [True] * 7 + [False]
        assert account.take(priority=Priority.TICKLE).has_begun

    def test_a_call_that_costs_more_than_it_holds_begins_when_it_is_full_and_leaves_a_debt(
        self, account: Account
    ) -> None:
        assert account.take(15).has_begun
        turn = account.take(1)
        assert (turn.has_begun, turn.wait_ms) == (False, 6000)

    def test_calls_made_while_the_store_was_away_are_counted_afterwards(self, account: Account) -> None:
        assert account.take(owed=8).left.left == 1

    def test_a_clock_that_is_set_back_locks_nobody_out(self, account: Account) -> None:
        account.take(10)
        account.now_ms -= DAY_MS
        assert account.take(1).wait_ms == 1000
        account.now_ms += 1000
        assert account.take(1).has_begun


class TestAtOnce:
    def test_no_more_calls_are_on_their_way_than_the_platform_takes(self, account: Account) -> None:
        account.limits = Limits(capacity=100, restored_per_s=100, concurrency=2)
        account.take(name="a", process="p1")
        account.take(name="b", process="p2")
        assert account.take(process="p3").why == "slots"
        account.settle("a")
        assert account.take(process="p3").has_begun

    def test_a_call_whose_process_was_killed_gives_its_place_back_by_itself(self, account: Account) -> None:
        account.limits = Limits(capacity=100, restored_per_s=100, concurrency=1)
        account.take(name="a", lease_ms=5000)
        turn = account.take()
        assert (turn.why, turn.wait_ms) == ("slots", 5000)
        account.now_ms += 5000
        assert account.take().has_begun

    def test_a_call_that_was_not_sent_after_all_costs_nothing(self, account: Account) -> None:
        account.take(4, name="a")
        assert account.settle("a", is_unused=True).left == 10
        assert account.settle("a", is_unused=True).left == 10, "only once"


class TestUrgency:
    def test_whoever_waits_for_something_urgent_goes_first_also_from_another_process(
        self, account: Account
    ) -> None:
        account.take(10)
        assert not account.take(process="p1", priority=Priority.SWEEP, waits_ms=5000).has_begun
        assert not account.take(process="p2", priority=Priority.TICKLE, waits_ms=5000).has_begun
        account.now_ms += 1200
        assert account.take(process="p1", priority=Priority.SWEEP, waits_ms=5000).why == "outranked"
        assert account.take(process="p2", priority=Priority.TICKLE, waits_ms=5000).has_begun
        account.now_ms += 1000
        assert account.take(process="p1", priority=Priority.SWEEP, waits_ms=5000).has_begun

    def test_who_does_not_wait_any_more_holds_nobody_up(self, account: Account) -> None:
        account.take(10)
        account.take(process="p2", priority=Priority.ANSWER, waits_ms=5000)
        account.take(process="p2", priority=Priority.ANSWER, waits_ms=0)
        account.now_ms += 1000
        assert account.take(process="p1", priority=Priority.SWEEP).has_begun

    def test_neither_does_one_whose_process_was_killed(self, account: Account) -> None:
        account.take(10)
        account.take(process="p2", priority=Priority.ANSWER, waits_ms=5000)
        account.now_ms += 1600
        assert account.take(process="p1", priority=Priority.SWEEP).has_begun


class TestTheDay:
    def test_so_many_calls_a_day_are_made_and_no_more(self, account: Account) -> None:
        account.limits = Limits(capacity=100, restored_per_s=100, per_day=4, concurrency=10)
        assert [account.take().has_begun for _ in range(5)] == [True] * 4 + [False]
        turn = account.take()
        assert (turn.why, turn.wait_ms) == ("day", DAY_MS - EPOCH_MS % DAY_MS)
        account.now_ms += turn.wait_ms
        assert account.take().has_begun

    def test_of_these_too_a_reserve_is_kept(self, account: Account) -> None:
        account.limits = Limits(capacity=100, restored_per_s=100, per_day=4, concurrency=10)
        swept = [account.take(priority=Priority.SWEEP, kept=0.5).has_begun for _ in range(3)]
        assert swept == [True, True, False]
        assert account.take().has_begun

    def test_so_many_changes_of_one_listing_and_of_each_other_one(self, account: Account) -> None:
        account.limits = Limits(capacity=100, restored_per_s=100, per_listing_per_day=2, concurrency=10)
        assert [account.take(listing="tee").has_begun for _ in range(3)] == [True, True, False]
        assert account.take(listing="tee").why == "listing"
        assert account.take(listing="mug").has_begun
        account.now_ms += DAY_MS
        assert account.take(listing="tee").has_begun

    def test_a_change_that_was_not_sent_after_all_is_not_counted(self, account: Account) -> None:
        account.limits = Limits(capacity=100, restored_per_s=100, per_listing_per_day=1, concurrency=10)
        account.take(name="a", listing="tee")
        account.settle("a", is_unused=True, listing="tee")
        assert account.take(listing="tee").has_begun


class TestWhatThePlatformSays:
    def test_being_throttled_empties_the_bucket_for_as_long_as_it_says(self, account: Account) -> None:
        account.take(name="a")
        account.settle("a", throttled_ms=5000)
        turn = account.take()
        assert (turn.why, turn.wait_ms) == ("throttled", 5000)
        account.now_ms += 5000
        turn = account.take()
        assert (turn.why, turn.wait_ms) == ("bucket", 1000)
        account.now_ms += 1000
        assert account.take().has_begun

    def test_less_than_we_thought_is_believed_at_once(self, account: Account) -> None:
        account.take(name="a")
        account.take(name="b")
        assert account.settle("a", Quota(remaining=3)).left == 3

    def test_more_is_believed_when_nothing_else_was_on_its_way(self, account: Account) -> None:
        account.take(8, name="a")
        assert account.settle("a", Quota(remaining=9)).left == 9

    def test_more_is_believed_only_so_far_as_no_other_call_can_use_it(self, account: Account) -> None:
        account.take(3, name="before")
        account.take(3, name="asked")
        account.take(2, name="since")
        assert account.settle("asked", Quota(remaining=9)).left == 4

    def test_a_call_that_began_and_ended_meanwhile_may_not_have_been_counted(self, account: Account) -> None:
        account.take(3, name="asked")
        account.take(2, name="since")
        account.settle("since")
        assert account.settle("asked", Quota(remaining=9)).left == 7

    def test_a_plan_with_other_limits_is_learned(self, account: Account) -> None:
        account.take(name="a")
        left = account.settle("a", Quota(remaining=90, capacity=100, restored_per_s=50))
        assert (left.left, left.capacity, left.restored_per_s) == (90, 100, 50)
        account.now_ms += 200
        assert account.take(100).has_begun

    def test_what_is_said_twice_counts_once(self, account: Account) -> None:
        account.take(8, name="a")
        account.settle("a", Quota(remaining=9))
        account.take(8, name="b")
        assert account.settle("a", Quota(remaining=9)).left == 1


@dataclass
class Platform:
    """What is really left, which the hub sees only through answers that travel for a while."""

    left: float
    arrived: dict[str, float] = field(default_factory=dict)
    answered: dict[str, Quota] = field(default_factory=dict)


STEPS: Final = st.lists(
    st.tuples(
        st.sampled_from(["begin", "arrive", "answer", "learn", "lose"]), st.integers(1, 5), st.integers(0, 4)
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_the_hub_never_believes_that_more_is_left_than_there_is(
    account: Account, steps: list[tuple[str, int, int]]
) -> None:
    # The bucket hardly fills, so that what is left can be compared; an answer gives back a part of the cost.
    account.client.delete(KEY)
    account.limits = Limits(capacity=40, restored_per_s=1e-9, concurrency=50)
    platform, sent = Platform(40.0), dict[str, float]()
    for step, size, pick in steps:
        name = _pick({"arrive": sent, "answer": platform.arrived}.get(step, platform.answered), pick)
        if step == "begin":
            name = f"call-{next(_names)}"
            if account.take(size, name=name).has_begun:
                sent[name] = float(size)
        elif name and step == "arrive":
            platform.arrived[name] = sent.pop(name)
            platform.left -= platform.arrived[name]
        elif name and step == "answer":
            platform.left += platform.arrived.pop(name) * 0.5
            platform.answered[name] = Quota(remaining=platform.left)
        elif name:
            quota = platform.answered.pop(name)
            left = account.settle(name, quota if step == "learn" else None).left
            assert left <= platform.left - sum(sent.values()) + 1e-6


def _pick(calls: Mapping[str, object], number: int) -> str:
    return list(calls)[number % len(calls)] if calls else ""


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.lists(
        st.tuples(
            st.integers(0, 3000),
            st.floats(0.5, 12),
            st.sampled_from(Priority),
            st.sampled_from(["p1", "p2", "p3"]),
            st.booleans(),
        ),
        max_size=50,
    )
)
def test_in_no_stretch_of_time_do_all_processes_together_take_more_than_the_bucket_allows(
    account: Account, calls: list[tuple[int, float, Priority, str, bool]]
) -> None:
    account.client.delete(KEY)
    account.limits = Limits(capacity=10, restored_per_s=2, concurrency=3)
    taken: list[tuple[int, float]] = []
    ends: dict[str, int] = {}
    for pause, cost, priority, process, is_ended in calls:
        account.now_ms += pause
        name = f"call-{next(_names)}"
        kept = 0.25 if priority is Priority.SWEEP else 0.0
        turn = account.take(
            cost, name=name, process=process, priority=priority, kept=kept, lease_ms=4000, waits_ms=2000
        )
        if turn.has_begun:
            taken.append((account.now_ms, cost))
            ends[name] = account.now_ms + 4000
            assert sum(end > account.now_ms for end in ends.values()) <= 3
            if priority is Priority.SWEEP:
                assert turn.left.left >= min(2.5, 10 - cost) - 1e-6
        if is_ended and turn.has_begun:
            account.settle(name)
            del ends[name]
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            spent = sum(cost for _, cost in taken[first : last + 1])
            largest = max(cost for _, cost in taken[first : last + 1])
            seconds = (taken[last][0] - taken[first][0]) / 1000
            assert spent <= max(10, largest) + 2 * seconds + 1e-6
