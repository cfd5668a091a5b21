"""Stops calling whoever does not answer, after the semantics of Resilience4j.

Pure: time and chance are told. *Closed* it lets every call through and looks back, on the last calls or on
those of the last while; when too many of them failed or were slow it is *open* and lets none through, longer
with every time in a row; then it is *half open* and lets a few through, whose results decide. One breaker
belongs to one target and one event loop. It decides locally, so that it can protect against the store as
well; whoever shares what it finds tells it what the others have found (:meth:`Breaker.adopt`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

BUCKETS: Final = 10
"""A window of time moves on in so many steps."""
_DOUBLED_MAX: Final = 30


class State(StrEnum):
    """What a breaker does with the next call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a breaker opens, and for how long."""

    window: int = 20
    """So many calls are looked back on."""
    window_ms: int = 0
    """Where it is not 0, the calls of so long are looked back on instead, however many they are."""
    calls_min: int = 10
    """With fewer results nothing is concluded."""
    failed_percent: int = 50
    """From so many failed of a hundred on it opens."""
    slow_ms: int = 60_000
    """A call that took so long or longer was slow, whatever came of it."""
    slow_percent: int = 100
    """From so many slow of a hundred on it opens."""
    open_ms: int = 30_000
    """How long it is open the first time; the second time in a row twice as long, and so on."""
    open_max_ms: int = 600_000
    """It is never open for longer."""
    trials: int = 3
    """Calls that a half open breaker lets through."""


class Tally(NamedTuple):
    """Results added up."""

    calls: int
    failed: int
    slow: int


def is_bad(tally: Tally, limits: Limits) -> bool:
    """Say whether so many failed or slow calls are too many."""
    return (
        100 * tally.failed >= limits.failed_percent * tally.calls
        or 100 * tally.slow >= limits.slow_percent * tally.calls
    )


def open_ms(trips: int, limits: Limits, chance: float) -> int:
    """Return for how long it opens after so many times in a row: doubled each time, half of it by chance.

    ``chance`` lies between 0 and 1; callers that opened together do not come back together.
    """
    doubled: int = limits.open_ms << min(max(trips - 1, 0), _DOUBLED_MAX)
    return max(1, round(min(limits.open_max_ms, doubled) * (1 + chance) / 2))


class Breaker:
    """Asked before each call and told what came of it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._results: _LastCalls | _LastTime = _LastTime(limits) if limits.window_ms else _LastCalls(limits)
        self._tried = Tally(0, 0, 0)
        self._state = State.CLOSED
        self._until_ms = 0
        self._begun = 0
        self.trips = 0
        """How often in a row it has opened without having closed."""
        self.era = 0
        """Another number after every change of state: what was begun in an earlier era says nothing."""

    def state(self, now_ms: int) -> State:
        """Say what it does at this time."""
        if self._state is State.OPEN and now_ms >= self._until_ms:
            return State.HALF_OPEN
        return self._state

    def wait_ms(self, now_ms: int) -> int:
        """Return how long no call is let through; 0 also when only results of others are waited for."""
        return max(0, self._until_ms - now_ms) if self._state is State.OPEN else 0

    def permits(self, now_ms: int) -> bool:
        """Say whether a call may begin now, and if so count it: its result is to be told."""
        if self.state(now_ms) is State.CLOSED:
            return True
        if self._state is State.OPEN:
            if self.wait_ms(now_ms):
                return False
            self._enter(State.HALF_OPEN)
        if self._begun >= self._limits.trials:
            return False
        self._begun += 1
        return True

    def record(self, now_ms: int, *, has_failed: bool, took_ms: int = 0, chance: float = 1.0) -> None:
        """Take the result of a permitted call into account; ``chance`` is for :func:`open_ms`."""
        if self._state is State.OPEN:
            return  # begun before it opened
        was_slow = took_ms >= self._limits.slow_ms
        if self._state is State.HALF_OPEN:
            self._tried = _added(self._tried, has_failed=has_failed, was_slow=was_slow)
            if self._tried.calls >= self._limits.trials:
                self._conclude(now_ms, chance)
            return
        self._results.add(now_ms, has_failed=has_failed, was_slow=was_slow)
        tally = self._results.tally(now_ms)
        if tally.calls >= self._limits.calls_min and is_bad(tally, self._limits):
            self._open(now_ms, chance)

    def forget(self) -> None:
        """Give back a permitted call that came to no result of its own."""
        self._begun = max(0, self._begun - 1)

    def adopt(self, now_ms: int, state: State, *, wait_ms: int = 0, trips: int = 0) -> None:
        """Become what others have found it to be; what this one has seen in another state is dropped."""
        if state is not self._state:
            self._enter(state)
        self._until_ms = now_ms + wait_ms
        self.trips = trips

    def _conclude(self, now_ms: int, chance: float) -> None:
        if is_bad(self._tried, self._limits):
            self._open(now_ms, chance)
        else:
            self.trips = 0
            self._enter(State.CLOSED)

    def _open(self, now_ms: int, chance: float) -> None:
        self.trips += 1
        self._until_ms = now_ms + open_ms(self.trips, self._limits, chance)
        self._enter(State.OPEN)

    def _enter(self, state: State) -> None:
        self._state = state
        self.era += 1
        self._begun = 0
        self._tried = Tally(0, 0, 0)
        self._results.clear()


class _LastCalls:
    """The last so many results."""

    def __init__(self, limits: Limits) -> None:
        self._results: deque[tuple[bool, bool]] = deque(maxlen=limits.window)

    def add(self, _now_ms: int, *, has_failed: bool, was_slow: bool) -> None:
        self._results.append((has_failed, was_slow))

    def tally(self, _now_ms: int) -> Tally:
        failed = sum(has_failed for has_failed, _ in self._results)
        return Tally(len(self._results), failed, sum(was_slow for _, was_slow in self._results))

    def clear(self) -> None:
        self._results.clear()


class _LastTime:
    """The results of the last while, added up in steps: memory does not grow with calls."""

    def __init__(self, limits: Limits) -> None:
        self._step_ms = max(1, limits.window_ms // BUCKETS)
        self._buckets: deque[tuple[int, Tally]] = deque(maxlen=BUCKETS)

    def add(self, now_ms: int, *, has_failed: bool, was_slow: bool) -> None:
        step = now_ms // self._step_ms
        if not self._buckets or self._buckets[-1][0] < step:
            self._buckets.append((step, Tally(0, 0, 0)))
        last, tally = self._buckets[-1]
        self._buckets[-1] = (last, _added(tally, has_failed=has_failed, was_slow=was_slow))

    def tally(self, now_ms: int) -> Tally:
        oldest = now_ms // self._step_ms - BUCKETS
        counted = [tally for step, tally in self._buckets if step > oldest]
        return Tally(*(sum(numbers) for numbers in zip(Tally(0, 0, 0), *counted, strict=True)))

    def clear(self) -> None:
        self._buckets.clear()


def _added(tally: Tally, *, has_failed: bool, was_slow: bool) -> Tally:
    return Tally(tally.calls + 1, tally.failed + has_failed, tally.slow + was_slow)
