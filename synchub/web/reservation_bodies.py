"""What requests about reservations look like, and how a reservation is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from synchub.availability.bodies import rfc3339
from synchub.connector_kit.events import MAX_QUANTITY
from synchub.connector_kit.payloads import identifier
from synchub.errors import InvalidRequest, PayloadRefused
from synchub.reservations.model import Mode, Status
from synchub.reservations.rules import LINES_MAX, TTL_MS, token_of
from synchub.web.bodies import Body, Rows, sku_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from synchub.reservations.model import Reservation

KEY_HEADER: Final = "Idempotency-Key"
_TEXT_MAX: Final = 128
_TTL_MIN: Final = min(least for least, _ in TTL_MS.values())
_TTL_MAX: Final = max(most for _, most in TTL_MS.values())
_ENDS: Final = frozenset({Status.HELD, Status.CONFIRMING, Status.EXPIRED})
"""Of these it matters when they end; what is bought or given back does not end any more."""

Where = tuple[str, str]
"""A SKU, and a location or nothing."""


class WantedRow(Body):
    """One line of a request."""

    sku: str
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY)]
    location: str | None = None
    checksum: Annotated[str, Field(max_length=100)] | None = None


class ShipTo(Body):
    """Where it goes. Only the country counts and is kept: the rest is nobody's business here."""

    country: Annotated[str, Field(pattern="^[A-Z]{2}$")]
    region: Annotated[str, Field(max_length=_TEXT_MAX)] = ""
    postal_code: Annotated[str, Field(max_length=_TEXT_MAX)] = ""


class HoldRequest(Body):
    """Body of ``POST /v1/reservations``."""

    lines: Annotated[Rows[WantedRow], Field(min_length=1, max_length=LINES_MAX)]
    mode: Annotated[Mode, Field(strict=False)] = Mode.HOLD
    ttl_ms: int | None = None
    channel: str | None = None
    session: Annotated[str, Field(max_length=_TEXT_MAX)] = ""
    buyer: Annotated[str, Field(max_length=_TEXT_MAX)] = ""
    expected_seq: Annotated[int, Field(ge=0)] | None = None
    replaces: Annotated[str, Field(max_length=_TEXT_MAX)] = ""
    ship_to: ShipTo | None = None


class RenewRequest(Body):
    """Body of ``POST /v1/reservations/{id}/renew``."""

    ttl_ms: Annotated[int, Field(ge=_TTL_MIN, le=_TTL_MAX)]


class BoughtRow(Body):
    """What a commit buys of one line."""

    sku: str
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY)]
    location: str | None = None


class CommitRequest(Body):
    """Body of ``POST /v1/reservations/{id}/commit``."""

    order_id: Annotated[str, Field(max_length=_TEXT_MAX)] = ""
    expected_seq: Annotated[int, Field(ge=0)] | None = None
    regrant: bool = False
    lines: Annotated[Rows[BoughtRow], Field(min_length=1, max_length=LINES_MAX)] | None = None


class ReleaseRequest(Body):
    """Body of ``POST /v1/reservations/{id}/release``, if it has one."""


def folded(rows: Sequence[WantedRow | BoughtRow]) -> dict[Where, int]:
    """Add up the lines on one SKU and location: they are judged by their sum.

    Raises:
        InvalidRequest: no SKU or location can be called so.
    """
    lines: dict[Where, int] = {}
    for row in rows:
        where = sku_of(row.sku), claim(row.location or "", "lines.location")
        lines[where] = lines.get(where, 0) + row.quantity
    return lines


def claim(text: str, what: str) -> str:
    """Return what the runtime claims, in the form in which it is kept; empty: nothing.

    Raises:
        InvalidRequest: it holds what no identifier may.
    """
    if not text:
        return ""
    try:
        return identifier(text, what)
    except PayloadRefused as refusal:
        raise InvalidRequest(refusal.detail) from None


def key_of(request: web.Request) -> str:
    """Return the caller's idempotency key; empty when there is none.

    Raises:
        InvalidRequest: it stands there twice, or is no possible key.
    """
    given = request.headers.getall(KEY_HEADER, [])
    if not given:
        return ""
    if len(given) > 1 or not 1 <= len(given[0]) <= _TEXT_MAX or not given[0].isprintable():
        msg = f"{KEY_HEADER} is one text of 1 to {_TEXT_MAX} printable characters."
        raise InvalidRequest(msg)
    return given[0]


def reservation_body(key: bytes, merchant: str, found: Reservation, current: Status | None) -> dict[str, Any]:
    """Return the JSON body of a reservation; ``key`` is the merchant's for tokens."""
    return {
        "id": found.id,
        "token": token_of(key, merchant, found),
        "status": found.status.value,
        "current_status": current.value if current else None,
        "mode": found.mode.value,
        "expires_at": rfc3339(found.expires_ms) if found.status in _ENDS else None,
        "granted_at_us": found.granted_us,
        "seq": found.seq,
        "epoch": found.epoch,
        "order_id": found.order or None,
        "review_due_at": rfc3339(found.review_due_ms or 0),
        "lines": [
            {
                "sku": line.sku,
                "quantity": line.quantity,
                "location": line.location or None,
                "sold_from": [{"location": place, "quantity": units} for place, units in line.sold_from],
            }
            for line in found.lines
        ],
        "released": [
            {"sku": line.sku, "quantity": line.quantity, "location": line.location or None}
            for line in found.returned
        ],
    }
