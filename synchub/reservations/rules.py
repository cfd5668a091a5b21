"""Lifetimes, tokens, and the forms in which holds are stored. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any, Final

import orjson

from synchub.errors import HoldUnknown, InvalidRequest
from synchub.reservations.model import BoughtLine, HeldLine, Mode, Reason, Refused, Reservation, Status, Token

TTL_MS: Final = {Mode.INTENT: (1_000, 5_000), Mode.HOLD: (1_000, 60_000), Mode.CART: (1_000, 900_000)}
"""Shortest and longest time that one grant or renewal asks for."""

DEFAULT_TTL_MS: Final = {Mode.INTENT: 3_000, Mode.HOLD: 15_000, Mode.CART: 900_000}
LIVES: Final = 3
"""A hold lives at most so many times the longest time of its mode, with all renewals."""

LINES_MAX: Final = 50
REVIEW_WITHIN_MS: Final = 24 * 3_600_000
_STATUS: Final = {status.value: status for status in Status}
_MODE: Final = {mode.value: mode for mode in Mode}
_PREFIX: Final = "shr1."
_MAC_BYTES: Final = 16
_RECEIPTS: Final = frozenset({Status.COMMITTED.value, Status.CONFIRMING.value})


def life_ms(mode: Mode) -> int:
    """Return how long a hold of this mode may live, with all renewals."""
    return LIVES * TTL_MS[mode][1]


def check_ttl(mode: Mode, ttl_ms: int | None) -> int:
    """Return how long a hold is asked for.

    Raises:
        InvalidRequest: shorter or longer than its mode allows.
    """
    wanted = DEFAULT_TTL_MS[mode] if ttl_ms is None else ttl_ms
    least, most = TTL_MS[mode]
    if not least <= wanted <= most:
        msg = f"ttl_ms of mode {mode} is from {least} to {most}."
        raise InvalidRequest(msg)
    return wanted


def fingerprint(*parts: object) -> str:
    """Return what tells one request from another that came with the same idempotency key."""
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:32]


def reservation_of(stored: bytes) -> Reservation:
    """Read a hold as the scripts store it."""
    hold: dict[str, Any] = orjson.loads(stored)
    return Reservation(
        id=hold["id"],
        seq=int(hold["seq"]),
        epoch=hold["id"].partition(".")[0],
        status=_STATUS[hold["status"]],
        mode=_MODE[hold["mode"]],
        agent=hold["agent"],
        channel=hold["channel"],
        buyer=hold["buyer"],
        session=hold["session"],
        policy=int(hold["policy"]),
        lines=tuple(map(_line_of, hold["lines"])),
        granted_us=int(hold["granted_us"]),
        expires_ms=int(hold["deadline"]),
        review_due_ms=int(hold["review_due"]) if "review_due" in hold else None,
        order=hold["order"],
        resolution=hold.get("resolution", ""),
        returned=tuple(
            BoughtLine(sku=line["sku"], quantity=int(line["quantity"]), location=line["location"])
            for line in hold.get("returned", ())
        ),
    )


def _line_of(line: dict[str, Any]) -> HeldLine:
    return HeldLine(
        sku=line["sku"],
        quantity=int(line["quantity"]),
        location=line["location"],
        sold_from=tuple((place["place"], int(place["n"])) for place in line.get("places") or ()),
    )


def why_not_held(stored: bytes) -> str:
    """Say why a commit cannot buy a line of the hold, as the script found it."""
    line: dict[str, Any] = orjson.loads(stored)
    what = f"{line['sku']} at {line['location']}" if line["location"] else line["sku"]
    held = int(line["held"])
    if not held:
        return f"This reservation has no line of {what}; where a SKU is held at several locations, name one."
    return f"This reservation has {held} of {what}; a commit buys at most that."


def refusal_of(stored: bytes, *, is_repeat: bool = False) -> Refused:
    """Read a refusal as the grant script states it."""
    refusal: dict[str, Any] = orjson.loads(stored)
    return Refused(
        reason=Reason(refusal["reason"]),
        sku=refusal["sku"],
        available=int(refusal["available"]),
        seq=int(refusal["seq"]),
        is_repeat=is_repeat,
    )


def token_of(key: bytes, merchant: str, reservation: Reservation) -> str:
    """Return the proof that this was granted: its facts, and a MAC under the merchant's key."""
    facts = {
        "m": merchant,
        "i": reservation.id,
        "s": reservation.seq,
        "d": reservation.expires_ms,
        "g": reservation.granted_us,
        "a": reservation.agent,
        "c": reservation.channel,
        "o": reservation.mode.value,
        "t": reservation.status.value,
        "r": reservation.order,
        "l": [[line.sku, line.quantity, line.location] for line in reservation.lines],
    }
    body = orjson.dumps(facts)
    return _PREFIX + _text(body) + "." + _text(hmac.digest(key, body, "sha256")[:_MAC_BYTES])


def read_token(key: bytes, merchant: str, token: str) -> Token:
    """Return what a token proves.

    Raises:
        HoldUnknown: not one of this merchant's tokens, or changed since it was given.
    """
    facts = facts_of(key, merchant, token)
    return Token(
        id=facts["i"],
        agent=facts["a"],
        channel=facts["c"],
        mode=facts["o"],
        is_receipt=facts["t"] in _RECEIPTS,
        order=facts["r"],
        granted_us=facts["g"],
        deadline_ms=facts["d"],
        lines=tuple((sku, quantity, location) for sku, quantity, location in facts["l"]),
    )


def facts_of(key: bytes, merchant: str, token: str) -> dict[str, Any]:
    """Return what a token proves.

    Raises:
        HoldUnknown: not one of this merchant's tokens, or changed since it was given.
    """
    body, _, _ = token.removeprefix(_PREFIX).partition(".")
    try:
        raw = _bytes(body)
        ours = _PREFIX + _text(raw) + "." + _text(hmac.digest(key, raw, "sha256")[:_MAC_BYTES])
        facts: dict[str, Any] = orjson.loads(raw) if hmac.compare_digest(ours, token) else {}
    except (ValueError, TypeError):  # not base64, or not ASCII
        facts = {}
    if facts.get("m") != merchant:
        msg = "This is not a token of a reservation here."
        raise HoldUnknown(msg)
    return facts


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
