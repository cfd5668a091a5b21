"""From a platform's words to rows of the apply script, and from its fields back to nouns. Pure.

A row is sixteen strings; ``ROW_FIELDS`` names them in the order that
``lua/apply.lua`` reads them. Versions travel as twenty digits, so that they are
compared exactly: a Lua number would confuse 2^53 with 2^53 + 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from sys import intern
from typing import Final, assert_never

import orjson

from synchub.connector_kit.events import (
    Ack,
    Catalogue,
    CatalogueStatus,
    Delta,
    Heartbeat,
    Level,
    LevelStatus,
    OrderLine,
    OrderStatus,
    Scale,
    StockEvent,
    Tickle,
    Version,
)
from synchub.keyspace import LIST_SEPARATOR, SEPARATOR
from synchub.stock.model import Answer, Cell, FeedEntry, Footing, PollPlace, Position, Reading

Row = tuple[str, ...]
"""One event as the apply script takes it."""

ROW_FIELDS: Final = (
    "kind", "account", "item", "location", "status", "number", "scale", "version", "resolution",
    "at_ms", "evidence_ms", "op", "cause", "sku", "group", "extra",
)  # fmt: skip

ITEM: Final = ROW_FIELDS.index("item")
_KIND, _EVIDENCE, _SKU = (ROW_FIELDS.index(name) for name in ("kind", "evidence_ms", "sku"))

_LEVEL_STATUS: Final = {
    LevelStatus.KNOWN: "K",
    LevelStatus.UNKNOWN: "U",
    LevelStatus.UNTRACKED: "T",
    LevelStatus.CLOSED: "C",
}
_CATALOGUE_STATUS: Final = {
    CatalogueStatus.ACTIVE: "A",
    CatalogueStatus.DISCONTINUED: "D",
    CatalogueStatus.REMOVED: "R",
    None: "",
}
READ_KEPT: Final = 4096
"""Answers that a process remembers having read."""
_CELLS: Final = 13
"""The last field of a stored answer, and the only one that may hold a bar."""
_KNOWN, _GONE, _CATALOGUE, _BACKORDER, _REF = 4, 5, 6, 7, 11
"""Places of the fields of a stored answer."""
_SCALE: Final = {Scale.SEQUENCE: "S", Scale.TIME: "T"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the hub knows of a report that the platform did not say."""

    account: str
    at_ms: int
    """Hub time: when the push arrived, or when the request of the read was sent."""
    is_read: bool
    op: str
    """Equal for repeats of the same report; each event adds its own number to it."""
    cause: str
    """What the ledger names as the reason."""


def rows_of(events: Sequence[StockEvent], circumstances: Circumstances) -> tuple[Row, ...]:
    """Return one row per event, in order; a sign of life changes nothing and has none."""
    return tuple(
        _row(event, number, circumstances)
        for number, event in enumerate(events)
        if not isinstance(event, Heartbeat)
    )


def page_rows_of(events: Sequence[StockEvent], *, account: str, asked_ms: int, key: str) -> tuple[Row, ...]:
    """Return the rows of one fact of a page: its levels have been read, everything else is told once."""
    read = Circumstances(account=account, at_ms=asked_ms, is_read=True, op="", cause=f"read:{asked_ms}")
    told = Circumstances(
        account=account, at_ms=asked_ms, is_read=False, op=f"poll:{key}", cause=f"poll:{asked_ms}"
    )
    return tuple(
        _row(event, number, read if isinstance(event, Level) else told)
        for number, event in enumerate(events)
        if not isinstance(event, Heartbeat)
    )


def guard_row(account: str, place: PollPlace, *, epoch: str) -> Row:
    """Apply what follows only while nobody has gone on from a place, in the history of that name."""
    return _fill("P", account, status="G", number=place.moves, sku=epoch)


def move_row(account: str, place: PollPlace, *, to: PollPlace) -> Row:
    """Let the next poll begin elsewhere; a time of completeness also makes everything that fresh."""
    complete_ms = to.complete_to_ms if to.complete_to_ms > place.complete_to_ms else 0
    return _fill(
        "P",
        account,
        status="M",
        number=place.moves,
        at_ms=to.asked_ms,
        evidence_ms=complete_ms,
        sku=to.epoch,
        group=to.cursor,
        extra=str(to.began_ms),
    )


def place_of(stored: bytes | None) -> PollPlace:
    """Read where an account's next poll begins; one that was never polled begins with everything."""
    if stored is None:
        return PollPlace()
    moves, asked, began, complete, epoch, cursor = stored.decode().split("|", 5)
    return PollPlace(
        moves=int(moves),
        asked_ms=int(asked),
        began_ms=int(began),
        complete_to_ms=int(complete),
        epoch=epoch,
        cursor=cursor,
    )


def watermark_row(account: str, complete_to_ms: int) -> Row:
    """Say that everything of this account up to a time has been seen."""
    return _fill("W", account, at_ms=complete_to_ms, evidence_ms=complete_to_ms)


def mapping_row(account: str, item: str, mapped: str, *, at_ms: int) -> Row:
    """Say what an item is because a person says so; ``mapped`` is as the account's map holds it."""
    return _fill("C", account, item=item, number=1, at_ms=at_ms, cause="mapping", sku=mapped)


