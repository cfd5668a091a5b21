"""A counter of one SKU that holds are taken from, simulated with slow and lost messages.

Clients call it at the same time, each message takes its own while or is lost, calls are
repeated with the same key, holds lapse. What the clients saw and what the counter wrote
down is a history that one counter explains, unless it is given a flaw.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING, Final

from tests.support.linearizability import NS_PER_MS, Act, Effect, Operation, Outcome, completed

if TYPE_CHECKING:
    from collections.abc import Generator
    from random import Random

TTL_MS: Final = 40
_TRIES: Final = 3
_TIMEOUT_MS: Final = 12


class Flaw(StrEnum):
    """A way in which a counter may be wrong."""

    NONE = "none"
    OVERSELLS = "oversells by one unit"
    LOSES_RELEASES = "forgets to put back what is released"
    GRANTS_TWICE = "grants anew when a call is repeated"
    REFUSES = "refuses although enough is free"
    ORDERS_WRONGLY = "writes its effects down in another order"
    EXPIRES_EARLY = "ends holds before their time"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    outcome: Outcome
    hold: str = ""
    seq: int | None = None


@dataclass(slots=True, kw_only=True)
class _Hold:
    units: int
    due_ms: float


class Simulation:
    """Some clients and one counter; ``history`` is complete once ``run`` has returned."""

    def __init__(
        self,
        chance: Random,
        *,
        units: int,
        clients: int,
        rounds: int,
        flaw: Flaw = Flaw.NONE,
        loss: float = 0.1,
    ) -> None:
        self.history: list[Operation] = []
        self.units = units
        self._chance, self._flaw, self._loss = chance, flaw, loss
        self._free = units
        self._now_ms = 0.0
        self._live: dict[str, _Hold] = {}
        self._first: dict[tuple[Act, str], _Answer] = {}
        self._ledger: list[Effect] = []
        self._calls: list[Operation] = []
        self._clients = [self._client(f"c{number}", rounds) for number in range(clients)]

    def run(self) -> list[Operation]:
        """Play it to the end and return the history."""
        order = count()
        waiting = [(self._chance.uniform(0, 5), next(order), steps) for steps in self._clients]
        heapq.heapify(waiting)
        while waiting:
            self._now_ms, _, steps = heapq.heappop(waiting)
            self._lapse()
            pause = next(steps, None)
            if pause is not None:
                heapq.heappush(waiting, (self._now_ms + pause, next(order), steps))
        self._now_ms += 2 * TTL_MS
        self._lapse()
        if self._flaw is Flaw.ORDERS_WRONGLY:
            self._disorder()
        self.history = completed(self._calls, self._ledger, read_at=self._now_ns())
        return self.history

    def _client(self, name: str, rounds: int) -> Generator[float, None, None]:
        chance = self._chance
        for number in range(rounds):
            units = chance.randint(1, 3)
            answer = yield from self._call(Act.GRANT, f"{name}-{number}", units=units)
            yield chance.uniform(0, TTL_MS / 2)
            act = chance.choice((Act.COMMIT, Act.RELEASE, Act.RELEASE, Act.RENEW, None))
            if answer.hold and act is not None:
                yield from self._call(act, f"{name}-{number}", hold=answer.hold)

    def _call(self, act: Act, key: str, *, hold: str = "", units: int = 0) -> Generator[float, None, _Answer]:
        """Call, and call again with the same key while no answer comes."""
        chance = self._chance
        for _ in range(_TRIES):
            invoked = self._now_ns()
            yield chance.uniform(0.1, 4)
            answer = None
            if chance.random() > self._loss:
                answer = self._answer(act, key, hold, units)
                yield chance.uniform(0.1, 4)
            if answer is None or chance.random() < self._loss:
                self._remember(act, key, hold, units, invoked, None)
                yield _TIMEOUT_MS
                continue
            self._remember(act, key, hold or answer.hold, units, invoked, answer)
            return answer
        return _Answer(outcome=Outcome.UNKNOWN)

    def _remember(
        self, act: Act, key: str, hold: str, units: int, invoked: int, answer: _Answer | None
    ) -> None:
        call = Operation(act=act, key=key, hold=hold, units=units, invoked=invoked, outcome=Outcome.UNKNOWN)
        if answer is not None:
            lives = answer.outcome is Outcome.DONE and act in {Act.GRANT, Act.RENEW}
            call = replace(
                call,
                outcome=answer.outcome,
                answered=self._now_ns(),
                seq=answer.seq,
                ttl_ms=TTL_MS if lives else 0,
            )
        self._calls.append(call)

    def _answer(self, act: Act, key: str, hold: str, units: int) -> _Answer:
        known = self._first.get((act, key))
        if known is not None and not (self._flaw is Flaw.GRANTS_TWICE and act is Act.GRANT):
            return known
        answer = self._grant(units) if act is Act.GRANT else self._change(act, hold)
        self._first[act, key] = answer
        return answer

    def _grant(self, units: int) -> _Answer:
        enough = self._free + (1 if self._flaw is Flaw.OVERSELLS else 0) >= units
        if self._flaw is Flaw.REFUSES and self._chance.random() < self._loss:
            enough = False
        if not enough:
            return _Answer(outcome=Outcome.REFUSED)
        self._free -= units
        hold = f"h{len(self._ledger) + 1}"
        ttl = TTL_MS / 2 if self._flaw is Flaw.EXPIRES_EARLY else TTL_MS
        self._live[hold] = _Hold(units=units, due_ms=self._now_ms + ttl)
        return _Answer(outcome=Outcome.DONE, hold=hold, seq=self._write(Act.GRANT, hold, units))

    def _change(self, act: Act, name: str) -> _Answer:
        hold = self._live.get(name)
        if hold is None:
            return _Answer(outcome=Outcome.REFUSED)
        if act is Act.RENEW:
            hold.due_ms = max(hold.due_ms, self._now_ms + TTL_MS)
            return _Answer(outcome=Outcome.DONE)
        self._live.pop(name)
        if act is Act.RELEASE and self._flaw is not Flaw.LOSES_RELEASES:
            self._free += hold.units
        return _Answer(outcome=Outcome.DONE, seq=self._write(act, name))

    def _lapse(self) -> None:
        due = [(name, hold) for name, hold in self._live.items() if hold.due_ms <= self._now_ms]
        for name, hold in due:
            self._live.pop(name)
            self._free += hold.units
            self._write(Act.EXPIRE, name)

    def _write(self, act: Act, hold: str, units: int = 0) -> int:
        seq = len(self._ledger) + 1
        self._ledger.append(Effect(seq=seq, act=act, hold=hold, units=units))
        return seq

    def _disorder(self) -> None:
        """Exchange the places of the first and the last grant, which are far apart in time."""
        grants = [effect for effect in self._ledger if effect.act is Act.GRANT]
        if not grants:
            return
        places = {grants[0].seq: grants[-1].seq, grants[-1].seq: grants[0].seq}
        self._ledger = [replace(one, seq=places.get(one.seq, one.seq)) for one in self._ledger]
        self._calls = [
            one if one.seq is None else replace(one, seq=places.get(one.seq, one.seq)) for one in self._calls
        ]

    def _now_ns(self) -> int:
        return int(self._now_ms * NS_PER_MS)
