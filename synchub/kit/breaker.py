"""Stops calling whoever does not answer, after the semantics of Resilience4j's count-based breaker.

Pure: the time is told. *Closed* it lets every call through and looks at the last ones; when too many of
them failed or were slow it is *open* and lets none through for a while, longer with every time in a row;
then it is *half open* and lets a few through, whose results decide. One breaker belongs to one target and
one event loop, and what it has seen ends with the process: it decides locally, so that it can protect
against the store as well.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum


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


class Breaker:
    """Asked before each call and told what came of it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._results: deque[tuple[bool, bool]] = deque(maxlen=limits.window)
        self._state = State.CLOSED
        self._until_ms = 0
        self._begun = 0
        self.trips = 0
        """How often in a row it has opened without having closed."""

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

    def record(self, now_ms: int, *, has_failed: bool, took_ms: int = 0) -> None:
        """Take the result of a permitted call into account."""
        if self._state is State.OPEN:
            return  # begun before it opened
        self._results.append((has_failed, took_ms >= self._limits.slow_ms))
        if self._state is State.HALF_OPEN:
            if len(self._results) >= self._limits.trials:
                self._conclude(now_ms)
        elif len(self._results) >= self._limits.calls_min and self._is_bad():
            self._open(now_ms)

    def forget(self) -> None:
        """Give back a permitted call that came to no result of its own."""
        self._begun = max(0, self._begun - 1)

    def _conclude(self, now_ms: int) -> None:
        if self._is_bad():
            self._open(now_ms)
        else:
            self.trips = 0
            self._enter(State.CLOSED)

    def _is_bad(self) -> bool:
        failed = sum(has_failed for has_failed, _ in self._results)
        slow = sum(was_slow for _, was_slow in self._results)
        calls = len(self._results)
        return (
            100 * failed >= self._limits.failed_percent * calls
            or 100 * slow >= self._limits.slow_percent * calls
        )

    def _open(self, now_ms: int) -> None:
        self.trips += 1
        self._until_ms = now_ms + min(self._limits.open_ms * self.trips, self._limits.open_max_ms)
        self._enter(State.OPEN)

    def _enter(self, state: State) -> None:
        self._state = state
        self._begun = 0
        self._results.clear()
