"""How long to wait before trying again."""

from __future__ import annotations

import random


def full_jitter_s(tries: int, *, base_s: float, max_s: float) -> float:
    """Return a pause between 0 and ``base_s`` doubled with each try, capped at ``max_s``.

    Full jitter, after the AWS Architecture Blog on exponential backoff: callers
    that failed together do not come back together.
    """
    ceiling = min(max_s, base_s * 2 ** min(max(tries - 1, 0), 32))
    return random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing
