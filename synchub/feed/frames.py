"""Writes frames as bytes: the JSON of each event and the lines and chunks around it.

An item is serialized once per view and batch and embedded in every frame that
carries it; a frame is framed once per audience.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from synchub.availability.bodies import rfc3339
from synchub.availability.rules import view
from synchub.feed.model import FILTER_REVISION, Framing
from synchub.feed.rules import cursor_text
from synchub.kit.clock import now_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from synchub.feed.model import ByeReason, Lens, ResetReason, Resumption, ViewClass
    from synchub.stock.model import Answer, Position

_FORGET_ID: Final = "id:\n"
"""An empty id makes an EventSource forget its position, so that a reader cut off in
the middle of a snapshot does not resume over state it no longer has."""


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
    return _event(lens, "hello", data, f"retry: {retry_ms}\n")


def snap(lens: Lens, parts: Sequence[Item], part: int) -> bytes:
    """One part of the full state; it has no id because a part is no position."""
    return _event(lens, "snap", {"part": part, "items": [one.json for one in parts]}, "")


def snap_end(lens: Lens, epoch: str, seq: int, asof_ms: int) -> bytes:
    """The full state is there and is that of ``seq``; ``asof`` is that of reading ``seq``, not of sending."""
    data = {"seq": seq, "asof": asof_ms, "scope": "all", "rev": FILTER_REVISION}
    return _event(lens, "snap_end", data, _id(lens, epoch, seq))


def upd(lens: Lens, epoch: str, cover: tuple[int, int], asof_ms: int, changed: Sequence[Item]) -> bytes:
    """Every matching change in ``(prev, seq]``; what can no longer be sold stands first."""
    data = _covering(cover, asof_ms)
    ordered = sorted(changed, key=_sellable) if len(changed) > 1 else changed
    data["items"] = [one.json for one in ordered]
    return _event(lens, "upd", data, _id(lens, epoch, cover[1]))


def hb(lens: Lens, epoch: str, cover: tuple[int, int], asof_ms: int) -> bytes:
    """Nothing matching changed in ``(prev, seq]``. A real event: EventSource hides comments from its user."""
    return _event(lens, "hb", _covering(cover, asof_ms), _id(lens, epoch, cover[1]))


def reset(lens: Lens, epoch: str, reason: ResetReason) -> bytes:
    """Drop everything; a snapshot follows."""
    return _event(lens, "reset", {"epoch": epoch, "reason": reason}, _FORGET_ID)


def bye(lens: Lens, reason: ByeReason, *, retry_ms: int, reconnect: bool) -> bytes:
    """Last frame before the hub closes the connection."""
    return _event(lens, "bye", {"reason": reason, "retry_ms": retry_ms, "reconnect": reconnect}, "")


def _covering(cover: tuple[int, int], asof_ms: int) -> dict[str, object]:
    return {"prev": cover[0], "seq": cover[1], "asof": asof_ms, "rev": FILTER_REVISION}


def _sellable(one: Item) -> bool:
    return one.is_sellable


def _id(lens: Lens, epoch: str, seq: int) -> str:
    return f"id: {cursor_text(epoch, seq, lens.fingerprint)}\n"


def _event(lens: Lens, name: str, data: dict[str, object], lines: str) -> bytes:
    body = b"event: %s\n%sdata: %s\n\n" % (name.encode(), lines.encode(), orjson.dumps(data))
    if lens.framing is Framing.SSE_CHUNKED:
        return b"%x\r\n%s\r\n" % (len(body), body)
    return body
