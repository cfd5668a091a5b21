"""From the bytes of a verified delivery to checked values, or to one clear refusal.

JSON is read more strictly than usual: a key given twice, ``NaN`` or half a
surrogate pair is refused, and numbers stay exact whatever their size, because
stock identifiers exceed what a double can hold. No refusal repeats a value from
the payload.

A connector's ``payloads.py`` declares only the fields it reads::

    class Change(Payload):
        sku: object
        quantity: object = None

    class Body(Payload):
        changes: Rows[Change] = ()

Numbers and identifiers are declared ``object`` and go through ``quantity``,
``identifier`` and their kind, which know the forms that platforms use.
"""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final, NoReturn, TypeAlias, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from synchub.connector_kit.events import MAX_QUANTITY, MAX_VERSION
from synchub.errors import PayloadRefused

MAX_DEPTH: Final = 32
"""Levels of nesting; no documented payload has more than a third of them."""

MAX_IDENTIFIER_CHARS: Final = 128

_INTEGRAL = re.compile(r"-?[0-9]{1,20}(\.0{1,20})?")
_DIGITS = re.compile(r"[0-9]{1,20}")
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,32}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_HALF_SURROGATE = re.compile("[\ud800-\udfff]")
# Control, format (bidirectional marks among them), surrogate, unassigned, line and paragraph separators.
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LEAP_SECOND: Final = 60


class Payload(BaseModel):
    """Base of the models of a platform's JSON: unread fields are ignored, types are not converted."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


P = TypeVar("P", bound=Payload)
_Row = TypeVar("_Row")

Rows: TypeAlias = Annotated[tuple[_Row, ...], Field(strict=False)]
"""A JSON array as a tuple; a bare ``tuple`` would refuse the list that JSON gives."""


def read_json(body: bytes) -> dict[str, JsonValue]:
    """Return the object that the body is, integers exact and decimals as ``Decimal``.

    Raises:
        PayloadRefused: as ``read_value`` does, or not an object.
    """
    value = read_value(body)
    if not isinstance(value, dict):
        _refuse("The body is not a JSON object.")
    return value


def read_value(body: bytes) -> JsonValue:
    """Return the JSON value that the body is, integers exact and decimals as ``Decimal``.

    Raises:
        PayloadRefused: not UTF-8, not one JSON value, a key given twice at any depth,
            ``NaN`` or ``Infinity``, deeper than ``MAX_DEPTH``, text that is not Unicode.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_decimal,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError:
        _refuse("The body is not UTF-8.")
    except ValueError:
        _refuse("The body is not valid JSON.")
    except RecursionError:
        _refuse(f"The body nests deeper than {MAX_DEPTH} levels.")
    _check_depth(body, value)
    _check_text(body, value)
    return cast("JsonValue", value)


def parse(model: type[P], value: object) -> P:
    """Return the value as an instance of the model.

    Raises:
        PayloadRefused: names the first field that does not fit, never its content.
    """
    try:
        return model.model_validate(value)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])[:80] or "the body"
        reason = "is missing" if first["type"] == "missing" else "is not of the documented type"
        msg = f"{_printable(field)} {reason}."
    raise PayloadRefused(msg)


