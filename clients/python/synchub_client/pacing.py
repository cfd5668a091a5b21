"""How long to wait before the next attempt; chance comes in as a number in [0, 1)."""

from __future__ import annotations

from typing import Final

PAUSE_MAX_S: Final = 30.0
_DOUBLINGS_MAX: Final = 10


def pause_s(failures: int, *, retry_ms: int, chance: float, at_least_s: float = 0.0) -> float:
    """Return a pause drawn from all of ``[0, retry_ms x 2^failures]``, so that thousands do not come at once.

    ``at_least_s`` is what the hub asked for by ``Retry-After``; chance comes on top of it.
    """
    longest = min(PAUSE_MAX_S, retry_ms / 1000 * float(2 ** min(failures, _DOUBLINGS_MAX)))
    return min(PAUSE_MAX_S, at_least_s) + longest * chance
