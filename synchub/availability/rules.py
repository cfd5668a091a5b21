"""How the ledger's number becomes the state an agent is told.

The surprising part: a SKU whose level nobody knows is told as out of stock and
degraded, not as unknown. ``UNKNOWN_SKU`` is kept for names never reported.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from synchub.availability.model import State, View

if TYPE_CHECKING:
    from synchub.stock.model import Answer, Position

ANSWER_TTL_MS: Final = 2000
"""How long an asker without a feed may keep an answer."""

Json = str | int | bool | None | list["Json"] | dict[str, "Json"]


def view(answer: Answer, *, low_threshold: int) -> View:
    """Return what the answer means; the first rule that fits decides.

    Unknown SKU, discontinued (by the catalogue, or gone from every platform),
    level unknown, then by number: in stock from ``low_threshold`` on, low below
    it, and at zero or less backordered where that is offered, otherwise out.
    """
    degraded = answer.degraded or not answer.known
    if not answer.exists:
        return View(state=State.UNKNOWN_SKU, available=0, degraded=True)
    if answer.discontinued or answer.gone:
        return View(state=State.DISCONTINUED, available=0, degraded=degraded)
    if not answer.known:
        return View(state=State.OUT_OF_STOCK, available=0, degraded=True)
    if answer.ats >= low_threshold:
        return View(state=State.IN_STOCK, available=answer.ats, degraded=degraded)
    if answer.ats > 0:
        return View(state=State.LOW_STOCK, available=answer.ats, degraded=degraded)
    state = State.BACKORDERED if answer.backorder else State.OUT_OF_STOCK
    return View(state=state, available=0, degraded=degraded)


def stock_body(answer: Answer, position: Position, *, low_threshold: int, now_ms: int) -> dict[str, Json]:
    """Return the JSON body of a stock answer.

    ``seq`` is the head of the merchant's ledger, read in the same step as the
    answer. ``as_of`` and ``age_ms`` are null when there is no evidence at all.
    """
    shown = view(answer, low_threshold=low_threshold)
    return {
        "sku": answer.sku,
        "state": shown.state.value,
        "available": shown.available,
        "as_of": rfc3339(answer.as_of_ms),
        "age_ms": max(0, now_ms - answer.as_of_ms) if answer.as_of_ms else None,
        "seq": position.seq,
        "epoch": position.epoch,
        "ver": answer.ver,
        "ttl_ms": ANSWER_TTL_MS,
        "source": answer.by or None,
        "degraded": shown.degraded,
        "policy": {"on_stale": "answer"},
        "backpressure": {"level": "none", "retry_after_ms": 0},
        "fallback_options": [],
        "backorder_commitment": None,
        "waitlist": None,
        "restock_at": None,
    }


def rfc3339(at_ms: int) -> str | None:
    """Write a time in UTC with milliseconds; 0 is no time."""
    if not at_ms:
        return None
    seconds, millis = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"
