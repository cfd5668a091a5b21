"""``python -m tests.faults.alert_clock``: a worker whose machine's clock is wrong by seconds."""

from __future__ import annotations

import importlib
import sys
import time
from typing import Final
from unittest import mock

AHEAD_S: Final = 4

_true, _true_ns = time.time, time.time_ns


def ahead() -> float:
    """What it takes for the time."""
    return _true() + AHEAD_S


def ahead_ns() -> int:
    """The same, in nanoseconds."""
    return _true_ns() + AHEAD_S * 1_000_000_000


if __name__ == "__main__":
    with mock.patch("time.time", ahead), mock.patch("time.time_ns", ahead_ns):
        # Its clock is read for the first time when it is imported.
        sys.exit(importlib.import_module("workers.__main__").main())
