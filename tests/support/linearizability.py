"""Whether what the holds of one SKU were answered can have come from one counter, one step at a time.

Two checkers that share nothing but the merging of repeated calls. ``violations`` takes
the order that the hub itself wrote (the sequences of its ledger) and proves it against
real time and every answer, in n log n. ``explanation`` is told no order and looks for
any (the search of Wing and Gong with Lowe's memory); it is for small histories, and
there to contradict the first.

Times are nanoseconds of one monotonic clock: an operation took effect at some moment
from ``invoked`` to ``answered``. What is unknown may have taken effect or not.
"""

from __future__ import annotations

import bisect
import heapq
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NEVER: Final = 1 << 62
"""The time of an answer that did not come."""

NS_PER_MS: Final = 1_000_000


class Act(StrEnum):
    """What is done to a hold."""

    GRANT = "grant"
    RENEW = "renew"
    COMMIT = "commit"
    RELEASE = "release"
    EXPIRE = "expire"


class Outcome(StrEnum):
    """What was answered."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call and its answer; an expiry is nobody's call and comes from the ledger."""

    act: Act
    outcome: Outcome = Outcome.DONE
    hold: str = ""
    units: int = 0
    """Of a grant."""
    invoked: int
    answered: int = NEVER
    key: str = ""
    """Calls of one act with one idempotency key are one operation."""
    seq: int | None = None
    """The place of its effect in the hub's own order."""
    ttl_ms: int = 0
    """Of a grant or renewal: the hold lives at least so long after ``invoked``."""
    until_ms: int | None = None
    """Of a grant or renewal: the deadline that was answered, by the hub's clock."""
    at_ms: int | None = None
    """When it took effect, by the hub's clock."""

    def __str__(self) -> str:
        what = f"{self.act} of {self.units or ''} {self.hold or self.key}".replace("  ", " ")
        return what if self.seq is None else f"{what} (seq {self.seq})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One entry of the ledger about a hold."""

    seq: int
    act: Act
    hold: str
    units: int = 0
    at_ms: int | None = None


def completed(calls: Sequence[Operation], ledger: Iterable[Effect], *, read_at: int) -> list[Operation]:
    """Join the calls with the ledger, which alone knows expiries and what became of unknown calls.

    A grant that no answer names belongs to some call of as many units that was never
    answered; where there is none, ``violations`` reports it.
    """
    waiting = _never_answered(calls)
    named: defaultdict[tuple[Act, str], list[int]] = defaultdict(list)
    for number, call in enumerate(calls):
        if call.hold:
            named[call.act, call.hold].append(number)
    history = list(calls)
    for effect in ledger:
        # A refusal has no effect: the call that had one is among the others of its hold.
        mine = [n for n in named[effect.act, effect.hold] if calls[n].outcome is not Outcome.REFUSED]
        for number in mine:
            call = calls[number]
            seq = effect.seq if call.seq is None else call.seq
            history[number] = replace(call, seq=seq, at_ms=effect.at_ms)
        if not mine:
            history.append(_from_ledger(effect, waiting, read_at))
    return history


def violations(history: Sequence[Operation], units: int) -> list[str]:
    """Return every reason why the hub's own order explains not all answers; none is what is wanted.

    Unknown operations without a sequence count as without effect: ``completed`` gave
    theirs to those that had one.
    """
    operations, found = merged(history)
    effects = sorted((one for one in operations if one.seq is not None), key=lambda one: one.seq or 0)
    found += _without_place(operations, effects)
    found += _against_time(effects)
    replay = _Replay(effects, units)
    found += replay.found
    looks = [one for one in operations if one.seq is None and _only_looks(one)]
    return found + _unexplained(looks, effects, replay)


def explanation(history: Sequence[Operation], units: int) -> list[Operation] | None:
    """Return an order in which one counter gives all these answers, or None; knows no sequences.

    The memory needs no state besides the set of operations that are done: what they
    leave behind does not depend on their order.
    """
    operations, contradictions = merged(history)
    return None if contradictions else _Search(operations, units).order()