def identifier(value: object, what: str) -> str:
    """Return a platform's id as text in Unicode form NFC; numbers become their digits.

    Raises:
        PayloadRefused: not an id of 1 to ``MAX_IDENTIFIER_CHARS`` visible characters.
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_VERSION:
        return str(value)
    if not isinstance(value, str):
        _refuse(f"{what} is not an identifier.")
    text = unicodedata.normalize("NFC", value)
    if not 1 <= len(text) <= MAX_IDENTIFIER_CHARS:
        _refuse(f"{what} does not have 1 to {MAX_IDENTIFIER_CHARS} characters.")
    if text != text.strip():
        _refuse(f"{what} begins or ends with a space.")
    if not text.isascii() or not text.isprintable():
        _refuse_invisible(text, what)
    return text


def quantity(value: object, what: str) -> int:
    """Return a whole number from an integer, ``"12"``, ``"12.0"`` or a ``Decimal`` equal to one.

    Raises:
        PayloadRefused: anything else, a fraction, or more than ``MAX_QUANTITY`` either way.
    """
    number = _whole(value)
    if number is None:
        _refuse(f"{what} is not a whole number.")
    if not -MAX_QUANTITY <= number <= MAX_QUANTITY:
        _refuse(f"{what} is larger than {MAX_QUANTITY}.")
    return int(number)


def time_us(value: object, what: str) -> int:
    """Return an RFC 3339 time as microseconds since the epoch; finer digits are cut off.

    Raises:
        PayloadRefused: no such time, no zone, or before 1970.
    """
    match = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        _refuse(f"{what} is not an RFC 3339 time with a zone.")
    seconds = _utc_seconds(match)
    if seconds is None or seconds < 0:
        _refuse(f"{what} is not a time after 1970.")
    fraction = (match[7] or "")[:6].ljust(6, "0")
    return seconds * 1_000_000 + int(fraction)


def resolution_us(value: str) -> int:
    """Return how far apart two such times must be to differ for certain, by the digits written.

    1,000,000 for ``…05Z``, 1,000 for ``….123Z``, 1 from six fraction digits on. A time
    that ``time_us`` refuses counts as one that stops at the second.
    """
    match = _RFC3339.fullmatch(value)
    digits = len(match[7] or "") if match else 0
    return int(10 ** max(0, 6 - digits))


def latest_us(value: object, what: str) -> int:
    """Return the last microsecond that an RFC 3339 time can mean: ``…05Z`` ends at 05.999999.

    Raises:
        PayloadRefused: as ``time_us`` does.
    """
    return time_us(value, what) + resolution_us(str(value)) - 1


def sequence(value: object, what: str) -> int:
    """Return a source's counter, exact, from an integer or its digits.

    Raises:
        PayloadRefused: not a number from 0 to ``MAX_VERSION``.
    """
    number = int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= MAX_VERSION:
        _refuse(f"{what} is not a number from 0 to {MAX_VERSION}.")
    return number


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse("The body gives one key twice.")
    return found


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as problem:
        # An exponent beyond what Decimal can hold.
        raise ValueError from problem


def _refuse_constant(_name: str) -> NoReturn:
    _refuse("The body holds NaN or Infinity.")


def _check_depth(body: bytes, value: object) -> None:
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    layer = [value]
    for _ in range(MAX_DEPTH):
        layer = [child for parent in layer for child in _children(parent)]
        if not layer:
            return
    if any(isinstance(item, dict | list) for item in layer):
        _refuse(f"The body nests deeper than {MAX_DEPTH} levels.")


def _check_text(body: bytes, value: object) -> None:
    if b"\\ud" not in body.lower():
        return
    layer: list[object] = [[value]]
    while layer:
        names = [name for parent in layer if isinstance(parent, dict) for name in parent]
        layer = [child for parent in layer for child in _children(parent)]
        if any(isinstance(text, str) and _HALF_SURROGATE.search(text) for text in (*names, *layer)):
            _refuse("The body holds half of a surrogate pair.")


def _children(parent: object) -> list[object]:
    if isinstance(parent, dict):
        return list(parent.values())
    return parent if isinstance(parent, list) else []


def _refuse_invisible(text: str, what: str) -> None:
    if any(unicodedata.category(char) in _INVISIBLE for char in text):
        _refuse(f"{what} holds an invisible character.")


def _whole(value: object) -> int | Decimal | None:
    if isinstance(value, str) and _INTEGRAL.fullmatch(value):
        return int(value.partition(".")[0])
    if isinstance(value, Decimal):
        return value if value.is_finite() and value == value.to_integral_value() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _utc_seconds(match: re.Match[str]) -> int | None:
    year, month, day, hour, minute, second = (int(match[place]) for place in range(1, 7))
    leap = second == _LEAP_SECOND
    try:
        local = datetime(year, month, day, hour, minute, second - leap, tzinfo=UTC)
        offset = datetime(1970, 1, 1, int(match[9] or 0), int(match[10] or 0), tzinfo=UTC) - _EPOCH
    except ValueError:
        return None
    ahead = -1 if match[8] == "-" else 1
    return (local - _EPOCH) // timedelta(seconds=1) + leap - ahead * (offset // timedelta(seconds=1))


def _printable(text: str) -> str:
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)


def _refuse(sentence: str) -> NoReturn:
    raise PayloadRefused(sentence)
