"""A clock that goes on while the machine sleeps.

``CLOCK_BOOTTIME`` does; where there is none, and for a machine that was paused from
outside, a jump of the wall clock is added. That can only make knowledge look older
than it is: the wall clock may refuse, never vouch.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

JUMP_S: Final = 0.05
"""A wall clock that gains more than this between two looks has jumped, or we have slept."""


class Clock:
    """Seconds since an arbitrary moment; never goes back."""

    def __init__(
        self, steady: Callable[[], float] | None = None, wall: Callable[[], float] = time.time
    ) -> None:
        self._steady = steady or _steady()
        self._wall = wall
        self._lead = wall() - self._steady()
        self._missed = 0.0
        self.jumps = 0
        """How often time has been added."""

    def __call__(self) -> float:
        """Return the time."""
        steady = self._steady()
        lead = self._wall() - steady
        if lead > self._lead + JUMP_S:
            self._missed += lead - self._lead
            self.jumps += 1
        self._lead = lead
        return steady + self._missed


def _steady() -> Callable[[], float]:
    boot: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    if boot is None:
        return time.monotonic
    clock = boot
    return lambda: time.clock_gettime(clock)
