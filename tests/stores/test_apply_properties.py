"""What must hold for any sequence of reports: searched by hypothesis, judged on a real Valkey.

The state machine holds the shipped script against the reference model after every
step; the other properties compare the script with itself.
"""

from __future__ import annotations

import math
from itertools import count
from typing import TYPE_CHECKING, ClassVar, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.support.apply_driver import ApplyDriver
from tests.support.apply_strategies import (
    ACCOUNTS,
    DECISIONS,
    LOCATIONS,
    MAX_AGE,
    SKUS,
    START,
    amounts,
    quantities,
    roles,
    rows,
    stock_rows,
)
from tests.support.reference_answer import Role, SourceName
from tests.support.reference_model import ReferenceModel
from tests.support.rows import ITEM, delta, push
from tests.support.subjects import differences, observe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redis import Redis

    from tests.support.reference_books import Answer, Effect, LedgerEntry
    from tests.support.valkey import Valkey

Row = tuple[str, ...]

PARKED_MAX: Final = 5
AUTHORITY: Final = Role(kind="A", rank=1, max_age=MAX_AGE, own_items=True, own_places=True, fetches=True)
STEPS_MS: Final = (0, 1, 20, 500, MAX_AGE + 1, -50, 3 * 86_400_000)

# The same search in every run: a failure on one machine is a failure on all. No deadline, for busy machines.
SEARCH: Final = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)

_merchants = count(1)


@pytest.fixture(scope="module")
def client(valkey: Valkey) -> Iterator[Redis]:
    with valkey.client() as connected:
        yield connected


class ApplyMachine(RuleBasedStateMachine):
    """One merchant in two bodies: the script's and the model's."""

    client: ClassVar[Redis]

    def __init__(self) -> None:
        super().__init__()
        self.script = ApplyDriver(self.client, f"machine-{next(_merchants)}", parked_max=PARKED_MAX)
        self.model = ReferenceModel(parked_max=PARKED_MAX)
        self.now = START
        self.history: list[Row] = []

    @initialize(chosen=st.fixed_dictionaries(dict.fromkeys(ACCOUNTS, roles)))
    def connect_accounts(self, chosen: dict[str, Role]) -> None:
        for account, role in chosen.items():
            self._on_both("set_role", account, role)

    @rule(data=st.data())
    def reports_arrive(self, data: st.DataObject) -> None:
        batch = data.draw(st.lists(rows(self.now), min_size=1, max_size=64))
        self._apply(batch)
        self.history += batch

    @rule(data=st.data())
    def deliveries_repeat(self, data: st.DataObject) -> None:
        if not self.history:
            return
        batch = data.draw(st.lists(st.sampled_from(self.history), min_size=1, max_size=4))
        as_they_were = data.draw(st.booleans())
        self._apply(batch if as_they_were else [_redelivered(row, self.now) for row in batch])

    @rule(step=st.sampled_from(STEPS_MS))
    def time_passes(self, step: int) -> None:
        self.now += step

    @rule(
        account=st.sampled_from(ACCOUNTS),
        location=st.sampled_from(LOCATIONS),
        place=st.sampled_from(["WH1", "WH9"]),
    )
    def a_location_is_mapped(self, account: str, location: str, place: str) -> None:
        self._on_both("map_location", account, location, place)

    @rule(account=st.sampled_from(ACCOUNTS), role=roles)
    def a_role_changes(self, account: str, role: Role) -> None:
        self._on_both("set_role", account, role)

    @rule(
        account=st.sampled_from(ACCOUNTS),
        sku=st.sampled_from(SKUS),
        place=st.sampled_from(LOCATIONS),
        decision=st.sampled_from(DECISIONS),
    )
    def a_person_decides(self, account: str, sku: str, place: str, decision: str) -> None:
        self._on_both("decide", account, sku, place, decision)

    @invariant()
    def script_and_model_agree(self) -> None:
        told = differences(observe(self.script, ACCOUNTS), observe(self.model, ACCOUNTS))
        assert not told, told

    @invariant()
    def the_ledger_rebuilds_every_source(self) -> None:
        _check_ledger(self.script)

    @invariant()
    def the_feed_is_one_chain(self) -> None:
        _check_feed(self.script)

    @invariant()
    def evidence_is_never_newer_than_what_was_told(self) -> None:
        _check_evidence(self.script, self.history)

    def _apply(self, batch: list[Row]) -> None:
        assert self.script.apply(batch, self.now) == self.model.apply(batch, self.now)

    def _on_both(self, verb: str, *arguments: object) -> None:
        for subject in (self.script, self.model):
            getattr(subject, verb)(*arguments)


def test_script_and_model_agree_whatever_happens(client: Redis) -> None:
    ApplyMachine.client = client
    run_state_machine_as_test(
        ApplyMachine,
        settings=settings(SEARCH, max_examples=120, stateful_step_count=20, phases=[Phase.generate]),
    )


@SEARCH
@given(quantities_told=st.lists(quantities, min_size=1, max_size=8), data=st.data())
def test_strict_levels_end_the_same_in_any_order_and_however_often_they_come(
    client: Redis, quantities_told: list[int], data: st.DataObject
) -> None:
    told = [push(number, version=v, at=10 + v) for v, number in enumerate(quantities_told, 1)]
    repeats = data.draw(st.lists(st.sampled_from(told), max_size=8))
    shuffled = data.draw(st.permutations([*told, *repeats]))
    hub = _hub(client)
    for batch in _split(data, shuffled):
        hub.apply(batch, 100)
    (source,) = hub.sources(ITEM).values()
    assert source.effect == ("K", quantities_told[-1], 0, ())
    assert hub.answer(ITEM).ats == quantities_told[-1]


