"""The noun of the record: one decision, with what it was made on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DecisionKind(StrEnum):
    """What was asked for."""

    QUERY = "query"
    VERIFY = "verify"
    HOLD = "hold"
    COMMIT = "commit"
    RENEW = "renew"
    RELEASE = "release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was known and shown at that moment."""

    state: str = ""
    available: int | None = None
    """What the asker was shown; None when it was not shown a number."""
    seq: int = 0
    ver: int = 0
    checksum: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One question and what became of it."""

    at_ms: int
    kind: DecisionKind
    agent: str
    buyer: str = ""
    session: str = ""
    sku: str
    quantity: int = 0
    seen: Seen
    outcome: str
    reason: str = ""
    policy_version: int = 0
