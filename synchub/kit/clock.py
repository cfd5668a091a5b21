"""The only place that reads a clock; everything else is given the time."""

from __future__ import annotations

import time


def now_us() -> int:
    """Wall clock, microseconds since the epoch."""
    return time.time_ns() // 1000


def now_ms() -> int:
    """Wall clock, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Milliseconds that never step back; comparable within one process only."""
    return time.monotonic_ns() // 1_000_000
