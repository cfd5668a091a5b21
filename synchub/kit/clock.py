"""The only place that reads a clock; everything else is given the time.

The hub's own time is steady: it runs with the machine's monotonic clock and is drawn
towards the wall clock slowly, so that a wall clock that is set does not move deadlines
and does not make what arrives now older than what arrived before.
"""

from __future__ import annotations

import time

_DRAWN: float = 0.0005
"""By which part of the time that passes the steady clock may differ from the monotonic one."""


class SteadyClock:
    """Nanoseconds since the epoch that never jump."""

    def __init__(self) -> None:
        self._at = time.monotonic_ns()
        self._offset = time.time_ns() - self._at

    def now_ns(self) -> int:
        """Return the present."""
        at = time.monotonic_ns()
        may = int((at - self._at) * _DRAWN)
        if may:
            away = time.time_ns() - at - self._offset
            self._offset += max(-may, min(may, away))
            self._at = at
        return at + self._offset


_steady = SteadyClock()


def now_us() -> int:
    """Steady time, microseconds since the epoch."""
    return _steady.now_ns() // 1000


def now_ms() -> int:
    """Steady time, milliseconds since the epoch."""
    return _steady.now_ns() // 1_000_000


def wall_ms() -> int:
    """Wall clock, milliseconds since the epoch: for times that others have written."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Milliseconds that never step back; comparable within one process only."""
    return time.monotonic_ns() // 1_000_000
