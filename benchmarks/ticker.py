"""Wakes at an exact moment: event loops round timers up to a millisecond, the kernel's timerfd does not."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_TIMER_ABSTIME = 1
_NS_PER_S = 1_000_000_000


class _TimerSpec(ctypes.Structure):
    """``struct itimerspec``: an interval of zero, so it fires once, and the moment."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Ticker:
    """Calls ``on_tick`` once at each moment it is armed for; moments are ``time.monotonic_ns()``."""

    def __init__(self, on_tick: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_tick = on_tick
        self._fd = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK)
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._fired)

    def arm(self, at_ns: int) -> None:
        """Wake at ``at_ns``; at once when that has passed."""
        if self._fd < 0:
            delay_s = max(0, at_ns - time.monotonic_ns()) / _NS_PER_S
            self._loop.call_later(delay_s, self._on_tick)
            return
        spec = _TimerSpec(0, 0, at_ns // _NS_PER_S, at_ns % _NS_PER_S)
        if self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Give the timer back."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _fired(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
            self._on_tick()