def lifetimes(
    history: Sequence[Operation], *, late_ms: int, away: Sequence[tuple[int, int]] = ()
) -> list[str]:
    """Return the holds that died early, or lived longer than their deadline and ``late_ms``.

    By the hub's clock. ``away`` are the times (from, to) in which nobody could have
    ended a hold, because the store was not there.
    """
    operations, found = merged(history)
    unsure = {one.hold for one in operations if one.act is Act.RENEW and one.outcome is Outcome.UNKNOWN}
    ends = {one.hold: one for one in operations if one.seq is not None and _ends(one)}
    for hold, deadline in _deadlines(operations).items():
        end = ends.get(hold)
        latest = _not_while_away(deadline + late_ms, deadline, late_ms, away)
        if end is None or end.at_ms is None:
            found.append(f"{hold} was due at {deadline} and has no end")
        elif end.act is Act.EXPIRE and end.at_ms < deadline:
            found.append(f"{hold} expired {deadline - end.at_ms} ms early")
        elif end.act is Act.EXPIRE and end.at_ms > latest and hold not in unsure:
            found.append(f"{hold} expired {end.at_ms - deadline} ms late")
        elif end.act is not Act.EXPIRE and end.at_ms >= deadline and hold not in unsure:
            found.append(f"{end} came {end.at_ms - deadline} ms after its deadline and was accepted")
    return found


def merged(history: Iterable[Operation]) -> tuple[list[Operation], list[str]]:
    """Make one operation of all calls with one key; also return what they contradict each other in."""
    groups: defaultdict[tuple[Act, str], list[Operation]] = defaultdict(list)
    operations: list[Operation] = []
    found: list[str] = []
    for one in history:
        if one.key:
            groups[one.act, one.key].append(one)
        else:
            operations.append(one)
    for (act, key), calls in groups.items():
        answers = [one for one in calls if one.outcome is not Outcome.UNKNOWN]
        if len({(one.outcome, one.hold) for one in answers}) > 1:
            said = sorted({f"{one.outcome} {one.hold}".strip() for one in answers})
            found.append(f"{act} with key {key} was answered differently: {', '.join(said)}")
        operations.append(_one_of(calls, answers))
    return _not_before_deadline(operations), found


def _one_of(calls: Sequence[Operation], answers: Sequence[Operation]) -> Operation:
    """Its effect came after the first call and, once an answer was given, before it."""
    seq = next((one.seq for one in calls if one.seq is not None), None)
    first = min(answers, key=lambda one: one.answered) if answers else calls[0]
    return replace(first, invoked=min(one.invoked for one in calls), seq=seq)


def _not_before_deadline(operations: Sequence[Operation]) -> list[Operation]:
    """An expiry cannot have come before the time for which the hold was granted and renewed."""
    granted: defaultdict[str, int] = defaultdict(int)
    for one in operations:
        if one.ttl_ms and one.outcome is Outcome.DONE:
            # The hub counts whole milliseconds.
            earliest = one.invoked + (one.ttl_ms - 1) * NS_PER_MS
            granted[one.hold] = max(granted[one.hold], earliest)
    return [
        replace(one, invoked=max(one.invoked, granted[one.hold])) if one.act is Act.EXPIRE else one
        for one in operations
    ]


def _never_answered(calls: Sequence[Operation]) -> dict[int, list[int]]:
    """When calls for so many units began whose grant was never answered."""
    grants, _ = merged([one for one in calls if one.act is Act.GRANT])
    waiting: defaultdict[int, list[int]] = defaultdict(list)
    for one in grants:
        if one.outcome is Outcome.UNKNOWN and not one.hold:
            waiting[one.units].append(one.invoked)
    return {units: sorted(times, reverse=True) for units, times in waiting.items()}


def _from_ledger(effect: Effect, waiting: dict[int, list[int]], read_at: int) -> Operation:
    times = waiting.get(effect.units) if effect.act is Act.GRANT else None
    # Any of them may be the one: each grant takes the earliest that is left.
    invoked = 0 if effect.act is Act.EXPIRE else times.pop() if times else NEVER
    return Operation(
        act=effect.act,
        hold=effect.hold,
        units=effect.units,
        invoked=invoked,
        answered=max(read_at, invoked),
        seq=effect.seq,
        at_ms=effect.at_ms,
    )


