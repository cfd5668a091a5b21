"""The judge of silence on made-up traces: quiet where nothing is wrong, quick where something is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synchub.connector_kit.contract import HookState
from synchub.sync_lag import evidence, model, rhythm, rules, silence, states, stream, watch
from synchub.sync_lag.model import FAMILIES, Evidence, Kind, Strength, SyncState
from synchub.sync_lag.rhythm import Rhythm
from synchub.sync_lag.stream import Stream
from synchub.sync_lag.watch import Watch
from tests.support.arrival_traces import (
    END_MS,
    QUARTER_WEEKS,
    START_MS,
    TEST_FROM_MS,
    TEST_WEEKS,
    TRAFFIC,
    Traffic,
    windows,
)
from tests.support.silence_checks import CHECKS
from tests.support.silent_shop import HOUR_MS, TERMS, SilentShop
from tests.support.source import ROOT

MINUTE_MS: Final = 60_000
SAFETY_MS: Final = 15 * MINUTE_MS
OUTAGE_EVERY_MS: Final = 16 * HOUR_MS
CANARY_BOUND_MS: Final = 4 * MINUTE_MS
TROUBLES: Final = ("holiday", "sale", "summer time")
FLEET: Final = replace(TERMS, tests=len(TRAFFIC))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What silence alone made of six weeks in which nothing was wrong."""

    alarms: int
    delays_s: tuple[int, ...]
    """Had deliveries stopped at some moment of a busy hour, how much later it would have been too long."""

    def percentile(self, share: float) -> int:
        """The delay that this share of outages does not exceed."""
        return self.delays_s[int(len(self.delays_s) * share)]


