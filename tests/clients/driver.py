"""Drives the client's core through a simulated world, and checks each answer it gives against the truth."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from synchub_client.core import FeedCore, Link, Verdict
from synchub_client.errors import NotServed
from synchub_client.model import Mode, Watch
from tests.clients.world import HEARTBEAT_S, SKUS, Process, Session, Truth, Weather, World, any_clock

if TYPE_CHECKING:
    from synchub_client.frames import Answer, Frame
    from synchub_client.held import Question

BOUND_S: Final = 1.0
SILENT_S: Final = 4 * HEARTBEAT_S
PATIENCE_S: Final = 10.0
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong, as mean seconds between two of a kind; 0 is never."""

    change: float = 2.0
    burst: float = 40.0
    link_stall: float = 60.0
    store_stall: float = 90.0
    cut: float = 400.0
    fail_over: float = 600.0
    set_change: float = 45.0
    loss: float = 0.01
    repeat: float = 0.01
    late_answers: float = 0.1
    """Share of answers that take seconds."""
    longest_link_stall_s: float = 5.0


STEADY: Final = Faults(cut=0, loss=0, repeat=0, longest_link_stall_s=0.6)
"""Nothing that ends a connection."""
CALM: Final = Faults(
    burst=0, link_stall=0, store_stall=0, cut=0, fail_over=0, set_change=0, loss=0, repeat=0, late_answers=0
)


@dataclass
class Tally:
    """What came of it."""

    served: int = 0
    read_through: int = 0
    refused: int = 0
    too_old: list[str] = field(default_factory=list)
    connections: int = 0
    longest_s: float = 0.0


@dataclass
class _Wire:
    link: Link
    session: Session
    opened_at: float
    heard_at: float