def _without_place(operations: Sequence[Operation], effects: Sequence[Operation]) -> list[str]:
    twice = [seq for seq, count in Counter(one.seq for one in effects).items() if count > 1]
    found = [f"sequence {seq} was given twice" for seq in twice]
    for one in operations:
        if one.invoked == NEVER:
            found.append(f"{one}: nobody had asked for it")
        if one.outcome is Outcome.REFUSED and one.seq is not None:
            found.append(f"{one} was refused and has an effect")
        if one.outcome is Outcome.DONE and one.seq is None and one.act is not Act.RENEW:
            found.append(f"{one} was answered and has no place in the hub's order")
    return found


def _against_time(effects: Sequence[Operation]) -> list[str]:
    """Nothing may stand behind what began only after it was answered."""
    found: list[str] = []
    latest: Operation | None = None
    for one in effects:
        if latest is not None and one.answered < latest.invoked:
            found.append(f"{latest} stands before {one}, which was answered before the other could begin")
        if latest is None or one.invoked > latest.invoked:
            latest = one
    return found


class _Replay:
    """The effects done one after the other; position p is the moment after p of them."""

    def __init__(self, effects: Sequence[Operation], units: int) -> None:
        self.found: list[str] = []
        self.free = [units]
        self.granted: dict[str, tuple[int, Operation]] = {}
        self.ended: dict[str, int] = {}
        for position, one in enumerate(effects, 1):
            self.free.append(self.free[-1] + self._do(one, position))

    def is_live(self, hold: str, position: int) -> bool:
        if hold not in self.granted:
            return False
        return self.granted[hold][0] <= position < self.ended.get(hold, NEVER)

    def _do(self, one: Operation, position: int) -> int:
        """Return by how much the free units change."""
        if one.act is Act.GRANT:
            if one.hold in self.granted:
                self.found.append(f"{one} was granted a second time")
            if one.units > self.free[-1]:
                self.found.append(f"{one} was granted when {self.free[-1]} were free")
            self.granted[one.hold] = position, one
            return -one.units
        if not self.is_live(one.hold, position - 1):
            self.found.append(f"{one} of a hold that is not live")
            return 0
        if one.act is Act.RENEW:
            return 0
        self.ended[one.hold] = position
        return 0 if one.act is Act.COMMIT else self.granted[one.hold][1].units