@cache
def measured(traffic: Traffic, seed: int) -> Measured:
    """Let silence alone judge a trace."""
    chance, known, alarms, delays = random.Random(seed), Stream(), 0, []
    due_ms = TEST_FROM_MS
    for window in windows(traffic, seed):
        if window.first_ms > TEST_FROM_MS:
            alarms += known.silence(window.first_ms - 1, FLEET) > 1
            if window.first_ms > due_ms and known.rhythm.is_busy(window.first_ms):
                due_ms = window.first_ms + OUTAGE_EVERY_MS
                began_ms = known.quiet_ms + int((window.first_ms - known.quiet_ms) * chance.random())
                delays.append((_too_long_ms(known) - began_ms) // 1000)
        known.hear(window.first_ms, window.last_ms, window.count, FLEET, is_sound=True)
    return Measured(alarms=alarms, delays_s=tuple(sorted(delays)))


def _too_long_ms(known: Stream) -> int:
    """The moment from which on the silence that has just begun would be too long."""
    early, late = known.quiet_ms, known.quiet_ms + 14 * 24 * HOUR_MS
    bound = known.bound(early, FLEET)
    assert bound is not None
    while late - early > 500:
        middle = (early + late) // 2
        is_long = middle - known.quiet_ms >= FLEET.silence_floor_ms
        if is_long and known.rhythm.expected(known.quiet_ms, middle) > bound:
            late = middle
        else:
            early = middle
    return late


class TestQuiet:
    """Nothing is wrong, so nobody is woken."""

    def test_silence_alone_is_wrong_at_most_once_a_quarter_and_account(self) -> None:
        runs = [measured(traffic, seed) for traffic in TRAFFIC for seed in _seeds(traffic)]
        quarters = len(runs) * TEST_WEEKS / QUARTER_WEEKS
        assert sum(run.alarms for run in runs) <= quarters
        # Suspicion costs a poll; even of one account it is rare.
        assert max(run.alarms for run in runs) <= 2

    @pytest.mark.parametrize("traffic", TRAFFIC, ids=lambda traffic: traffic.name)
    def test_holiday_sale_and_summer_time_page_nobody(self, traffic: Traffic) -> None:
        troubled = replace(
            traffic, events=TROUBLES, window_ms=2 * MINUTE_MS if traffic.per_hour > 600 else 30_000
        )
        with_polls = a_quarter_half(troubled, polled=True)
        assert with_polls.pages == 0, with_polls
        assert with_polls.looks <= TEST_WEEKS * 8
        # Where nothing can be asked, silence by itself stays a suspicion.
        if traffic.per_hour <= 60:
            assert a_quarter_half(troubled, polled=False).pages == 0

    def test_holidays_and_sales_are_seen_by_silence_and_excused(self) -> None:
        # The trace is a trial only if silence by itself would have been wrong.
        troubled = [measured(replace(traffic, events=TROUBLES), 1) for traffic in TRAFFIC[2:]]
        assert sum(run.alarms for run in troubled) > sum(
            measured(traffic, 1).alarms for traffic in TRAFFIC[2:]
        )


@dataclass(kw_only=True)
class Judged:
    """What a whole judge made of a trace."""

    pages: int = 0
    looks: int = 0
    """How often it became suspect."""


def a_quarter_half(traffic: Traffic, *, polled: bool, seed: int = 1) -> Judged:
    """Six weeks after four: late deliveries, lost signs of life, polls where there are any; nothing is wrong.

    Where nothing is polled, signs of life are sent each minute, and one in a hundred is lost.
    """
    shop, outcome, chance = SilentShop(is_polled=polled), Judged(), random.Random(seed)
    shop.now = START_MS
    shop.terms = FLEET
    shop.watch = Watch(from_ms=START_MS, since_ms=START_MS)
    poll_ms, found = TEST_FROM_MS, 0
    beat_ms = TEST_FROM_MS if not polled else END_MS
    for window in windows(traffic, seed):
        while min(poll_ms, beat_ms) < window.first_ms:
            shop.now = min(poll_ms, beat_ms)
            if beat_ms <= poll_ms:
                if chance.random() > 0.01:
                    shop.beat()
                beat_ms += MINUTE_MS + chance.randint(0, 900)
            else:
                if polled:
                    # Now and then the newest change is still on its way, and is told again.
                    is_early = chance.random() < 0.1
                    shop.poll(found + is_early, int(is_early), age_ms=500)
                    if is_early:
                        shop.second(echo_ms=shop.now + 2000)
                found, poll_ms = 0, poll_ms + SAFETY_MS
            _judge(shop, outcome)
        shop.now = window.first_ms - 1
        if shop.now > TEST_FROM_MS and shop.now - shop.watch.whole.quiet_ms > FLEET.silence_floor_ms:
            _judge(shop, outcome)
        shop.now = window.last_ms
        late_ms = 40 if chance.random() < 0.99 else 20_000
        heard = model.Heard(
            topic="stock",
            count=window.count,
            first_ms=window.first_ms,
            last_ms=window.last_ms,
            delays={late_ms.bit_length(): window.count},
        )
        rules.hear(shop.watch, model.Second(heard=(heard,)), shop.now, FLEET)
        found += window.count
    return outcome


def _judge(shop: SilentShop, outcome: Judged) -> None:
    before = shop.state
    after = shop.judge()
    outcome.pages += after is SyncState.STALLED and before is not after
    outcome.looks += after is SyncState.SUSPECT and before is not after


def _seeds(traffic: Traffic) -> range:
    return range(1, 2 if traffic.per_hour > 100 else 3)


class TestQuick:
    """Something is wrong, and it is found."""

    @pytest.mark.parametrize("traffic", TRAFFIC, ids=lambda traffic: traffic.name)
    @pytest.mark.parametrize("kind", ["sent", "asked"])
    def test_with_signs_of_life_every_outage_is_found_within_four_minutes(
        self, traffic: Traffic, kind: str
    ) -> None:
        delays = [_outage_with_canary(traffic, kind, seed) for seed in range(20)]
        assert max(delays) <= CANARY_BOUND_MS

    def test_without_them_it_takes_as_long_as_the_table_says(self) -> None:
        page = (ROOT / "docs/stalls.md").read_text(encoding="utf-8")
        missing = [row for row in _table() if row not in page]
        assert missing == [], "write these lines into the table of docs/stalls.md"

    @pytest.mark.parametrize("age_ms", [MINUTE_MS, 5 * MINUTE_MS, SAFETY_MS - 1])
    @pytest.mark.parametrize("per_minute", [0, 1, 10])
    def test_a_single_lost_event_is_found_by_the_next_safety_poll(self, age_ms: int, per_minute: int) -> None:
        shop = SilentShop()
        shop.hear()
        shop.poll()
        polled_ms = shop.now
        for _ in range(15):
            shop.wait(MINUTE_MS)
            if per_minute:
                shop.hear(per_minute)
        shop.poll(15 * per_minute + 1, 1, age_ms=age_ms)
        state = shop.judge()
        assert shop.now - polled_ms <= SAFETY_MS
        assert state is (SyncState.SUSPECT if per_minute else SyncState.STALLED)
        assert {Kind.LOST, Kind.UNSEEN} & shop.kinds.keys()

    def test_one_that_is_lost_just_before_a_poll_is_found_within_the_grace(self) -> None:
        shop = SilentShop()
        shop.hear()
        shop.wait(SAFETY_MS)
        shop.poll(1, 1, age_ms=100)
        assert shop.judge() is SyncState.HEALTHY
        assert shop.wait(TERMS.grace_ms) is SyncState.STALLED


def _outage_with_canary(traffic: Traffic, kind: str, seed: int) -> int:
    """How long after its beginning an outage is called one."""
    chance = random.Random(f"{traffic.name}/{kind}/{seed}")
    shop = SilentShop(is_polled=False)
    began_ms = shop.now + int(chance.uniform(0.2, 0.5) * HOUR_MS)
    sign_ms = shop.now + chance.randint(0, MINUTE_MS)
    next_ms = shop.now + int(chance.expovariate(traffic.per_hour / traffic.burst) * HOUR_MS)
    while shop.state is not SyncState.STALLED:
        shop.now += 5000 if shop.now < began_ms else 1000
        is_well = shop.now < began_ms
        while next_ms <= shop.now:
            if is_well:
                shop.hear(traffic.burst)
            next_ms += int(chance.expovariate(traffic.per_hour / traffic.burst) * HOUR_MS)
        if sign_ms <= shop.now:
            if kind == "asked":
                rules.ask(shop.watch, shop.now)
            if is_well:
                shop.beat(MINUTE_MS if kind == "sent" else 0)
            sign_ms += MINUTE_MS - (chance.randint(0, 3000) if kind == "asked" else 0)
        shop.judge()
        assert shop.now < began_ms + HOUR_MS
    assert shop.now >= began_ms
    return shop.now - began_ms


def _table() -> list[str]:
    return [f"| {traffic.name} | {_row(measured(traffic, 1))} |" for traffic in TRAFFIC]


def _row(one: Measured) -> str:
    quick, slow = (_in_minutes(one.percentile(share)) for share in (0.5, 0.95))
    return f"{one.alarms} | {quick} | {slow}"


def _in_minutes(seconds: int) -> str:
    return f"{seconds} s" if seconds < 300 else f"{round(seconds / 60)} min"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_promises(check: Callable[[], None]) -> None:
    check()


ACTIONS: Final = st.one_of(
    st.tuples(st.just("hear"), st.integers(1, 20)),
    st.tuples(st.just("beat"), st.sampled_from([1000, MINUTE_MS])),
    st.tuples(st.just("ask"), st.just(0)),
    st.tuples(st.just("refuse"), st.integers(1, 30)),
    st.tuples(st.just("echo"), st.just(0)),
    st.tuples(st.just("nothing"), st.just(0)),
    st.tuples(st.just("young"), st.integers(0, 1900)),
    st.tuples(st.just("late"), st.integers(2000, HOUR_MS)),
    st.tuples(st.just("hooks"), st.sampled_from(list(HookState))),
    st.tuples(st.just("wait"), st.integers(1, 2 * HOUR_MS)),
)


def _do(shop: SilentShop, act: str, value: Any) -> None:
    doing: dict[str, Callable[[], object]] = {
        "hear": lambda: shop.hear(value),
        "beat": lambda: shop.beat(value),
        "ask": lambda: rules.ask(shop.watch, shop.now),
        "refuse": lambda: shop.second(refused=value),
        "echo": lambda: shop.second(echo_ms=shop.now),
        "nothing": lambda: shop.poll(3),
        "young": lambda: shop.poll(3, 1, age_ms=value),
        "late": lambda: shop.poll(3, 1, age_ms=value),
        "hooks": lambda: shop.hooks(value),
        "wait": lambda: setattr(shop, "now", shop.now + value),
    }
    doing[act]()


def _is_enough(found: tuple[Evidence, ...]) -> bool:
    """The rule of conviction, said once more."""
    serious = [one for one in found if one.strength is not Strength.WEAK]
    return (
        Strength.DECISIVE in [one.strength for one in serious]
        or len({FAMILIES[one.kind] for one in serious}) >= 2
    )


class TestStates:
    """Whatever happens."""

    @settings(max_examples=150, deadline=None)
    @given(st.lists(ACTIONS, max_size=40), st.booleans())
    def test_nobody_is_stalled_without_decisive_evidence_or_two_kinds(
        self, acts: list[tuple[str, Any]], is_learned: bool
    ) -> None:
        shop = SilentShop()
        if is_learned:
            shop.learn()
        for act, value in acts:
            _do(shop, act, value)
            before = shop.state
            after = shop.judge()
            if after is SyncState.STALLED and before is not after:
                assert _is_enough(shop.watch.kept)
            if after is SyncState.HEALTHY:
                assert shop.watch.evidence == ()
            if before is SyncState.STALLED:
                assert after in {SyncState.STALLED, SyncState.RECOVERING}
            about = rules.verdict(shop.watch, shop.about, shop.now, shop.terms)
            assert (about.suspicion >= 1) or not _is_enough(shop.watch.evidence)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(ACTIONS, max_size=30))
    def test_evidence_ages_out(self, acts: list[tuple[str, Any]]) -> None:
        shop = SilentShop()
        for act, value in acts:
            if act not in {"beat", "ask"}:  # signs of life that are due do not age
                _do(shop, act, value)
                shop.judge()
        shop.now += 1000
        for _ in range(40):
            shop.wait(MINUTE_MS)
            shop.hear(3)
            shop.hooks(HookState.SOUND)
            shop.poll()
        shop.wait(2 * HOUR_MS)
        assert shop.watch.evidence == ()
        assert shop.state is SyncState.HEALTHY

    @settings(max_examples=100, deadline=None)
    @given(st.lists(ACTIONS, max_size=30))
    def test_while_nobody_is_heard_silence_blames_no_account(self, acts: list[tuple[str, Any]]) -> None:
        shop = SilentShop()
        shop.learn()
        for act, value in acts:
            if act in {"hear", "beat", "ask", "refuse", "wait", "nothing"}:
                _do(shop, act, value)
                assert shop.judge(ours="Nobody is heard.") in {SyncState.HEALTHY, SyncState.SUSPECT}

    @settings(max_examples=50, deadline=None)
    @given(st.lists(ACTIONS, max_size=30))
    def test_a_judge_that_takes_over_judges_alike(self, acts: list[tuple[str, Any]]) -> None:
        one, other = SilentShop(), SilentShop()
        for act, value in acts:
            written = Watch.from_json(other.watch.as_json())
            assert written is not None
            other.watch = written
            for shop in (one, other):
                _do(shop, act, value)
                shop.judge()
        assert one.watch.as_json() == other.watch.as_json()


