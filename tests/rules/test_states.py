"""The states of a SKU as a machine: which one moves to which, and by what.

The table names one way for each pair. A search through every situation that a few
units, a hold and a changing policy can bring about proves that there are no others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synchub.availability.model import SELLABLE, State
from synchub.availability.rules import allowance_units, disclosed, view, visible_units
from synchub.policies.model import Disclosure, OnStale, OnUnknown, Terms
from tests.support.answers import AS_OF_MS, an_answer, answers, some_terms, terms, unknown_sku

if TYPE_CHECKING:
    from synchub.stock.model import Answer, Cell

NOW_MS: Final = AS_OF_MS + 100
IN, LOW, OUT = State.IN_STOCK, State.LOW_STOCK, State.OUT_OF_STOCK
BACKORDER, RESERVED = State.BACKORDERED, State.RESERVED
GONE, UNKNOWN = State.DISCONTINUED, State.UNKNOWN_SKU

PLAIN: Final = some_terms(low_threshold=3)
BUFFERED: Final = some_terms(low_threshold=3, buffer_units=4)


@dataclass(frozen=True, kw_only=True)
class Situation:
    answer: Answer
    terms: Terms = PLAIN

    @property
    def state(self) -> State:
        return view(self.answer, self.terms, now_ms=NOW_MS).state


Event = Callable[[Situation], Situation | None]
"""What happens; None: it cannot happen here."""


def here(ats: int = 0, held: int = 0, **about: Any) -> Situation:
    return Situation(answer=an_answer(ats=ats, held=held, **about))


NOWHERE: Final = Situation(answer=unknown_sku())


def change(situation: Situation, **changes: object) -> Situation:
    changed = replace(situation.answer, **{"ver": 1, "cells": ()} | changes)  # type: ignore[arg-type]  # by name
    return replace(situation, answer=changed)


def known(event: Event) -> Event:
    """Only what has been reported can be sold, held or lost."""
    return lambda situation: event(situation) if situation.answer.exists else None


def reported(units: int) -> Event:
    return lambda one: change(one, ats=units - one.answer.held, known=True, gone=False)


def sold_elsewhere(units: int) -> Event:
    return known(lambda one: change(one, ats=one.answer.ats - units))


def held(units: int) -> Event:
    """Granted only if the view covers it."""

    def hold(one: Situation) -> Situation | None:
        if not view(one.answer, one.terms, now_ms=NOW_MS).covers(units):
            return None
        return change(one, ats=one.answer.ats - units, held=one.answer.held + units)

    return known(hold)


def holds_ended(one: Situation) -> Situation | None:
    return change(one, ats=one.answer.ats + one.answer.held, held=0) if one.answer.held else None


def holds_committed(one: Situation) -> Situation | None:
    return change(one, held=0) if one.answer.held else None


def discontinued(one: Situation) -> Situation:
    return change(one, discontinued=True)


def listed_again(one: Situation) -> Situation | None:
    return change(one, discontinued=False) if one.answer.discontinued else None


def backorder_offered(one: Situation) -> Situation:
    return change(one, backorder=True)


def backorder_withdrawn(one: Situation) -> Situation | None:
    return change(one, backorder=False) if one.answer.backorder else None


def no_longer_counted(one: Situation) -> Situation | None:
    return change(one, known=False, ats=-one.answer.held) if one.answer.exists else None


def removed_everywhere(one: Situation) -> Situation | None:
    return change(one, gone=True, ats=-one.answer.held) if one.answer.exists else None


def buffer_raised(one: Situation) -> Situation:
    return replace(one, terms=BUFFERED)


def buffer_lowered(one: Situation) -> Situation:
    return replace(one, terms=PLAIN)


def buffered(situation: Situation) -> Situation:
    return replace(situation, terms=BUFFERED)


MOVES: Final[list[tuple[State, State, Situation, Event]]] = [
    (UNKNOWN, IN, NOWHERE, reported(6)),
    (UNKNOWN, LOW, NOWHERE, reported(1)),
    (UNKNOWN, OUT, NOWHERE, reported(0)),
    (UNKNOWN, GONE, NOWHERE, discontinued),
    (IN, LOW, here(6), sold_elsewhere(5)),
    (IN, OUT, here(6), sold_elsewhere(6)),
    (IN, BACKORDER, here(6, backorder=True), sold_elsewhere(6)),
    (IN, RESERVED, here(3), held(3)),
    (IN, GONE, here(6), discontinued),
    (LOW, IN, here(1), reported(6)),
    (LOW, OUT, here(2), buffer_raised),
    (LOW, BACKORDER, here(1, backorder=True), sold_elsewhere(1)),
    (LOW, RESERVED, here(2), held(2)),
    (LOW, GONE, here(1), removed_everywhere),
    (OUT, IN, here(0), reported(6)),
    (OUT, LOW, buffered(here(2)), buffer_lowered),
    (OUT, BACKORDER, here(0), backorder_offered),
    (OUT, RESERVED, here(-2, held=2), reported(1)),
    (OUT, GONE, here(0), discontinued),
    (BACKORDER, IN, here(0, backorder=True), reported(6)),
    (BACKORDER, LOW, here(0, backorder=True), reported(1)),
    (BACKORDER, OUT, here(0, backorder=True), backorder_withdrawn),
    (BACKORDER, RESERVED, here(-2, held=2, backorder=True), reported(2)),
    (BACKORDER, GONE, here(0, backorder=True), discontinued),
    (RESERVED, IN, here(0, held=3), holds_ended),
    (RESERVED, LOW, here(0, held=2), holds_ended),
    (RESERVED, OUT, here(0, held=2), holds_committed),
    (RESERVED, BACKORDER, here(0, held=2, backorder=True), holds_committed),
    (RESERVED, GONE, here(0, held=2), discontinued),
    (GONE, IN, here(6, discontinued=True), listed_again),
    (GONE, LOW, here(1, discontinued=True), listed_again),
    (GONE, OUT, here(0, discontinued=True), listed_again),
    (GONE, BACKORDER, here(0, backorder=True, discontinued=True), listed_again),
    (GONE, RESERVED, here(0, held=2, discontinued=True), listed_again),
]

EVENTS: Final[tuple[Event, ...]] = (
    *map(reported, (0, 1, 2, 6)),
    *map(sold_elsewhere, (1, 3, 6)),
    *map(held, (1, 2, 3)),
    *(holds_ended, holds_committed, discontinued, listed_again, backorder_offered, backorder_withdrawn),
    *(no_longer_counted, removed_everywhere, buffer_raised, buffer_lowered),
)

NEVER: Final = {(one, UNKNOWN) for one in State} | {(UNKNOWN, RESERVED), (UNKNOWN, BACKORDER)}
"""What has been reported once stays known, and what is not known cannot be held."""


@pytest.mark.parametrize(
    ("before", "after", "situation", "event"), MOVES, ids=[f"{move[0]}-{move[1]}" for move in MOVES]
)
def test_an_event_moves_a_sku_from_one_state_to_another(
    before: State, after: State, situation: Situation, event: Event
) -> None:
    moved = event(situation)
    assert moved is not None
    assert (situation.state, moved.state) == (before, after)


def test_the_table_holds_every_move_there_is_and_no_other() -> None:
    table = {(before, after) for before, after, _, _ in MOVES}
    assert moves_that_happen() == table
    assert table | NEVER == {pair for pair in product(State, State) if pair[0] is not pair[1]} | {
        (UNKNOWN, UNKNOWN)
    }


def moves_that_happen() -> set[tuple[State, State]]:
    """Search from a SKU nobody knows, through everything that may happen to a few units of it."""
    seen, waiting = {NOWHERE}, deque([NOWHERE])
    found: set[tuple[State, State]] = set()
    while waiting:
        situation = waiting.popleft()
        for event in EVENTS:
            moved = event(situation)
            if moved is None or not -3 <= moved.answer.ats <= 6 or moved.answer.held > 3:
                continue
            if moved.state is not situation.state:
                found.add((situation.state, moved.state))
            if moved not in seen:
                seen.add(moved)
                waiting.append(moved)
    return found


# ------------------------------------------------------------------------------ missing evidence


@pytest.mark.parametrize(
    ("on_stale", "ats", "state", "visible"),
    [
        (OnStale.ANSWER, 7, IN, 7),
        (OnStale.ANSWER, 0, OUT, 0),
        (OnStale.ASSUME_OUT, 7, OUT, 0),
        (OnStale.ASSUME_IN, 7, IN, None),
        (OnStale.ASSUME_IN, 0, IN, None),
        (OnStale.ESCALATE, 7, OUT, 0),
    ],
)
def test_when_nothing_is_fresh_the_merchant_has_decided(
    on_stale: OnStale, ats: int, state: State, visible: int | None
) -> None:
    shown = view(an_answer(ats=ats, stale=True), some_terms(on_stale=on_stale), now_ms=NOW_MS)
    assert (shown.state, shown.visible, shown.decided_by, shown.degraded) == (
        state,
        visible,
        "on_stale",
        True,
    )


@pytest.mark.parametrize(
    ("on_unknown", "state", "visible"),
    [(OnUnknown.ASSUME_OUT, OUT, 0), (OnUnknown.ASSUME_IN, IN, None), (OnUnknown.ESCALATE, OUT, 0)],
)
def test_when_nobody_has_a_number_the_merchant_has_decided(
    on_unknown: OnUnknown, state: State, visible: int | None
) -> None:
    answer = an_answer(ats=0, known=False, backorder=True)
    shown = view(answer, some_terms(on_unknown=on_unknown), now_ms=NOW_MS)
    assert (shown.state, shown.visible, shown.decided_by) == (state, visible, "on_unknown")


def test_a_fresh_number_is_decided_by_nobody() -> None:
    shown = view(an_answer(), some_terms(on_stale=OnStale.ASSUME_OUT), now_ms=NOW_MS)
    assert (shown.state, shown.decided_by) == (IN, None)


@pytest.mark.parametrize("about", [{"discontinued": True}, {"gone": True}, {"ver": 0}])
def test_what_is_not_sold_is_not_assumed_to_be_there(about: dict[str, Any]) -> None:
    generous = some_terms(on_stale=OnStale.ASSUME_IN, on_unknown=OnUnknown.ASSUME_IN)
    answer = an_answer(**{"known": False, "stale": True} | about)
    assert view(answer, generous, now_ms=NOW_MS).state in {GONE, UNKNOWN}


# ------------------------------------------------------------------------------ properties


def test_units_that_would_only_be_oversold_again_are_not_reserved() -> None:
    oversold = an_answer(ats=-3, held=2, ref=100)
    assert view(oversold, some_terms(allowance_bp=200), now_ms=NOW_MS).state is OUT


@given(answers(), terms())
def test_exactly_one_state_holds_and_it_is_the_one_told(answer: Answer, about: Terms) -> None:
    holding = [state for state, holds in statements(answer, about).items() if holds]
    assert holding == [view(answer, about, now_ms=NOW_MS).state]


@given(answers(), terms())
def test_no_more_is_visible_than_there_is_and_may_be_oversold(answer: Answer, about: Terms) -> None:
    visible = view(answer, about, now_ms=NOW_MS).visible
    assert visible is None or 0 <= visible <= max(0, answer.ats + allowance_units(answer, about))


@given(answers(), terms())
def test_what_is_told_is_never_more_than_what_is_visible(answer: Answer, about: Terms) -> None:
    shown = view(answer, about, now_ms=NOW_MS)
    assert shown.available is None or shown.available <= (shown.visible or 0)


@given(answers(), terms(), st.integers(1, 300))
def test_more_stock_never_makes_a_state_further_from_a_sale(answer: Answer, about: Terms, more: int) -> None:
    first, *rest = answer.cells
    richer = replace(answer, ats=answer.ats + more, cells=(replace(first, base=first.base + more), *rest))
    poor, rich = (view(one, about, now_ms=NOW_MS) for one in (answer, richer))
    nearness = [OUT, BACKORDER, RESERVED, LOW, IN]
    if poor.state in nearness:
        assert nearness.index(rich.state) >= nearness.index(poor.state)
    # Units that are about to come back go before a backorder; nothing else stops being sellable.
    if poor.is_sellable and (poor.state, rich.state) != (BACKORDER, RESERVED):
        assert rich.is_sellable


@given(answers(), terms())
def test_what_can_be_ordered_is_visible_or_backordered_or_assumed(answer: Answer, about: Terms) -> None:
    shown = view(answer, about, now_ms=NOW_MS)
    if shown.state in SELLABLE:
        is_assumed = shown.visible is None and shown.decided_by is not None
        assert is_assumed or (shown.visible or 0) > 0 or answer.backorder
    else:
        assert shown.visible == 0
        assert not shown.covers(1)


@given(answers(), terms(), st.integers(1, 20))
def test_a_larger_buffer_never_shows_more(answer: Answer, about: Terms, more: int) -> None:
    careful = replace(about, buffer_units=about.buffer_units + more)
    assert visible_units(answer, careful) <= visible_units(answer, about)


@given(answers(), terms())
def test_a_commit_changes_nothing_that_is_visible(answer: Answer, about: Terms) -> None:
    """The hold falls and the sale takes its place in the same cell."""
    cells = tuple(replace(cell, base=cell.base - cell.held, held=0) for cell in answer.cells)
    committed = replace(answer, held=0, cells=cells)
    assert visible_units(committed, about) == visible_units(answer, about)


@given(answers(), terms(), st.integers(0, 2_000_000), st.integers(1000, 900_000))
def test_no_answer_lives_until_its_number_may_be_stale(
    answer: Answer, about: Terms, age_ms: int, max_age_ms: int
) -> None:
    now_ms = AS_OF_MS + age_ms
    shown = view(answer, about, now_ms=now_ms, max_age_ms=max_age_ms)
    assert 0 <= shown.ttl_ms <= 2000
    if shown.state not in {UNKNOWN, GONE} and answer.known and not answer.stale and age_ms <= max_age_ms:
        assert now_ms + shown.ttl_ms <= AS_OF_MS + max_age_ms


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_buckets_keep_the_order_of_numbers(one: int, other: int) -> None:
    lower, higher = sorted((one, other))
    told = [disclosed(units, Disclosure.BUCKET) for units in (lower, higher)]
    assert told[0] is not None
    assert told[1] is not None
    assert told[0] <= told[1]


def statements(answer: Answer, about: Terms) -> dict[State, bool]:
    """What each state claims, stated by itself and not in an order."""
    exists = answer.ver > 0
    is_sold = exists and not answer.discontinued and not answer.gone
    assumed_out = is_sold and (
        (not answer.known and about.on_unknown is not OnUnknown.ASSUME_IN)
        or (answer.known and answer.stale and about.on_stale in {OnStale.ASSUME_OUT, OnStale.ESCALATE})
    )
    assumed_in = is_sold and (
        (not answer.known and about.on_unknown is OnUnknown.ASSUME_IN)
        or (answer.known and answer.stale and about.on_stale is OnStale.ASSUME_IN)
    )
    speaks = is_sold and answer.known and not assumed_out and not assumed_in
    visible = visible_now(answer, about)
    empty = speaks and visible == 0
    returning = answer.held > 0 and answer.ats + answer.held > 0 and visible_then(answer, about) > 0
    return {
        UNKNOWN: not exists,
        GONE: exists and not is_sold,
        IN: assumed_in or (speaks and visible > 0 and visible >= about.low_threshold),
        LOW: speaks and 0 < visible < about.low_threshold,
        RESERVED: empty and returning,
        BACKORDER: empty and not returning and answer.backorder,
        OUT: assumed_out or (empty and not returning and not answer.backorder),
    }


def visible_now(answer: Answer, about: Terms) -> int:
    return formula(answer, about, units=answer.ats, free=lambda cell: cell.base - cell.held)


def visible_then(answer: Answer, about: Terms) -> int:
    """What would be visible without any hold."""
    return formula(answer, about, units=answer.ats + answer.held, free=lambda cell: cell.base)


def formula(answer: Answer, about: Terms, *, units: int, free: Callable[[Cell], int]) -> int:
    per_cent = answer.ref / 10_000
    buffer = about.buffer_units + ceiling(per_cent * about.buffer_bp) + answer.lag * about.lag_units
    limits = [units - buffer + int(per_cent * about.allowance_bp + 1e-9)]
    if about.channel_cap is not None:
        limits.append(about.channel_cap)
    if not about.split:
        limits.append(max(free(cell) for cell in answer.cells))
    return max(0, min(limits))


def ceiling(number: float) -> int:
    return -int(-(number - 1e-9) // 1)
