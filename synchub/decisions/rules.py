"""A decision as the store and the archive have it: sixteen texts. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synchub.decisions.model import Decision

FIELDS: Final = (
    "id", "at", "kind", "agent", "buyer", "session", "sku", "quantity", "state", "available", "seen_seq",
    "ver", "checksum", "outcome", "reason", "policy",
)  # fmt: skip
"""In the order that ``lua/decisions_append.lua`` takes them; all are always there, which packs them well."""

TEXT_MAX: Final = 500
"""Longer texts are cut: what an agent claims must not fill the store."""


def row_of(decision: Decision, own_id: str) -> tuple[str, ...]:
    """Return the row of a decision; one that is written twice has the same id both times."""
    state, available, seq, ver, checksum = decision.seen
    return (
        own_id,
        str(decision.at_ms),
        decision.kind.value,
        _bounded(decision.agent),
        _bounded(decision.buyer),
        _bounded(decision.session),
        _bounded(decision.sku),
        str(decision.quantity),
        state,
        "" if available is None else str(available),
        str(seq),
        str(ver),
        _bounded(checksum),
        _bounded(decision.outcome),
        _bounded(decision.reason),
        str(decision.policy_version),
    )


def sentence(seq: int, fields: Mapping[str, str]) -> str:
    """Return a recorded decision as it is told to a person."""
    shown = f"{fields['state']} {fields['available'] or '-'}".strip()
    parts = (
        str(seq),
        fields["at"],
        f"{fields['agent']} {fields['kind']} {fields['sku']}",
        f"{fields['quantity']} wanted",
        f"saw {shown} at {fields['seen_seq']}",
        f"{fields['outcome']} {fields['reason']}".strip(),
    )
    return "  ".join(parts)


def _bounded(text: str) -> str:
    if text.isascii() and len(text) <= TEXT_MAX:
        return text
    # Half of a character pair cannot be written; what a claim holds of them is replaced.
    clean = text.encode("utf-8", errors="replace").decode()
    return clean if len(clean) <= TEXT_MAX else clean[:TEXT_MAX]