def _is_convicted_by_one(found: tuple[Evidence, ...]) -> bool:
    return any(one.strength >= Strength.MEDIUM for one in found)


def _no_quiet(*_args: object, **_named: object) -> None:
    """Do nothing."""


def _everything(watched: Watch, now_ms: int, terms: model.Terms, **_named: object) -> tuple[Evidence, ...]:
    return tuple(evidence._all(watched, now_ms, terms))


MUTANTS: Final[dict[str, tuple[object, str, object]]] = {
    "one medium sign convicts": (states, "is_convicted", _is_convicted_by_one),
    "signs of one family are two": (states, "FAMILIES", {kind: kind.value for kind in Kind}),
    "nothing convicts": (states, "is_convicted", lambda _found: False),
    "what was found never ages": (evidence, "LIFE_MS", 10**15),
    "signs of life are believed although deliveries arrive": (rules, "_is_contradicted", lambda *_a: False),
    "a poll that finds nothing says nothing": (Stream, "find_quiet", _no_quiet),
    "the grace is not learned": (evidence, "grace_ms", lambda _watch, terms: terms.grace_ms),
    "nobody asks whether the fault is ours": (evidence, "gather", _everything),
    "one silent account is everybody": (rules, "CROWD", 1),
    "a few changes tell the coverage": (evidence, "FOUND_MIN_LOW", 1),
    "no coverage is too low": (evidence, "COVERAGE_LOW", 0.0),
    "a sale is a rhythm": (rhythm, "JUMP", 10**9),
    "an outage is a rhythm": (Rhythm, "spoil", _no_quiet),
    "one silence teaches without end": (silence, "LESSON_MAX", 10**9),
    "the longest silence is forgotten": (silence, "WEEKS_KEPT", 0),
    "nothing must be shown to recover": (states, "has_recovered", lambda *_a: True),
    "a relapse is forgiven": (states, "FACTOR_MAX", 1),
    "half of what is too long is not looked at": (evidence, "SILENT_KINDS", frozenset()),
    "no pause is noticed": (rules, "go_deaf", _no_quiet),
    "any refusal is a surge, and none ends": (evidence, "MINUTES", 10**9),
    "every delay is believed to be none": (evidence, "typical_ms", lambda _watch: 0),
    "the rhythm counts from the first hour": (Stream, "_is_learned", lambda *_a: True),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_of_the_judge_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, what, instead = MUTANTS[name]
    if name == "the longest silence is forgotten":
        where, what, instead = silence.Silences, "bound", _bound_without_longest
    monkeypatch.setattr(where, what, instead)
    assert any(_fails(check) for check in CHECKS)


def _bound_without_longest(silences: silence.Silences, period_weeks: float) -> float | None:
    kept, silences.longest = silences.longest, [0.0]
    try:
        return _BOUND(silences, period_weeks)
    finally:
        silences.longest = kept


_BOUND: Final = silence.Silences.bound


def _fails(check: Callable[[], None]) -> bool:
    try:
        check()
    except AssertionError:
        return True
    return False


def test_memory_of_an_account_is_bounded() -> None:
    shop = SilentShop()
    shop.learn(topics=tuple(f"topic-{number}" for number in range(100)))
    sizes = []
    for _ in range(3):
        for number in range(100):
            shop.hear(topic=f"topic-{number}")
            shop.poll(3, 1, age_ms=5000)
            shop.second(refused=1)
            rules.ask(shop.watch, shop.now)
            shop.wait(10 * MINUTE_MS)
        sizes.append(len(shop.watch.topics))
    assert len(shop.watch.polls.days) <= 24
    assert len(shop.watch.canary.asked) <= watch.ASKS_MAX
    assert len(shop.watch.minutes) <= watch.MINUTES_KEPT
    assert stream.Stream().as_json().keys() == shop.watch.whole.as_json().keys()


def test_topics_beyond_the_limit_share_one_rhythm() -> None:
    shop = SilentShop()
    for number in range(watch.TOPICS_MAX + 20):
        shop.hear(topic=f"topic-{number}")
    assert len(shop.watch.topics) == watch.TOPICS_MAX + 1
    assert shop.watch.topics[watch.OTHER].rhythm.count == 20
