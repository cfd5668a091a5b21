"""Decisions with a default for everything that does not matter."""

from __future__ import annotations

from typing import Any

from synchub.decisions.model import Decision, DecisionKind, Seen


def a_decision(**changes: Any) -> Decision:
    """A refused hold, unless said otherwise."""
    told: dict[str, Any] = {
        "at_ms": 1_795_255_200_000,
        "kind": DecisionKind.HOLD,
        "agent": "acme-agent",
        "buyer": "b1",
        "session": "s1",
        "sku": "TEE",
        "quantity": 2,
        "seen": Seen(state="LOW_STOCK", available=3, seq=17, ver=4, checksum="hmac"),
        "outcome": "refused",
        "reason": "insufficient",
        "policy_version": 6,
    }
    return Decision(**(told | changes))