def release_row(account: str, item: str, cause: str) -> Row:
    """Try the waiting events of an item again."""
    return _fill("C", account, item=item, cause=cause)


def is_ahead(event: StockEvent, latest_us: int) -> bool:
    """Say whether the event claims a source time after ``latest_us``."""
    claimed = []
    if isinstance(event, OrderLine):
        claimed += [event.ordered_at_us or 0, event.happened_at_us or 0]
    if isinstance(event, Level | Delta | OrderLine | Ack):
        if event.version is not None and event.version.scale is Scale.TIME:
            claimed.append(event.version.number)
        if isinstance(event, Level | Delta) and event.source_time_us is not None:
            claimed.append(event.source_time_us)
    return any(time_us > latest_us for time_us in claimed)


def _row(
    event: Level | Delta | Tickle | OrderLine | Ack | Catalogue, number: int, about: Circumstances
) -> Row:
    if isinstance(event, Level):
        return _level_row(event, number, about)
    if isinstance(event, Delta):
        return _delta_row(event, number, about)
    if isinstance(event, Tickle):
        return _fill("T", about.account, item=event.item, at_ms=about.at_ms, cause=about.cause)
    if isinstance(event, Catalogue):
        return _catalogue_row(event, number, about)
    if isinstance(event, OrderLine):
        return _order_row(event, number, about)
    if isinstance(event, Ack):
        return _ack_row(event, number, about)
    assert_never(event)


def _level_row(event: Level, number: int, about: Circumstances) -> Row:
    return _fill(
        "R" if about.is_read else "L",
        about.account,
        item=event.item,
        location=event.location,
        status=_LEVEL_STATUS[event.status],
        number=event.quantity or 0,
        version=event.version,
        at_ms=about.at_ms,
        evidence_ms=_evidence_ms(event.source_time_us, about),
        op=f"{about.op}:{number}",
        cause=about.cause,
    )


def _delta_row(event: Delta, number: int, about: Circumstances) -> Row:
    return _fill(
        "D",
        about.account,
        item=event.item,
        location=event.location,
        number=event.amount,
        version=event.version,
        at_ms=about.at_ms,
        evidence_ms=_evidence_ms(event.source_time_us, about),
        op=f"delta:{event.key}" if event.key is not None else f"{about.op}:{number}",
        cause=about.cause,
    )


def _catalogue_row(event: Catalogue, number: int, about: Circumstances) -> Row:
    extra: dict[str, object] = {}
    if event.backorder is not None:
        extra["backorder"] = event.backorder
    if event.substitutes is not None:
        extra["substitutes"] = orjson.dumps(event.substitutes).decode()
    if event.incoming is not None:
        extra["incoming"] = orjson.dumps(event.incoming).decode()
    return _fill(
        "C",
        about.account,
        item=event.item or "",
        status=_CATALOGUE_STATUS[event.status],
        at_ms=about.at_ms,
        op="" if about.is_read or not about.op else f"{about.op}:{number}",
        cause=about.cause,
        sku=event.sku or "",
        group=event.group or "",
        extra=orjson.dumps(extra).decode() if extra else "",
    )


def _order_row(event: OrderLine, number: int, about: Circumstances) -> Row:
    return _fill(
        "O",
        about.account,
        item=event.item,
        location=event.location or "",
        status="X" if event.status is OrderStatus.CANCELLED else "P",
        number=event.quantity,
        version=event.version,
        at_ms=about.at_ms,
        evidence_ms=(event.ordered_at_us or 0) // 1000,
        op=f"{about.op}:{number}",
        cause=about.cause,
        sku="" if event.happened_at_us is None else f"{event.happened_at_us:020d}",
        group=SEPARATOR.join((event.order, event.line)),
        extra=LIST_SEPARATOR.join(event.references),
    )


def told_ms(row: Row) -> int:
    """When what a row tells came about, as far as it says; 0: it does not.

    Of an order that is the time of its state, not of its beginning, which may be weeks ago.
    """
    if row[_KIND] == "O":
        return int(row[_SKU] or 0) // 1000
    return int(row[_EVIDENCE] or 0)


def _ack_row(event: Ack, number: int, about: Circumstances) -> Row:
    return _fill(
        "A",
        about.account,
        item=event.item or "",
        location=event.location or "",
        status="N" if event.quantity is None else "",
        number=event.quantity or 0,
        version=event.version,
        at_ms=about.at_ms,
        op=f"ack:{event.key}" if event.key is not None else f"{about.op}:{number}",
        cause=about.cause,
        sku=event.batch or "",
        group=SEPARATOR.join((event.order or "", event.line or "")) if event.order else "",
        extra=event.reference or "",
    )


