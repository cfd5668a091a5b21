"""The checker of hold histories finds every planted mistake and accepts what one counter explains."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.atomic_counter import Flaw, Simulation
from tests.support.linearizability import (
    NS_PER_MS,
    Act,
    Effect,
    Operation,
    Outcome,
    completed,
    explanation,
    lifetimes,
    violations,
)

DONE, REFUSED, UNKNOWN = Outcome
SEEDS: Final = st.integers(min_value=0, max_value=2**32)


def op(act: Act, hold: str, begins: int, ends: int, **more: Any) -> Operation:
    return Operation(act=act, hold=hold, invoked=begins, answered=ends, **more)


def grant(hold: str, begins: int, ends: int, *, units: int = 1, **more: Any) -> Operation:
    return op(Act.GRANT, hold, begins, ends, units=units, **more)


def refusal(begins: int, ends: int, *, units: int = 1, **more: Any) -> Operation:
    return grant("", begins, ends, units=units, outcome=REFUSED, **more)


SOUND: Final = {
    "the last unit, then nothing": [grant("a", 0, 1, seq=1), refusal(2, 3)],
    "a refusal while another call took the unit": [grant("a", 0, 9, seq=1), refusal(1, 2)],
    "a released unit is granted again": [
        grant("a", 0, 1, seq=1),
        op(Act.RELEASE, "a", 2, 3, seq=2),
        grant("b", 4, 5, seq=3),
    ],
    "a unit that was taken by a call without an answer": [
        grant("a", 0, 9, seq=1, outcome=UNKNOWN),
        refusal(2, 3),
    ],
    "a call without an answer that had no effect": [
        Operation(act=Act.GRANT, units=1, invoked=0, outcome=UNKNOWN),
        grant("b", 4, 5, seq=1),
    ],
    "a repeated call with the same answer": [
        grant("a", 0, 1, seq=1, key="k"),
        grant("a", 2, 3, seq=1, key="k"),
        refusal(4, 5),
    ],
    "a hold that lapsed is gone": [
        grant("a", 0, 1, seq=1),
        op(Act.EXPIRE, "a", 2, 9, seq=2),
        op(Act.COMMIT, "a", 3, 4, outcome=REFUSED),
        op(Act.RENEW, "a", 5, 6, outcome=REFUSED),
    ],
    "what is sold stays sold": [
        grant("a", 0, 1, seq=1),
        op(Act.RENEW, "a", 2, 3),
        op(Act.COMMIT, "a", 4, 5, seq=2),
        refusal(6, 7),
    ],
}

UNSOUND: Final = {
    "one unit too many": [grant("a", 0, 1, seq=1), grant("b", 2, 3, seq=2)],
    "a release that put nothing back": [
        grant("a", 0, 1, seq=1),
        op(Act.RELEASE, "a", 2, 3, seq=2),
        refusal(4, 5),
    ],
    "two holds for one key": [
        grant("a", 0, 1, seq=1, key="k"),
        op(Act.RELEASE, "a", 2, 3, seq=2),
        grant("b", 4, 5, seq=3, key="k"),
    ],
    "a refusal while enough was free": [refusal(0, 1), grant("a", 2, 3, seq=1)],
    "the second of two refusals saw an older state": [
        grant("a", 0, 1, seq=1),
        op(Act.RELEASE, "a", 2, 9, seq=2),
        grant("b", 4, 5, seq=3),
        op(Act.RELEASE, "b", 6, 7, seq=4),
        refusal(8, 9),
    ],
    "an expiry before its time": [
        grant("a", 0, 1, seq=1, ttl_ms=10),
        op(Act.EXPIRE, "a", 0, 99 * NS_PER_MS, seq=2),
        grant("b", 2, 3, seq=3),
    ],
    "an expiry before the time to which it was renewed": [
        grant("a", 0, 1, seq=1, ttl_ms=10),
        op(Act.RENEW, "a", 9 * NS_PER_MS, 9 * NS_PER_MS + 1, ttl_ms=10),
        op(Act.EXPIRE, "a", 0, 99 * NS_PER_MS, seq=2),
        grant("b", 12 * NS_PER_MS, 13 * NS_PER_MS, seq=3),
    ],
    "a sale of a hold that had lapsed": [
        grant("a", 0, 1, seq=1),
        op(Act.EXPIRE, "a", 2, 3, seq=2),
        op(Act.COMMIT, "a", 4, 5, seq=3),
    ],
    "a live hold that is said to be gone": [
        grant("a", 0, 1, seq=1),
        op(Act.COMMIT, "a", 2, 3, outcome=REFUSED),
        op(Act.COMMIT, "a", 4, 5, seq=2),
    ],
    "a hold renewed after its end": [
        grant("a", 0, 1, seq=1),
        op(Act.RELEASE, "a", 2, 3, seq=2),
        op(Act.RENEW, "a", 4, 5),
    ],
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_history_is_accepted_by_both_checkers(name: str) -> None:
    assert violations(SOUND[name], 1) == []
    assert explanation(SOUND[name], 1) is not None


@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_history_is_refused_by_both_checkers(name: str) -> None:
    assert violations(UNSOUND[name], 1) != []
    assert explanation(UNSOUND[name], 1) is None


def test_an_order_against_real_time_is_found_even_if_another_order_would_do() -> None:
    history = [grant("a", 0, 1, seq=2), grant("b", 2, 3, seq=1)]
    assert violations(history, 2) != []
    assert explanation(history, 2) is not None


def test_refusals_in_turn_must_not_see_an_older_state_one_after_the_other() -> None:
    """The hold was there, then gone, then there again; any two of these answers are right."""
    effects = [grant("a", 0, 99, seq=1), op(Act.RELEASE, "a", 0, 99, seq=2)]
    looks = [
        refusal(10, 11),
        op(Act.COMMIT, "a", 12, 13, outcome=REFUSED),
        op(Act.RENEW, "a", 14, 15),
    ]
    for left_out in range(3):
        history = [*effects, *looks[:left_out], *looks[left_out + 1 :]]
        assert violations(history, 1) == []
        assert explanation(history, 1) is not None
    assert violations([*effects, *looks], 1) != []
    assert explanation([*effects, *looks], 1) is None


def test_a_grant_without_a_place_in_the_hubs_order_is_found() -> None:
    assert violations([grant("a", 0, 1)], 1) != []


def test_a_sequence_given_twice_is_found() -> None:
    assert violations([grant("a", 0, 9, seq=1), grant("b", 0, 9, seq=1)], 2) != []


class TestCompletion:
    def test_a_grant_without_an_answer_gets_its_place_from_the_ledger(self) -> None:
        calls = [Operation(act=Act.GRANT, units=1, invoked=0, key="k", outcome=UNKNOWN), refusal(2, 3)]
        history = completed(calls, [Effect(seq=1, act=Act.GRANT, hold="a", units=1)], read_at=9)
        assert violations(history, 1) == []

    def test_a_grant_that_nobody_asked_for_is_found(self) -> None:
        calls = [grant("a", 0, 1, seq=1, key="k")]
        ledger = [Effect(seq=seq, act=Act.GRANT, hold=hold, units=1) for seq, hold in ((1, "a"), (2, "b"))]
        assert violations(completed(calls, ledger, read_at=9), 2) != []

    def test_an_answer_that_the_ledger_does_not_know_is_found(self) -> None:
        calls = [grant("a", 0, 1, seq=1, key="k"), op(Act.COMMIT, "a", 2, 3, key="k")]
        ledger = [Effect(seq=1, act=Act.GRANT, hold="a", units=1)]
        assert violations(completed(calls, ledger, read_at=9), 1) != []

    def test_a_refused_call_that_had_an_effect_is_found(self) -> None:
        calls = [
            grant("a", 0, 1, seq=1, key="k"),
            op(Act.COMMIT, "a", 2, 1 << 62, key="k", outcome=UNKNOWN),
            op(Act.COMMIT, "a", 4, 5, key="k", outcome=REFUSED),
        ]
        ledger = [
            Effect(seq=1, act=Act.GRANT, hold="a", units=1),
            Effect(seq=2, act=Act.COMMIT, hold="a", units=1),
        ]
        assert violations(completed(calls, ledger, read_at=9), 1) != []


class TestLifetimes:
    @staticmethod
    def found(end: Act, at_ms: int, **more: Any) -> list[str]:
        history = [
            grant("a", 0, 1, seq=1, until_ms=5_000),
            op(end, "a", 2, 3, seq=2, at_ms=at_ms),
        ]
        return lifetimes(history, late_ms=1_000, **more)

    @pytest.mark.parametrize(
        ("end", "at_ms"), [(Act.EXPIRE, 5_000), (Act.EXPIRE, 6_000), (Act.COMMIT, 4_999), (Act.RELEASE, 10)]
    )
    def test_an_end_in_time_is_right(self, end: Act, at_ms: int) -> None:
        assert self.found(end, at_ms) == []

    @pytest.mark.parametrize(
        ("end", "at_ms"),
        [(Act.EXPIRE, 4_999), (Act.EXPIRE, 6_001), (Act.COMMIT, 5_000), (Act.RELEASE, 5_000)],
    )
    def test_an_end_too_early_or_too_late_is_found(self, end: Act, at_ms: int) -> None:
        assert len(self.found(end, at_ms)) == 1

    def test_a_hold_without_an_end_is_found(self) -> None:
        assert lifetimes([grant("a", 0, 1, seq=1, until_ms=5_000)], late_ms=1_000) != []

    def test_while_the_store_is_away_nothing_can_end(self) -> None:
        assert self.found(Act.EXPIRE, 8_500, away=[(4_000, 8_000)]) == []
        assert self.found(Act.EXPIRE, 9_001, away=[(4_000, 8_000)]) != []
        assert self.found(Act.EXPIRE, 8_500, away=[(4_000, 4_999)]) != []


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, units=st.integers(1, 12), clients=st.integers(1, 8), loss=st.floats(0, 0.4))
def test_whatever_an_atomic_counter_answers_is_accepted(
    seed: int, units: int, clients: int, loss: float
) -> None:
    simulation = Simulation(random.Random(seed), units=units, clients=clients, rounds=6, loss=loss)
    assert violations(simulation.run(), units) == []


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, units=st.integers(1, 4), flaw=st.sampled_from(Flaw))
def test_the_two_checkers_do_not_contradict_each_other(seed: int, units: int, flaw: Flaw) -> None:
    """The first proves one order, the second finds any: what the first accepts the second explains."""
    history = Simulation(random.Random(seed), units=units, clients=3, rounds=2, flaw=flaw, loss=0.2).run()
    order = explanation([replace(one, seq=None) for one in history], units)
    if violations(history, units) == []:
        assert order is not None
    if flaw is Flaw.NONE:
        assert order is not None


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, units=st.integers(1, 4))
def test_the_order_that_the_search_has_found_is_accepted_by_the_first_checker(seed: int, units: int) -> None:
    history = Simulation(random.Random(seed), units=units, clients=3, rounds=2, loss=0.2).run()
    found = explanation([replace(one, seq=None) for one in history], units)
    assert found is not None
    numbered = [
        one if one.outcome is REFUSED or one.act is Act.RENEW else replace(one, seq=seq, key="")
        for seq, one in enumerate(found)
    ]
    assert violations(numbered, units) == []


@pytest.mark.parametrize("flaw", [flaw for flaw in Flaw if flaw is not Flaw.NONE])
@pytest.mark.parametrize("seed", range(3))
def test_a_counter_with_a_flaw_is_found_out(flaw: Flaw, seed: int) -> None:
    simulation = Simulation(random.Random(seed), units=20, clients=16, rounds=20, flaw=flaw)
    assert violations(simulation.run(), 20) != []


def test_many_thousand_operations_are_checked_in_one_pass() -> None:
    simulation = Simulation(random.Random(1), units=120, clients=100, rounds=90)
    history = simulation.run()
    assert len(history) > 10_000
    assert violations(history, 120) == []
