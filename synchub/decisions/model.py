"""The noun of the record: one decision, with what it was made on.

Plain tuples: one is made for every request, and a frozen dataclass takes four times as long.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class DecisionKind(StrEnum):
    """What was asked for."""

    QUERY = "query"
    VERIFY = "verify"
    HOLD = "hold"
    COMMIT = "commit"
    RENEW = "renew"
    RELEASE = "release"


class Seen(NamedTuple):
    """What was known and shown at that moment."""

    state: str = ""
    available: int | None = None
    """What the asker was shown; None when it was not shown a number."""
    seq: int = 0
    ver: int = 0
    checksum: str = ""


class Decision(NamedTuple):
    """One question and what became of it."""

    at_ms: int
    kind: DecisionKind
    agent: str
    sku: str
    seen: Seen
    outcome: str
    buyer: str = ""
    session: str = ""
    quantity: int = 0
    reason: str = ""
    policy_version: int = 0