class Run:
    """One client in one world."""

    def __init__(
        self,
        seed: int,
        *,
        faults: Faults | None = None,
        core: type[FeedCore] = FeedCore,
        process: type[Process] = Process,
        truth: type[Truth] = Truth,
        thin: bool = False,
        by_message: bool = False,
        keeps_epoch: bool = False,
        answers_lag: float = 0.0,
        drifts: tuple[float, float] | None = None,
        asks: bool = True,
    ) -> None:
        self.chance = random.Random(seed)
        self.faults = faults or Faults()
        self.tally = Tally()
        weather = Weather(loss=self.faults.loss, repeat=self.faults.repeat)
        self.world = World(
            self.chance, process_class=process, truth_class=truth, weather=weather, answers_lag=answers_lag
        )
        self.agenda = self.world.agenda
        self.clock = any_clock(self.chance)
        if drifts is not None:
            self.clock = replace(self.clock, drift=drifts[0])
            for one in self.world.processes:
                one.clock = replace(one.clock, drift=drifts[1])
        self.thin = thin
        self.follows = frozenset(SKUS[:5]) if self.faults.set_change else frozenset()
        watch = Watch(skus=self.follows or None, mode=Mode.INV if thin else Mode.UPD)
        self.core = core(bound_s=BOUND_S, watch=watch)
        self.rev = 1
        self.core.expect(self.follows, self.rev)
        self._by_message = by_message
        self._keeps_epoch = keeps_epoch
        self._asks = asks
        self._wire: _Wire | None = None
        self._next: _Wire | None = None
        self._is_coming = False

    def go(self, hours: float, *, enough: int = 0) -> Tally:
        """Let hours pass; with ``enough`` no longer than until so many answers were too old."""
        self._connect()
        self._repeat(self.faults.change, self._change)
        self._repeat(self.faults.burst, self._burst)
        self._repeat(self.faults.link_stall, self._stall_link)
        self._repeat(self.faults.store_stall, self._stall_store)
        self._repeat(self.faults.cut, self._cut)
        self._repeat(self.faults.fail_over, self._fail_over)
        self._repeat(self.faults.set_change, self._change_set)
        self._repeat(15.0, lambda: self._look(30))
        self._repeat(1.0, self._watch, evenly=True)
        until = self.agenda.now + hours * 3600
        self.agenda.run(until, stop=lambda: 0 < enough <= len(self.tally.too_old))
        if self._wire is not None:
            self._note_length(self._wire)
        return self.tally

    # --------------------------------------------------------------------------------------- connections

    def _connect(self) -> None:
        self._is_coming = False
        self._wire = self._dial()

    def _dial(self) -> _Wire:
        now = self.agenda.now
        link = self.core.open(self.clock.at(now))
        session = Session(
            process=self.chance.choice(self.world.processes),
            deliver=lambda frame: self._take(wire, frame),
            follows=self.follows,
            rev=self.rev,
            thin=self.thin,
        )
        wire = _Wire(link, session, now, now)
        arrives = max(now, self.world.weather.link_stalled_until) + self.chance.choice((0.0001, 0.02, 0.3))
        self.agenda.at(arrives, lambda: self.world.connect(session, link.cursor))
        if self.tally.connections:
            self._look(80)
        self.tally.connections += 1
        return wire

    def _take(self, wire: _Wire, frame: Frame) -> None:
        if not wire.session.is_open:
            return
        wire.heard_at = self.agenda.now
        verdict = self.core.accept(wire.link, frame, self.clock.at(self.agenda.now))
        self.core.take_changes()
        if wire is self._next and wire.link.hello is not None and self._wire is not None:
            self._hang_up(self._wire)
            self._wire, self._next = wire, None
        if verdict is not Verdict.GO_ON:
            self._lose(wire)

    def _hang_up(self, wire: _Wire) -> None:
        wire.session.is_open = False
        self._note_length(wire)

    def _note_length(self, wire: _Wire) -> None:
        self.tally.longest_s = max(self.tally.longest_s, self.agenda.now - wire.opened_at)

    def _lose(self, wire: _Wire) -> None:
        self._hang_up(wire)
        if wire is self._next:
            self._next = None
        elif wire is self._wire:
            self._wire = None
            if self._next is not None:
                self._wire, self._next = self._next, None
            elif not self._is_coming:
                self._is_coming = True
                self.agenda.after(self.chance.uniform(0.0, 1.0), self._connect)

    def _watch(self) -> None:
        """What a transport looks after: silence, and the age of the anchor."""
        now = self.agenda.now
        for wire in (self._wire, self._next):
            if wire is not None and now - wire.heard_at > (SILENT_S if wire.link.is_settled else PATIENCE_S):
                self._lose(wire)
        wire = self._wire
        if wire is None or self._next is not None or wire.link.anchor is None:
            return
        if self.clock.at(now) >= self.core.anchor_due_at(wire.link):
            if self._by_message:
                self._ask_anchor(wire)
            else:
                self._next = self._dial()

    def _ask_anchor(self, wire: _Wire) -> None:
        sent_at = self.clock.at(self.agenda.now)

        def arrive() -> None:
            st_ms = wire.session.process.clock.ms(self.agenda.now)
            back = max(self.agenda.now, self.world.weather.link_stalled_until) + self.chance.choice(
                (0.0001, 0.2)
            )
            self.agenda.at(back, lambda: self.core.renew_anchor(wire.link, sent_at=sent_at, st_ms=st_ms))

        self.agenda.after(self.chance.choice((0.0001, 0.2)), arrive)

    # ------------------------------------------------------------------------------------------- answers

    def _look(self, times: int) -> None:
        """Ask for SKUs, many times in a short while."""
        if times:
            self._ask(self.chance.choice(SKUS))
            self.agenda.after(self.chance.uniform(0.0, 0.1), lambda: self._look(times - 1))

    def _ask(self, sku: str) -> None:
        now = self.clock.at(self.agenda.now)
        try:
            item = self.core.get(sku, now)
        except NotServed:
            self.tally.refused += 1
            if self._asks and self.chance.random() < 0.5:
                self._ask_hub(sku)
            return
        self.tally.served += 1
        self._judge(sku, item.available, "held")

    def _ask_hub(self, sku: str) -> None:
        question = self.core.ask(sku, self.clock.at(self.agenda.now))

        def arrive() -> None:
            answer = self.world.answer(sku)
            is_late = self.chance.random() < self.faults.late_answers
            pause = self.chance.uniform(0.2, 4.0) if is_late else self.chance.choice((0.0002, 0.01))
            if answer is not None:
                self.agenda.after(pause, lambda: self._settle(question, sku, answer))

        self.agenda.after(self.chance.choice((0.0002, 0.01, 0.1)), arrive)

    def _settle(self, question: Question, sku: str, answer: Answer) -> None:
        item = self.core.settle(question, answer, self.clock.at(self.agenda.now))
        if item is not None:
            self.tally.served += 1
            self.tally.read_through += 1
            self._judge(sku, item.available, "asked")

    def _judge(self, sku: str, units: int | None, how: str) -> None:
        assert units is not None
        until = self.world.truth.true_until[units]
        age = self.clock.at(self.agenda.now) - self.clock.at(min(until, self.agenda.now))
        if age > BOUND_S + _ROUNDING:
            self.tally.too_old.append(f"{sku} {how} at {self.agenda.now:.3f} s: {age:.4f} s")

    # -------------------------------------------------------------------------------------------- events

    def _repeat(self, mean_s: float, what: Callable[[], object], *, evenly: bool = False) -> None:
        if not mean_s:
            return

        def again() -> None:
            what()
            self.agenda.after(mean_s if evenly else self.chance.expovariate(1 / mean_s), again)

        self.agenda.after(mean_s if evenly else self.chance.expovariate(1 / mean_s), again)

    def _change(self) -> None:
        self.world.truth.change(self.chance.choice(SKUS))
        self.world.note_past()

    def _burst(self) -> None:
        for _ in range(self.chance.randint(3, 12)):
            self._change()

    def _stall_link(self) -> None:
        self.world.weather.link_stalled_until = self.agenda.now + self.chance.choice(
            (0.3, 0.5, self.faults.longest_link_stall_s)
        )
        self._look(40)

    def _stall_store(self) -> None:
        self.world.weather.store_stalled_until = self.agenda.now + self.chance.choice((0.3, 1.5, 6.0))
        self._look(40)

    def _cut(self) -> None:
        if self._wire is not None:
            self._lose(self._wire)

    def _fail_over(self) -> None:
        truth = self.world.truth
        epoch = truth.epoch if self._keeps_epoch else f"history-{truth.generation + 1}"
        truth.fail_over(self.chance.randint(0, 8), epoch)
        self.world.note_past()
        self.world.weather.store_stalled_until = self.agenda.now + self.chance.uniform(0.0, 2.0)
        self._look(120)

    def _change_set(self) -> None:
        wire = self._wire
        if wire is None or not wire.session.is_live or wire.session.extending or self._next:
            return
        self.follows = frozenset(self.chance.sample(SKUS, self.chance.randint(2, 6)))
        self.world.change_set(wire.session, self.follows)
        self.rev = wire.session.rev
        self.core.watch = replace(self.core.watch, skus=self.follows)
        # The hub's answer to the one who asked for it may come after the feed has told.
        self.agenda.after(self.chance.choice((0.0, 0.5)), partial(self.core.expect, self.follows, self.rev))
        self._look(40)