def _evidence_ms(source_time_us: int | None, about: Circumstances) -> int:
    """A read is evidence for when it was asked, a push for its source time and never for later."""
    if about.is_read or source_time_us is None:
        return about.at_ms
    return max(0, min(source_time_us // 1000, about.at_ms))


def _fill(  # noqa: PLR0913 - the sixteen fields of a row, by name
    kind: str,
    account: str,
    *,
    item: str = "",
    location: str = "",
    status: str = "",
    number: int = 0,
    version: Version | None = None,
    at_ms: int = 0,
    evidence_ms: int = 0,
    op: str = "",
    cause: str = "",
    sku: str = "",
    group: str = "",
    extra: str = "",
) -> Row:
    scale, digits, resolution = "", "", 0
    if version is not None:
        scale, digits, resolution = _SCALE[version.scale], f"{version.number:020d}", version.resolution
    return (
        kind, account, item, location, status, str(number), scale, digits, str(resolution),
        str(at_ms), str(evidence_ms), op, cause, sku, group, extra,
    )  # fmt: skip


_NOTHING: Final = b"0|0|0|0|0|0|A|0|0|0|0|0||"


def reading_of(
    position: Position, watermarks: Mapping[str, int], answers: Sequence[bytes | None], skus: Sequence[str]
) -> Reading:
    """Return the stored answers of some SKUs, in their order, with the position they were read at."""
    found = tuple(answer_of(sku, packed, watermarks) for sku, packed in zip(skus, answers, strict=True))
    return Reading(position=position, answers=found)


def position_of(stored: Sequence[bytes | None]) -> Position:
    """Read epoch, sequence and feed sequence of a merchant's head; one without a head is at the beginning."""
    epoch, seq, feed_seq = stored
    return Position(epoch=(epoch or b"").decode(), seq=int(seq or 0), feed_seq=int(feed_seq or 0))


def marks_of(stored: Sequence[bytes]) -> dict[str, int]:
    """Read a merchant's watermarks: of each account, up to when it has told everything, in ms."""
    return {name.decode(): int(at) for name, at in zip(stored[::2], stored[1::2], strict=True)}


def answer_of(sku: str, packed: bytes | None, watermarks: Mapping[str, int]) -> Answer:
    """Read the stored answer of one SKU; one that no source has reported has ``ver`` 0."""
    stored = _NOTHING if packed is None else packed
    return _answer(sku, stored, _as_of_ms(_cells(stored.split(b"|", _CELLS)[_CELLS]), watermarks))


# Many ask for the same few SKUs, and what was read of one stays as it is until it changes.
@lru_cache(maxsize=READ_KEPT)
def _answer(sku: str, packed: bytes, as_of_ms: int) -> Answer:
    *head, cells = packed.split(b"|", _CELLS)
    ver, seq, ats, held, known, gone, cat, backorder, degraded, stale, lag, ref, by = head
    return Answer(
        sku=sku,
        ver=int(ver),
        seq=int(seq),
        ats=int(ats),
        held=int(held),
        known=known == b"1",
        gone=gone == b"1",
        discontinued=cat == b"D",
        backorder=backorder == b"1",
        as_of_ms=as_of_ms,
        by=by.decode(),
        degraded=degraded == b"1",
        stale=stale == b"1",
        lag=int(lag),
        ref=int(ref),
        cells=_cells(cells),
    )


@lru_cache(maxsize=READ_KEPT)
def _cells(packed: bytes) -> tuple[Cell, ...]:
    return tuple(_cell(cell) for cell in packed.decode().split(LIST_SEPARATOR)[:-1])


def _cell(packed: str) -> Cell:
    evidence, account, base, place, held = packed.split(SEPARATOR)
    return Cell(place=place, account=account, base=int(base), held=int(held), evidence_ms=int(evidence))


def footing_of(sku: str, packed: bytes | None) -> Footing:
    """Read of a stored answer what it rests on; many are read in a row, so none is remembered."""
    *head, cells = (_NOTHING if packed is None else packed).split(b"|", _CELLS)
    is_told = head[_KNOWN] == b"1" and head[_GONE] != b"1"
    return Footing(
        sku=sku,
        discontinued=head[_CATALOGUE] == b"D",
        backorder=head[_BACKORDER] == b"1",
        ref=int(head[_REF]),
        cells=_counted(cells) if is_told else (),
    )


def _counted(packed: bytes) -> tuple[tuple[str, str], ...]:
    parts = (cell.split(SEPARATOR) for cell in packed.decode().split(LIST_SEPARATOR)[:-1])
    return tuple((intern(place), intern(account)) for _, account, _, place, _ in parts)


def _as_of_ms(cells: Sequence[Cell], watermarks: Mapping[str, int]) -> int:
    """Return the oldest evidence among the counted locations, as fresh as the accounts are complete."""
    return min((max(cell.evidence_ms, watermarks.get(cell.account, 0)) for cell in cells), default=0)


def feed_entry_of(entry_id: bytes, fields: Mapping[bytes, bytes]) -> FeedEntry:
    """Read one entry of a merchant's feed stream."""
    return FeedEntry(
        seq=int(entry_id.split(b"-", 1)[0]),
        previous=int(fields[b"p"]),
        reported_ms=int(fields[b"t"]),
        answer=_answer(fields[b"sku"].decode(), fields[b"answer"], int(fields[b"asof"])),
        whose=tuple(fields[b"whose"].decode().split(SEPARATOR)) if b"whose" in fields else (),
    )
