"""How many calls an endpoint says are left, where it says so.

Both spellings are read: ``RateLimit-Remaining`` and ``X-RateLimit-Remaining`` with their
``-Limit``, and the single ``RateLimit`` header of the later drafts (``"default";r=50;t=30``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from synchub.connector_kit.contract import Quota

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synchub.connector_kit.http import HttpAnswer

_WHOLE = re.compile(r"\s*([0-9]{1,9})\b")
_REMAINING = re.compile(r"(?:^|[;,\s])(?:r|remaining)=([0-9]{1,9})\b")
_LIMIT = re.compile(r"(?:^|[;,\s])(?:q|limit)=([0-9]{1,9})\b")


def read_quota(answer: HttpAnswer) -> Quota | None:
    """Return what is left of the endpoint's limit; ``None`` where the answer does not say."""
    headers = answer.headers
    remaining = _single(headers, "remaining", "ratelimit", _REMAINING)
    if remaining is None:
        return None
    return Quota(remaining=remaining, capacity=_capacity(headers))


def _capacity(headers: Mapping[str, str]) -> float | None:
    found = _single(headers, "limit", "ratelimit", _LIMIT)
    policy = _LIMIT.search(headers.get("ratelimit-policy", ""))
    capacity = found if found is not None else float(policy[1]) if policy else None
    return capacity or None


def _single(headers: Mapping[str, str], what: str, joint: str, pattern: re.Pattern[str]) -> float | None:
    for name in (f"ratelimit-{what}", f"x-ratelimit-{what}"):
        if match := _WHOLE.match(headers.get(name, "")):
            return float(match[1])
    match = pattern.search(headers.get(joint, ""))
    return float(match[1]) if match else None
