"""Frames of the feed as values, and how they are read from JSON.

What is not known is ignored, fields and frames alike; what is known and does not fit
raises :class:`ProtocolBroken`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NoReturn, TypeAlias

import orjson

from synchub_client.errors import ProtocolBroken
from synchub_client.model import Item, Source

Scope: TypeAlias = Literal["all", "added"]
Json: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Always first."""

    epoch: str
    st: int
    hb_ms: int
    bound_ms: int
    resume: str
    retry_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snap:
    """A part of the full state, or of what a changed set has gained."""

    part: int
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapEnd:
    """The parts are the state at ``seq``."""

    seq: int
    asof: int
    rev: int
    scope: Scope = "all"
    parts: int | None = None
    """How many parts there were, where the hub says so."""
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upd:
    """Every change in ``(prev, seq]``; a heartbeat is one without any."""

    prev: int
    seq: int
    asof: int
    rev: int
    items: tuple[Item, ...] = ()
    inv: tuple[tuple[str, int], ...] = ()
    degraded: bool = False
    """The hub has not been able to verify anything for a while; ``asof`` says since when."""
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetChanged:
    """The SKUs followed are others from here on."""

    rev: int
    removed: tuple[str, ...]
    prev_rev: int | None = None
    """Revision that it follows, where the hub says so: changes may come together, and none may be missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTold:
    """News of an account behind the numbers."""

    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Drop everything, a snapshot follows."""

    epoch: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bye:
    """The hub closes the connection."""

    reason: str
    retry_ms: int
    reconnect: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchored:
    """Answer to a request for a new anchor."""

    number: int
    st: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A frame of a later version."""

    event: str


Frame: TypeAlias = Upd | Snap | SnapEnd | Hello | SetChanged | SourceTold | Reset | Bye | Anchored | Other


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What ``GET /v1/stock/{sku}`` told: an item, and the position at which it was read."""

    item: Item
    epoch: str
    seq: int


def read_frame(event: str, data: bytes | str, position: str = "") -> Frame:
    """Read one Server-Sent Event.

    Raises:
        ProtocolBroken: a known frame lacks something.
    """
    return _frame(event, _object(data), position)


def read_message(data: bytes | str) -> Frame:
    """Read one WebSocket message, which carries its name and position among its fields.

    Raises:
        ProtocolBroken: it is none.
    """
    fields = _object(data)
    return _frame(_text(fields, "event"), fields, _text(fields, "id", ""))


def read_answer(data: bytes) -> Answer:
    """Read the answer to a question about one SKU.

    Raises:
        ProtocolBroken: it is none.
    """
    fields = _object(data)
    return Answer(item=_item(fields), epoch=_text(fields, "epoch"), seq=_number(fields, "seq"))


def _frame(event: str, fields: Json, position: str) -> Frame:
    read = _READERS.get(event)
    return Other(event=event) if read is None else read(fields, position)


def _hello(fields: Json, _: str) -> Frame:
    return Hello(
        epoch=_text(fields, "epoch"),
        st=_number(fields, "st"),
        hb_ms=_number(fields, "hb_ms"),
        bound_ms=_number(fields, "bound_ms"),
        resume=_text(fields, "resume"),
        retry_ms=_number(fields, "retry_ms"),
    )


def _snap(fields: Json, _: str) -> Frame:
    return Snap(part=_number(fields, "part"), items=_items(fields))


def _snap_end(fields: Json, position: str) -> Frame:
    return SnapEnd(
        seq=_number(fields, "seq"),
        asof=_number(fields, "asof"),
        rev=_number(fields, "rev", 1),
        scope="added" if _text(fields, "scope", "all") == "added" else "all",
        parts=_number(fields, "parts") if "parts" in fields else None,
        id=position,
    )


def _upd(fields: Json, position: str) -> Frame:
    return Upd(
        prev=_number(fields, "prev"),
        seq=_number(fields, "seq"),
        asof=_number(fields, "asof"),
        rev=_number(fields, "rev", 1),
        items=_items(fields),
        inv=tuple(_invalidation(pair) for pair in _list(fields, "inv")),
        degraded=fields.get("degraded") is True,
        id=position,
    )


def _set_changed(fields: Json, _: str) -> Frame:
    removed = _list(fields, "removed")
    if not all(isinstance(sku, str) for sku in removed):
        _refuse("removed", "names")
    return SetChanged(
        rev=_number(fields, "rev"),
        removed=tuple(str(sku) for sku in removed),
        prev_rev=_number(fields, "prev_rev") if "prev_rev" in fields else None,
    )


def _source(fields: Json, _: str) -> Frame:
    account, status = _text(fields, "account"), _text(fields, "status")
    return SourceTold(source=Source(account=account, status=status, asof=fields.get("asof")))


def _reset(fields: Json, _: str) -> Frame:
    return Reset(epoch=_text(fields, "epoch"), reason=_text(fields, "reason", ""))


def _bye(fields: Json, _: str) -> Frame:
    return Bye(
        reason=_text(fields, "reason"),
        retry_ms=_number(fields, "retry_ms", 0),
        reconnect=bool(fields.get("reconnect", True)),
    )


def _anchored(fields: Json, _: str) -> Frame:
    return Anchored(number=_number(fields, "n"), st=_number(fields, "st"))


_READERS: Final[Mapping[str, Callable[[Json, str], Frame]]] = {
    "hello": _hello,
    "snap": _snap,
    "snap_end": _snap_end,
    "upd": _upd,
    "hb": _upd,
    "set": _set_changed,
    "source": _source,
    "reset": _reset,
    "bye": _bye,
    "anchor": _anchored,
}
_ITEM: Final = frozenset({"sku", "ver", "state", "available", "as_of", "source", "degraded"})


def _items(fields: Json) -> tuple[Item, ...]:
    return tuple(_item(one) for one in _list(fields, "items"))


def _item(value: object) -> Item:
    if not isinstance(value, dict):
        _refuse("items", "objects")
    return Item(
        sku=_text(value, "sku"),
        ver=_number(value, "ver"),
        state=_text(value, "state"),
        available=_number(value, "available") if value.get("available") is not None else None,
        as_of=_text(value, "as_of") if value.get("as_of") is not None else None,
        source=_text(value, "source") if value.get("source") is not None else None,
        degraded=value.get("degraded") is True,
        more={name: one for name, one in value.items() if name not in _ITEM},
    )


def _invalidation(pair: object) -> tuple[str, int]:
    if not isinstance(pair, list) or [type(part) for part in pair] != [str, int]:
        _refuse("inv", "pairs of SKU and version")
    sku, ver = pair
    return sku, ver


def _object(data: bytes | str) -> Json:
    try:
        fields = orjson.loads(data)
    except orjson.JSONDecodeError:
        msg = "a frame is no JSON"
        raise ProtocolBroken(msg) from None
    if not isinstance(fields, dict):
        msg = "a frame is no JSON object"
        raise ProtocolBroken(msg)
    return fields


def _number(fields: Json, name: str, default: int | None = None) -> int:
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        _refuse(name, "a whole number")
    return value


def _text(fields: Json, name: str, default: str | None = None) -> str:
    value = fields.get(name, default)
    if not isinstance(value, str):
        _refuse(name, "text")
    return value


def _list(fields: Json, name: str) -> list[object]:
    value = fields.get(name, [])
    if not isinstance(value, list):
        _refuse(name, "a list")
    return value


def _refuse(name: str, wanted: str) -> NoReturn:
    msg = f"`{name}` of a frame is not {wanted}"
    raise ProtocolBroken(msg)