@SEARCH
@given(changes=st.lists(amounts, min_size=1, max_size=12), data=st.data())
def test_deltas_add_up_in_any_order_and_however_often_they_come(
    client: Redis, changes: list[int], data: st.DataObject
) -> None:
    told = [delta(amount, version=n + 1, at=20 + n) for n, amount in enumerate(changes)]
    repeats = data.draw(st.lists(st.sampled_from(told), max_size=6))
    shuffled = data.draw(st.permutations([*told, *repeats]))
    hub = _hub(client)
    hub.apply([push(50, version=0, at=10)], 15)
    for batch in _split(data, shuffled):
        hub.apply(batch, 100)
    assert hub.answer(ITEM).ats == 50 + sum(changes)


@SEARCH
@given(history=st.lists(stock_rows(START), min_size=1, max_size=25))
def test_a_replayed_history_changes_nothing(client: Redis, history: list[Row]) -> None:
    hub = _hub(client)
    outcomes = [hub.apply([row], START)[0][0] for row in history]
    before = observe(hub, ())
    # What was refused pending a fetch has had no effect yet: it may have one when it comes again.
    settled = [row for row, outcome in zip(history, outcomes, strict=True) if outcome != "refetch"]
    replayed = hub.apply(settled, START) if settled else []
    after = observe(hub, ())
    assert [seq for _, seq in replayed if seq] == []
    assert after.ledger == before.ledger
    assert after.sources == before.sources


@SEARCH
@given(history=st.lists(rows(START), min_size=2, max_size=40), data=st.data())
def test_two_batches_do_what_one_does(client: Redis, history: list[Row], data: st.DataObject) -> None:
    at_once, in_parts = _hub(client), _hub(client)
    together = at_once.apply(history, START)
    apart = [result for batch in _split(data, history) for result in in_parts.apply(batch, START)]
    assert apart == together
    assert differences(observe(in_parts, ACCOUNTS), observe(at_once, ACCOUNTS)) == ""


@SEARCH
@given(history=st.lists(stock_rows(START), min_size=2, max_size=40))
def test_a_push_without_version_never_raises_a_source(client: Redis, history: list[Row]) -> None:
    hub = _hub(client)
    hub.apply(history, START)
    raised = [
        entry
        for entry in hub.ledger
        if entry.cause == "test:L" and entry.version is None
        if _offer(entry.after) > _offer(entry.before)
    ]
    assert raised == []


@SEARCH
@given(history=st.lists(stock_rows(START), min_size=1, max_size=20), data=st.data())
def test_a_redelivery_is_no_evidence(client: Redis, history: list[Row], data: st.DataObject) -> None:
    hub = _hub(client)
    hub.apply(history, START)
    again = data.draw(st.lists(st.sampled_from(history), min_size=1, max_size=8))
    hub.apply([_redelivered(row, START + 900) for row in again if row[0] != "R"] or history[:0], START + 900)
    _check_evidence(hub, history)


def _hub(client: Redis) -> ApplyDriver:
    hub = ApplyDriver(client, f"property-{next(_merchants)}")
    for account in ACCOUNTS:
        hub.set_role(account, AUTHORITY)
    return hub


def _split(data: st.DataObject, history: Sequence[Row]) -> list[list[Row]]:
    cut = data.draw(st.integers(0, len(history)))
    return [list(part) for part in (history[:cut], history[cut:]) if part]


def _redelivered(row: Row, now: int) -> Row:
    """The same delivery at a later time: what it says of its own time stays."""
    return (*row[:9], str(now), *row[10:])


def _check_ledger(hub: ApplyDriver) -> None:
    rebuilt: dict[tuple[str, SourceName], Effect] = {}
    for seq, entry in enumerate(hub.ledger, 1):
        assert entry.seq == seq
        if entry.field in {"level", "delta", "status"}:
            _fold(rebuilt, entry)
    kept = {(sku, name): source.effect for sku in hub.skus() for name, source in hub.sources(sku).items()}
    assert rebuilt == kept


def _fold(rebuilt: dict[tuple[str, SourceName], Effect], entry: LedgerEntry) -> None:
    name = entry.sku, SourceName(entry.acc, entry.item, entry.loc)
    assert rebuilt.get(name) == entry.before
    if entry.after is None:
        del rebuilt[name]
    else:
        assert not isinstance(entry.after, str)
        rebuilt[name] = entry.after


def _check_feed(hub: ApplyDriver) -> None:
    previous = 0
    latest: dict[str, Answer] = {}
    for entry in hub.feed:
        assert entry.previous == previous < entry.seq == entry.answer.seq
        assert entry.answer.ver == (latest[entry.sku].ver + 1 if entry.sku in latest else 1)
        previous, latest[entry.sku] = entry.seq, entry.answer
    stored = {sku: hub.answer(sku)._replace(cells=()) for sku in hub.skus()}
    assert {sku: answer._replace(cells=()) for sku, answer in latest.items()} == stored
    assert hub.head == (len(hub.ledger), previous)


def _check_evidence(hub: ApplyDriver, history: Sequence[Row]) -> None:
    """Nothing is later than the latest evidence that its account gave for the item, nor than the present."""
    told: dict[tuple[str, str], int] = {}
    for row in history:
        told[row[1], row[2]] = max(told.get((row[1], row[2]), 0), int(row[10]))
    for sku in hub.skus():
        for name, source in hub.sources(sku).items():
            assert source.evidence <= min(hub.now, told[name.account, name.item])
        assert hub.as_of(sku) <= hub.now


def _offer(effect: Effect | str | None) -> float:
    if effect is None or isinstance(effect, str) or effect[0] in {"U", "T"}:
        return -math.inf
    return effect[1] + sum(change.amount for change in effect[3]) if effect[0] == "K" else 0
