"""Writes frames as bytes: the JSON of each event, and what stands around it on the wire.

An item is serialized once per view and batch and embedded in every frame that
carries it; a frame is framed once per audience. A WebSocket message is the JSON of
the event with its name, and its position where it has one, put in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from synchub.availability.bodies import rfc3339
from synchub.availability.rules import view
from synchub.feed.model import Framing, Mode, Scope
from synchub.feed.rules import cursor_text
from synchub.kit.clock import now_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from synchub.feed.model import ByeReason, Cover, Lens, ResetReason, Resumption, SourceState, ViewClass
    from synchub.stock.model import Answer, Position

Version = tuple[str, int]
"""A SKU and the version of its answer."""

_SHORT: Final = 126
_MEDIUM: Final = 65_536
_TEXT: Final = 0x81
"""First byte of a whole text message (RFC 6455, section 5.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One answer, serialized for one view."""

    is_sellable: bool
    json: orjson.Fragment


def item(answer: Answer, about: ViewClass) -> Item:
    """Serialize one answer as ``snap`` and ``upd`` carry it."""
    shown = view(answer, about.terms_of(answer.sku), now_ms=now_ms())
    fields = {
        "sku": answer.sku,
        "ver": answer.ver,
        "state": shown.state,
        "available": shown.available,
        "as_of": rfc3339(answer.as_of_ms),
        "source": answer.by or None,
        "degraded": shown.degraded,
    }
    return Item(is_sellable=shown.is_sellable, json=orjson.Fragment(orjson.dumps(fields)))


def items(answers: Iterable[Answer], about: ViewClass) -> list[Item]:
    """Serialize several answers."""
    return [item(answer, about) for answer in answers]


def hello(
    lens: Lens,
    *,
    head: Position,
    oldest: int,
    started_ms: int,
    bound_ms: int,
    resume: Resumption,
    retry_ms: int,
) -> bytes:
    """First frame. ``st`` is the hub's monotonic time when the request was handled."""
    data = {
        "epoch": head.epoch,
        "head": head.seq,
        "st": started_ms,
        "hb_ms": lens.hb_ms,
        "bound_ms": bound_ms,
        "resume": resume,
        "retry_ms": retry_ms,
        "oldest": oldest,
    }
    return _event(lens, "hello", data, "" if _is_socket(lens) else f"retry: {retry_ms}\n")


def snap(lens: Lens, parts: Sequence[Item], part: int, scope: Scope = Scope.ALL) -> bytes:
    """One part of the full state; it has no id because a part is no position."""
    return _event(lens, "snap", {"part": part, "scope": scope, "items": [one.json for one in parts]}, "")


def snap_end(lens: Lens, epoch: str, seq: int, asof_ms: int, parts: int, scope: Scope = Scope.ALL) -> bytes:
    """So many parts are the full state at ``seq``; ``asof`` is that of reading ``seq``, not of sending."""
    data = {"seq": seq, "asof": asof_ms, "parts": parts, "scope": scope, "rev": lens.filter.rev}
    return _event(lens, "snap_end", data, _id(lens, epoch, seq))


def upd(lens: Lens, epoch: str, cover: Cover, changed: Sequence[Item], inv: Sequence[Version] = ()) -> bytes:
    """Every matching change in ``(prev, seq]``; what can no longer be sold stands first."""
    data = _covering(lens, cover)
    if lens.mode is Mode.UPD:
        ordered = sorted(changed, key=_sellable) if len(changed) > 1 else changed
        data["items"] = [one.json for one in ordered]
    if inv or lens.mode is Mode.INV:
        data["inv"] = inv
    position = _id(lens, epoch, cover.seq) if cover.is_position else ""
    return _event(lens, "upd", data, position)


def hb(lens: Lens, epoch: str, cover: Cover) -> bytes:
    """Nothing matching changed in ``(prev, seq]``. A real event: EventSource hides comments from its user."""
    position = _id(lens, epoch, cover.seq) if cover.is_position else ""
    return _event(lens, "hb", _covering(lens, cover), position)


def changed_set(lens: Lens, before: int, removed: Sequence[str]) -> bytes:
    """The filter is another from here on than in revision ``before``; what it has gained follows."""
    data = {"prev_rev": before, "rev": lens.filter.rev, "removed": removed}
    return _event(lens, "set", data, "")


def sources(lens: Lens, states: Iterable[SourceState]) -> bytes:
    """How far each of the accounts is known, one event each; all of a merchant's readers get the same."""
    return b"".join(
        _event(lens, "source", {"account": one.account, "asof": one.asof_ms, "status": one.status}, "")
        for one in states
    )


def reset(lens: Lens, epoch: str, reason: ResetReason) -> bytes:
    """Drop everything; a snapshot follows.

    Its empty id makes an EventSource forget its position, so that a reader cut off in
    the middle of a snapshot does not resume over state it no longer has.
    """
    forget = '"id":"",' if _is_socket(lens) else "id:\n"
    return _event(lens, "reset", {"epoch": epoch, "reason": reason}, forget)


def bye(lens: Lens, reason: ByeReason, *, retry_ms: int, reconnect: bool) -> bytes:
    """Last frame before the hub closes the connection."""
    return _event(lens, "bye", {"reason": reason, "retry_ms": retry_ms, "reconnect": reconnect}, "")


def anchor(lens: Lens, number: int, started_ms: int) -> bytes:
    """Answer a client that wants to relate its clock to the hub's anew; ``st`` as in ``hello``."""
    return _event(lens, "anchor", {"n": number, "st": started_ms}, "")


def _covering(lens: Lens, cover: Cover) -> dict[str, object]:
    told: dict[str, object] = {
        "prev": cover.prev,
        "seq": cover.seq,
        "asof": cover.asof_ms,
        "rev": lens.filter.rev,
    }
    if cover.is_degraded:
        told["degraded"] = True
    return told


def _sellable(one: Item) -> bool:
    return one.is_sellable


def _id(lens: Lens, epoch: str, seq: int) -> str:
    position = cursor_text(epoch, seq, lens.fingerprint)
    return f'"id":{orjson.dumps(position).decode()},' if _is_socket(lens) else f"id: {position}\n"


def _is_socket(lens: Lens) -> bool:
    return lens.framing is Framing.WEBSOCKET


def _event(lens: Lens, name: str, data: dict[str, object], head: str) -> bytes:
    """Put an event's JSON, of at least one field, into its framing; ``head`` is what goes between."""
    told = orjson.dumps(data)
    if _is_socket(lens):
        return _message(b'{"event":"%s",%s%s' % (name.encode(), head.encode(), told[1:]))
    body = b"event: %s\n%sdata: %s\n\n" % (name.encode(), head.encode(), told)
    if lens.framing is Framing.SSE_CHUNKED:
        return b"%x\r\n%s\r\n" % (len(body), body)
    return body


def _message(text: bytes) -> bytes:
    size = len(text)
    if size < _SHORT:
        return bytes((_TEXT, size)) + text
    if size < _MEDIUM:
        return bytes((_TEXT, _SHORT)) + size.to_bytes(2, "big") + text
    return bytes((_TEXT, _SHORT + 1)) + size.to_bytes(8, "big") + text
