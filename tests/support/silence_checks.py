"""What the judge of silence promises, one small function each: as tests, and as the judges of mutants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from synchub.connector_kit.contract import HookState
from synchub.sync_lag import rules
from synchub.sync_lag.evidence import LIFE_MS
from synchub.sync_lag.model import Kind, Strength, SyncState
from synchub.sync_lag.rhythm import Rhythm
from synchub.sync_lag.silence import Silences
from synchub.sync_lag.watch import Watch
from tests.support.silent_shop import HOUR_MS, START_MS, WEEK_MS, SilentShop

MINUTE_MS: Final = 60_000
LONG_MS: Final = 3 * HOUR_MS
"""Much longer than 60 deliveries an hour leave between them."""


def silence_alone_makes_suspect_and_never_stalled() -> None:
    shop = SilentShop()
    shop.learn()
    assert shop.state is SyncState.HEALTHY
    assert shop.wait(LONG_MS) is SyncState.SUSPECT
    assert shop.kinds[Kind.SILENCE].strength is Strength.MEDIUM


def two_silences_are_one_kind() -> None:
    shop = SilentShop()
    shop.learn(topics=("stock", "orders"))
    assert shop.wait(LONG_MS) is SyncState.SUSPECT
    assert {Kind.SILENCE, Kind.TOPIC_SILENCE} <= shop.kinds.keys()


def silence_and_missing_signs_of_life_are_two() -> None:
    shop = SilentShop(canary_missed_max=100)
    shop.learn()
    shop.beat(20 * MINUTE_MS)
    assert shop.wait(LONG_MS) is SyncState.STALLED
    assert {one.kind for one in shop.watch.kept} == {Kind.SILENCE, Kind.CANARY}


def one_topic_can_be_silent_by_itself() -> None:
    shop = SilentShop()
    shop.learn(topics=("stock", "orders"))
    for _ in range(180):
        shop.wait(MINUTE_MS)
        shop.hear(topic="stock")
    shop.judge()
    assert shop.kinds.keys() == {Kind.TOPIC_SILENCE}
    assert "orders" in shop.kinds[Kind.TOPIC_SILENCE].sentence


def signs_of_life_missing_often_enough_are_decisive() -> None:
    shop = SilentShop()
    shop.beat(MINUTE_MS)
    assert shop.wait(MINUTE_MS) is SyncState.HEALTHY
    assert shop.wait(MINUTE_MS) is SyncState.SUSPECT
    assert shop.wait(2 * MINUTE_MS) is SyncState.STALLED


def a_sender_whose_signs_of_life_have_ended_is_not_stalled_while_it_delivers() -> None:
    shop = SilentShop()
    shop.beat(MINUTE_MS)
    for _ in range(5):
        shop.wait(2 * MINUTE_MS, step_ms=MINUTE_MS)
        shop.hear()
    assert shop.wait(10 * MINUTE_MS, step_ms=MINUTE_MS) is SyncState.SUSPECT
    assert shop.kinds[Kind.CANARY].strength is Strength.WEAK


def a_change_found_late_after_which_nothing_came_is_decisive() -> None:
    shop = SilentShop()
    shop.hear()
    shop.wait(10 * MINUTE_MS)
    shop.poll(1, 1, age_ms=2 * MINUTE_MS)
    assert shop.judge() is SyncState.STALLED
    assert shop.kinds.keys() == {Kind.UNSEEN}


def a_change_found_early_is_given_time() -> None:
    shop = SilentShop()
    shop.hear()
    shop.wait(10 * MINUTE_MS)
    shop.poll(1, 1, age_ms=3000)
    assert shop.wait(50_000) is SyncState.HEALTHY
    assert shop.wait(20_000) is SyncState.STALLED


def a_delivery_that_a_poll_was_sooner_than_is_no_loss() -> None:
    shop = SilentShop()
    shop.hear()
    shop.wait(10 * MINUTE_MS)
    shop.poll(1, 1, age_ms=3000)
    shop.now += 5000
    shop.second(echo_ms=shop.now)
    assert shop.wait(10 * MINUTE_MS) is SyncState.HEALTHY


def a_platform_that_is_always_late_is_given_longer() -> None:
    shop = SilentShop()
    for _ in range(50):
        shop.hear(20, delay_ms=200_000)
    shop.wait(10 * MINUTE_MS)
    shop.poll(1, 1, age_ms=3 * MINUTE_MS)
    assert shop.judge() is SyncState.HEALTHY
    assert shop.wait(6 * MINUTE_MS) is SyncState.STALLED


def a_single_loss_among_deliveries_is_a_suspicion_that_ages() -> None:
    shop = SilentShop()
    shop.wait(10 * MINUTE_MS)
    shop.hear()
    shop.now += MINUTE_MS
    shop.poll(3, 1, age_ms=5 * MINUTE_MS)
    assert shop.judge() is SyncState.SUSPECT
    assert shop.kinds.keys() == {Kind.LOST}
    assert shop.wait(LIFE_MS + 1) is SyncState.HEALTHY


def many_losses_among_deliveries_are_decisive() -> None:
    shop = SilentShop()
    states = []
    for _ in range(3):
        shop.wait(15 * MINUTE_MS)
        shop.hear(8)
        shop.poll(10, 2, age_ms=5 * MINUTE_MS)
        states.append(shop.judge())
    assert states == [SyncState.SUSPECT, SyncState.SUSPECT, SyncState.STALLED]
    assert shop.kinds[Kind.COVERAGE].strength is Strength.DECISIVE


def few_losses_of_many_are_not() -> None:
    shop = SilentShop()
    for _ in range(10):
        shop.wait(15 * MINUTE_MS)
        shop.hear(50)
        shop.poll(50, 1, age_ms=5 * MINUTE_MS)
    assert shop.judge() is SyncState.SUSPECT
    assert shop.kinds[Kind.COVERAGE].strength is Strength.MEDIUM


def a_loss_of_few_says_nothing_of_their_share() -> None:
    shop = SilentShop()
    for _ in range(3):
        shop.wait(15 * MINUTE_MS)
        shop.hear()
        shop.poll(2, 1, age_ms=5 * MINUTE_MS)
    assert shop.judge() is SyncState.SUSPECT


def a_poll_that_finds_nothing_ends_the_silence() -> None:
    shop = SilentShop()
    shop.learn()
    shop.wait(LONG_MS)
    assert shop.state is SyncState.SUSPECT
    shop.poll()
    assert shop.judge() is SyncState.HEALTHY


def a_platform_that_says_it_does_not_send_is_believed_for_a_while() -> None:
    for state in (HookState.MISSING, HookState.DISABLED):
        shop = SilentShop()
        shop.hooks(state)
        assert shop.judge() is SyncState.STALLED
    shop = SilentShop()
    shop.hooks(HookState.WARNED)
    assert shop.judge() is SyncState.SUSPECT
    assert shop.wait(LIFE_MS + 1) is SyncState.HEALTHY


def refused_deliveries_point_at_the_secret() -> None:
    shop = SilentShop()
    shop.second(refused=20)
    assert shop.judge() is SyncState.SUSPECT
    assert shop.kinds.keys() == {Kind.REJECTING}
    assert shop.wait(10 * MINUTE_MS) is SyncState.HEALTHY
    shop.hear(20)
    shop.second(refused=20)
    assert shop.judge() is SyncState.HEALTHY


def when_nobody_is_heard_no_account_is_blamed() -> None:
    shop = SilentShop()
    shop.learn()
    shop.beat()
    assert shop.wait(LONG_MS, ours="Nobody is heard.") is SyncState.SUSPECT
    assert shop.kinds.keys() == {Kind.OURS}
    assert shop.wait(MINUTE_MS) is SyncState.STALLED


def while_we_are_behind_a_poll_proves_nothing() -> None:
    shop = SilentShop()
    shop.hear()
    shop.wait(10 * MINUTE_MS)
    shop.poll(1, 1, age_ms=2 * MINUTE_MS)
    assert shop.judge(ours="Deliveries wait here.", is_behind=True) is SyncState.SUSPECT


def one_silent_shop_among_others_is_not_everyone() -> None:
    shops = [SilentShop() for _ in range(3)]
    for shop in shops:
        shop.learn()
    for shop in shops:
        shop.now += LONG_MS
    shops[0].hear()
    watches = [shop.watch for shop in shops]
    assert not rules.everyone_is_silent(watches, shops[0].now, shops[0].terms)
    later = shops[0].now + LONG_MS
    assert "odd for 3 accounts" in rules.everyone_is_silent(watches, later, shops[0].terms)
    assert not rules.everyone_is_silent(watches[:1], later, shops[0].terms)


def a_stalled_shop_comes_back_step_by_step() -> None:
    shop = a_stalled_shop()
    shop.poll()
    assert shop.judge() is SyncState.STALLED
    shop.wait(MINUTE_MS)
    shop.hear()
    assert shop.judge() is SyncState.RECOVERING
    shop.poll()
    assert shop.judge() is SyncState.RECOVERING
    shop.hear(2)
    assert shop.judge() is SyncState.RECOVERING
    shop.poll()
    assert shop.judge() is SyncState.HEALTHY
    assert not shop.watch.kept


def a_poll_that_finds_what_was_missed_starts_recovery_again() -> None:
    shop = a_stalled_shop()
    shop.wait(10 * MINUTE_MS)
    shop.hear(5)
    shop.judge()
    shop.poll()
    shop.poll(4, 1, age_ms=30_000)
    shop.poll()
    assert shop.judge() is SyncState.RECOVERING
    shop.poll()
    assert shop.judge() is not SyncState.RECOVERING


def one_that_relapses_must_show_twice_as_much() -> None:
    shop = a_stalled_shop()
    _recover(shop, 3, 2)
    assert shop.judge() is SyncState.HEALTHY
    _stall(shop)
    _recover(shop, 3, 2)
    assert shop.judge() is SyncState.RECOVERING
    _recover(shop, 3, 2)
    assert shop.judge() is SyncState.HEALTHY


def the_platforms_word_keeps_it_from_recovering() -> None:
    shop = a_stalled_shop()
    shop.wait(MINUTE_MS)
    shop.hear()
    shop.judge()
    shop.hooks(HookState.DISABLED)
    _recover(shop, 5, 5)
    assert shop.judge() is SyncState.STALLED
    shop.hooks(HookState.SOUND)
    _recover(shop, 6, 5)
    assert shop.judge() is SyncState.HEALTHY


def changes_on_their_way_are_not_lost() -> None:
    shop = SilentShop()
    for _ in range(40):
        shop.wait(15 * MINUTE_MS)
        shop.poll(3, 1, age_ms=1000)
        shop.hear()
        assert shop.judge() is SyncState.HEALTHY


def a_failed_poll_says_nothing() -> None:
    shop = a_stalled_shop()
    shop.wait(MINUTE_MS)
    shop.hear(5)
    shop.judge()
    for _ in range(5):
        shop.poll(failed="It was away.")
    assert shop.judge() is SyncState.RECOVERING


def a_stalled_hour_teaches_nothing() -> None:
    shop = a_stalled_shop()
    hours = shop.watch.whole.rhythm.hours
    shop.wait(12 * HOUR_MS, step_ms=HOUR_MS)
    assert shop.watch.whole.rhythm.hours == hours


def a_sale_of_one_day_is_no_rhythm() -> None:
    rhythm = Rhythm()
    for hour in range(4 * 168):
        rhythm.note(START_MS + hour * HOUR_MS, 60)
    usual = rhythm.rate(START_MS + 4 * WEEK_MS)
    rhythm.note(START_MS + 4 * WEEK_MS, 6000)
    rhythm.pass_to(START_MS + 4 * WEEK_MS + HOUR_MS)
    assert rhythm.rate(START_MS + 4 * WEEK_MS) < 2 * usual


def a_silence_that_ended_well_is_not_too_long_the_next_time() -> None:
    silences = Silences()
    silences.observe(168, START_MS)
    silences.add(1.0, 5000)
    before = silences.bound(8)
    assert before is not None
    silences.add(1.5 * before)
    assert (silences.bound(8) or 0) >= 1.5 * before


def no_silence_teaches_more_than_twice_what_was_too_long() -> None:
    shop = SilentShop()
    shop.learn()
    before = shop.watch.whole.bound(shop.now, shop.terms)
    assert before is not None
    shop.now += 30 * HOUR_MS
    shop.hear()
    after = shop.watch.whole.bound(shop.now, shop.terms)
    assert after is not None
    assert before < after <= 2 * before * 1.001


def nobody_is_judged_by_a_rhythm_that_is_not_known() -> None:
    shop = SilentShop()
    for _ in range(300):
        shop.wait(MINUTE_MS)
        shop.hear()
    assert shop.wait(LONG_MS) is SyncState.HEALTHY


def a_pause_in_judging_is_nobodys_silence() -> None:
    shop = SilentShop()
    shop.learn()
    shop.beat()
    shop.now += LONG_MS
    rules.go_deaf(shop.watch, shop.now)
    assert shop.judge() is SyncState.HEALTHY


def what_lay_there_before_anybody_listened_is_no_loss() -> None:
    shop = SilentShop()
    shop.now += 1000
    shop.poll(500, 500, age_ms=30 * 24 * HOUR_MS)
    assert shop.judge() is SyncState.HEALTHY
    assert shop.watch.coverage(shop.now) == (0, 0)


def what_is_only_polled_is_never_stalled() -> None:
    shop = SilentShop(posts=False)
    for _ in range(20):
        shop.wait(MINUTE_MS)
        shop.poll(5, 5, age_ms=MINUTE_MS)
    assert shop.wait(LONG_MS) is SyncState.HEALTHY


def memory_survives_being_written_down() -> None:
    shop = a_stalled_shop()
    shop.learn(topics=("stock", "orders"))
    shop.beat()
    shop.hear(delay_ms=40)
    shop.second(refused=2)
    shop.poll(5, 1, age_ms=3000)
    shop.hooks(HookState.WARNED)
    shop.judge()
    again = Watch.from_json(shop.watch.as_json())
    assert again is not None
    assert again.as_json() == shop.watch.as_json()


def a_stalled_shop() -> SilentShop:
    """One that is stalled because a poll proved it."""
    shop = SilentShop()
    shop.hear()
    _stall(shop)
    assert shop.state is SyncState.STALLED
    return shop


def _stall(shop: SilentShop) -> None:
    shop.wait(10 * MINUTE_MS)
    shop.poll(1, 1, age_ms=2 * MINUTE_MS)
    shop.judge()


def _recover(shop: SilentShop, deliveries: int, polls: int) -> None:
    for _ in range(deliveries):
        shop.wait(1000)
        shop.hear()
        shop.judge()
    for _ in range(polls):
        shop.poll()
        shop.judge()


CHECKS: Final[tuple[Callable[[], None], ...]] = tuple(
    one
    for name, one in list(globals().items())
    if callable(one)
    and getattr(one, "__module__", "") == __name__
    and not name.startswith("_")
    and name != "a_stalled_shop"
)
"""Every promise above."""
