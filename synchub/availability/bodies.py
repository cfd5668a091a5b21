"""Answers about stock as JSON: what ``docs/http.md`` describes field by field. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from synchub.availability.model import State
from synchub.availability.rules import disclosed

if TYPE_CHECKING:
    from synchub.availability.model import Restock, View
    from synchub.policies.model import Terms
    from synchub.stock.model import Answer, Position

TIMES_KEPT: Final = 4096
"""Times in text that a process remembers: answers tell the same few again and again."""
_OWING: Final = frozenset({State.BACKORDERED, State.RESERVED})

Json = str | int | bool | None | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One answer with everything that one asker is told of it."""

    answer: Answer
    shown: View
    terms: Terms
    position: Position
    checksum: str
    asked_at_ms: int
    wanted: int | None = None
    """The quantity that was asked for."""
    fallbacks: tuple[Told, ...] = ()
    """Substitutes that can be had, best first."""
    restock: Restock | None = None


def stock_body(told: Told) -> dict[str, Json]:
    """Return the JSON body of a stock answer.

    ``seq`` is the head of the merchant's ledger, read in the same step as the
    answer. ``as_of`` and ``age_ms`` are null when there is no evidence at all.
    """
    answer, shown = told.answer, told.shown
    age_ms = max(0, told.asked_at_ms - answer.as_of_ms) if answer.as_of_ms else None
    body: dict[str, Json] = {
        "sku": answer.sku,
        "state": shown.state.value,
        "available": shown.available,
        "as_of": rfc3339(answer.as_of_ms),
        "age_ms": age_ms,
        "seq": told.position.seq,
        "epoch": told.position.epoch,
        "ver": answer.ver,
        "ttl_ms": shown.ttl_ms,
        "checksum": told.checksum,
        "source": answer.by or None,
        "degraded": shown.degraded,
        "policy": _policy(told),
        "backpressure": {"level": shown.pressure.value, "retry_after_ms": shown.retry_after_ms},
        "fallback_options": [_fallback(one) for one in told.fallbacks],
        "backorder_commitment": _commitment(told),
        "waitlist": None,
        "restock_at": rfc3339(told.restock.expected_at_ms) if told.restock else None,
    }
    if told.wanted is not None:
        body |= {"quantity": told.wanted, "covers": shown.covers(told.wanted)}
    return body


@lru_cache(maxsize=TIMES_KEPT)
def rfc3339(at_ms: int) -> str | None:
    """Write a time in UTC with milliseconds; 0 is no time."""
    if not at_ms:
        return None
    seconds, millis = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"


def _policy(told: Told) -> Json:
    decided_by = told.shown.decided_by
    return {
        "version": told.terms.version,
        "on_stale": told.terms.on_stale.value,
        "on_unknown": told.terms.on_unknown.value,
        "decided_by": decided_by.value if decided_by else None,
    }


def _fallback(told: Told) -> Json:
    return {
        "sku": told.answer.sku,
        "state": told.shown.state.value,
        "available": told.shown.available,
        "checksum": told.checksum,
    }


def _commitment(told: Told) -> Json:
    """What can be promised of a backorder, wherever one can be placed now or once the holds are over."""
    if not told.answer.backorder or told.shown.state not in _OWING:
        return None
    expected = told.restock
    return {
        "expected_at": rfc3339(expected.expected_at_ms) if expected else None,
        "quantity": disclosed(expected.units, told.terms.disclosure) if expected else None,
    }