class _Minima:
    """Finds the first number below a limit in log n steps."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._levels = [list(numbers)]
        while len(self._levels[-1]) > 1:
            last = self._levels[-1]
            self._levels.append([min(last[at : at + 2]) for at in range(0, len(last), 2)])

    def first_below(self, limit: int, start: int) -> int:
        level, at = 0, start
        while at < len(self._levels[level]):
            if self._levels[level][at] < limit:
                if level == 0:
                    return at
                level, at = level - 1, at * 2
            else:
                at += 1
                while at % 2 == 0 and level + 1 < len(self._levels):
                    level, at = level + 1, at // 2
        return NEVER


def _unexplained(looks: Sequence[Operation], effects: Sequence[Operation], replay: _Replay) -> list[str]:
    """Answers without an effect, each put at the first moment that explains it; none may stand too late.

    The earliest moment is the best choice for all that follow, so nothing is tried twice.
    """
    window = _Window(effects)
    minima = _Minima(replay.free)
    found: list[str] = []
    placed: list[tuple[int, int]] = []
    settled = 0
    for one in sorted(looks, key=lambda one: one.invoked):
        while placed and placed[0][0] < one.invoked:
            settled = max(settled, heapq.heappop(placed)[1])
        earliest, latest = max(settled, window.first(one)), window.last(one)
        position = _explaining(one, earliest, replay, minima)
        if position > latest:
            found.append(f"{one} was {one.outcome}, and at no moment of it could it be")
        else:
            heapq.heappush(placed, (one.answered, position))
    return found


class _Window:
    """Between which effects an operation stands in real time."""

    def __init__(self, effects: Sequence[Operation]) -> None:
        self._end = len(effects)
        answered = sorted((one.answered, number + 1) for number, one in enumerate(effects))
        invoked = sorted(((one.invoked, number) for number, one in enumerate(effects)), reverse=True)
        self._answered = [time for time, _ in answered]
        self._behind = [0, *accumulate((position for _, position in answered), max)]
        self._invoked = [-time for time, _ in invoked]
        self._before = [self._end, *accumulate((position for _, position in invoked), min)]

    def first(self, one: Operation) -> int:
        return self._behind[bisect.bisect_left(self._answered, one.invoked)]

    def last(self, one: Operation) -> int:
        return self._before[bisect.bisect_left(self._invoked, -one.answered)]


def _explaining(one: Operation, earliest: int, replay: _Replay, minima: _Minima) -> int:
    """The first position from there at which the answer is right."""
    if one.act is Act.GRANT:
        return minima.first_below(one.units, earliest)
    granted = replay.granted[one.hold][0] if one.hold in replay.granted else NEVER
    ended = replay.ended.get(one.hold, NEVER)
    if one.outcome is Outcome.REFUSED:
        return earliest if not replay.is_live(one.hold, earliest) else ended
    position = max(earliest, granted)
    return position if position < ended else NEVER


class _Search:
    """Tries one operation after the other that may come next, and never a set of them twice."""

    def __init__(self, operations: Sequence[Operation], units: int) -> None:
        self._operations = operations
        self._units = units
        self._seen: set[int] = set()

    def order(self, done: int = 0, free: int | None = None) -> list[Operation] | None:
        free = self._units if free is None else free
        left = [(n, one) for n, one in enumerate(self._operations) if not done >> n & 1]
        sure = [one.answered for _, one in left if one.outcome is not Outcome.UNKNOWN]
        if not sure:
            return []
        if done in self._seen:
            return None
        self._seen.add(done)
        live = self._live(done)
        for number, one in left:
            change = _change(one, free, live) if one.invoked <= min(sure) else None
            rest = None if change is None else self.order(done | 1 << number, free + change)
            if rest is not None:
                return [one, *rest]
        return None

    def _live(self, done: int) -> dict[str, int]:
        """The holds that are live after these, and their units."""
        chosen = [one for n, one in enumerate(self._operations) if done >> n & 1]
        over = {one.hold for one in chosen if _ends(one)}
        granted = [one for one in chosen if one.act is Act.GRANT and one.outcome is not Outcome.REFUSED]
        return {one.hold: one.units for one in granted if one.hold not in over}


def _change(one: Operation, free: int, live: dict[str, int]) -> int | None:
    """By how much the free units change when this comes next; None: it cannot, with its answer."""
    can = one.units <= free if one.act is Act.GRANT else one.hold in live
    if can is (one.outcome is Outcome.REFUSED):
        return None
    if one.outcome is Outcome.REFUSED or one.act in {Act.RENEW, Act.COMMIT}:
        return 0
    return -one.units if one.act is Act.GRANT else live[one.hold]


def _only_looks(one: Operation) -> bool:
    return one.outcome is Outcome.REFUSED or (one.act is Act.RENEW and one.outcome is Outcome.DONE)


def _ends(one: Operation) -> bool:
    return one.act in {Act.COMMIT, Act.RELEASE, Act.EXPIRE} and one.outcome is not Outcome.REFUSED


def _deadlines(operations: Sequence[Operation]) -> dict[str, int]:
    deadlines: dict[str, int] = {}
    for one in operations:
        if one.until_ms is not None and one.outcome is Outcome.DONE:
            deadlines[one.hold] = max(deadlines.get(one.hold, 0), one.until_ms)
    return deadlines


def _not_while_away(latest: int, deadline: int, late_ms: int, away: Sequence[tuple[int, int]]) -> int:
    """A time in which nobody can act moves the latest moment to its end, with the same grace after it."""
    for begins, ends in sorted(away):
        if begins <= latest and deadline <= ends:
            latest = max(latest, ends + late_ms)
    return latest
