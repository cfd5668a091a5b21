"""From a ledger's effects to the sales and sources that they add up to. Pure.

An effect says what something has become and not what was done to it, so telling one
twice changes nothing: a history that went back and told the same again adds up alike.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from synchub.keyspace import LIST_SEPARATOR, SEPARATOR
from synchub.recovery.model import Ack, Books, Sale, Source, Units, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from synchub.ledger.model import LedgerEntry

_SOURCE: Final = frozenset({"level", "delta", "status"})
_SOLD: Final = frozenset({"committed", "confirming"})
_HELD: Final = "held:"
_BROUGHT_BACK: Final = "restored:"
_READ: Final = "read:"
_SCALE: Final = re.compile(r"(\D*)(\d*)")
LINES_AT_ONCE: Final = 100
"""Sales that one step of the store brings back."""


def take(books: Books, entry: LedgerEntry, *, is_lost: bool) -> None:
    """Change the books by one effect. ``is_lost``: the store's present history does not have it."""
    more = dict(entry.more)
    books.entries += 1
    books.lost += is_lost
    if "joined" in more:
        _join(books, more["joined"].split(LIST_SEPARATOR))
    if entry.sku and entry.field != "epoch":
        books.numbers[entry.sku] = entry.ats
    if entry.field in _SOURCE:
        _take_source(books, entry, more, is_lost=is_lost)
    elif entry.field == "catalogue":
        books.catalogue[entry.sku] = entry.after
    elif entry.field == "hold":
        _take_hold(books, entry, more, is_lost=is_lost)
    elif entry.field == "ack":
        _take_ack(books, entry, more)
    elif entry.field == "settled" or "moved" in more:
        if gone := books.sales.pop(more.get("ref", ""), None):
            books.moved[gone.id] = gone
    elif entry.field == "sale":
        _take_order(books, entry, more, is_lost=is_lost)


def portions(books: Books) -> Iterator[list[dict[str, Any]]]:
    """Yield what is lost, in the form that the script takes and in portions for one step each.

    Of each SKU first the sales and then its sources: so nobody is ever shown more than there is.
    """
    portion: list[dict[str, Any]] = []
    room = LINES_AT_ONCE
    for one in _by_sku(books):
        portion.append(one)
        room -= len(one["sales"]) + 1
        if room <= 0:
            yield portion
            portion, room = [], LINES_AT_ONCE
    if portion:
        yield portion


def lost_sales(books: Books) -> list[Sale]:
    """Return the sales that the store's present history does not have."""
    return [sale for sale in books.sales.values() if sale.is_lost and sale.sold > 0]


def lost_sources(books: Books) -> list[Source]:
    """Return the sources of which the store's present history says nothing."""
    return [source for source in books.sources.values() if source.is_lost]


def _take_source(books: Books, entry: LedgerEntry, more: dict[str, str], *, is_lost: bool) -> None:
    name = (entry.sku, entry.account, entry.item, entry.place)
    if not entry.after:
        books.sources.pop(name, None)
        return
    known = books.sources.get(name)
    version = _version(entry, more) if entry.field == "level" else known.version if known else Version()
    if version.digits == "" and not version.scale and entry.version:
        version = Version(scale=_version(entry, more).scale)
    is_brought_back = entry.cause.startswith(_BROUGHT_BACK) and known is not None
    read_ms, at_ms = known.read_ms if known else 0, known.at_ms if known and is_brought_back else entry.at_ms
    if entry.cause.startswith(_READ):
        read_ms = max(read_ms, _number(entry.cause.removeprefix(_READ)))
    books.sources[name] = Source(
        name=name,
        said=entry.after,
        version=version,
        read_ms=read_ms,
        at_ms=at_ms,
        seq=entry.seq,
        is_lost=is_lost,
    )


def _take_order(books: Books, entry: LedgerEntry, more: dict[str, str], *, is_lost: bool) -> None:
    sale = _sale(books, more.get("ref", entry.item), entry, is_lost=is_lost)
    wanted, was_ordered = _number(entry.after), bool(sale.order)
    if not sale.takes and _number(entry.before) > 0:
        sale.takes.append(Units(units=_number(entry.before), at_ms=entry.at_ms))
    kind, *parts = sale.id.split(SEPARATOR)
    group = more["order"] if "order" in more else SEPARATOR.join(parts[1:-1]) if kind == "o" else ""
    if group:
        account = parts[0] if kind == "o" else entry.account
        sale.order, sale.item = account + SEPARATOR + group, entry.item or sale.item
        _name_order(sale, account, group)
    for reference in filter(None, more.get("refs", "").split(LIST_SEPARATOR)):
        _name(sale, "h", reference)
        _name(sale, "r", reference)
    if entry.version:
        sale.version = _version(entry, more)
    before = books.moved.pop(more.get("moved_from", ""), None)
    if before is not None and not sale.takes and before.open == wanted:
        _go_along(sale, before)
    if wanted > sale.open:
        sale.takes.append(Units(units=wanted - sale.open, at_ms=entry.at_ms, us=more.get("us", "")))
    elif wanted < sale.open and not was_ordered and not sale.acks and wanted > 0:
        # Fewer were ordered than the hub had sold: nobody has heard of the others.
        sale.takes = [Units(units=wanted, at_ms=entry.at_ms, us=more.get("us", ""))]
    elif wanted < sale.open:
        sale.gives.append(Units(units=sale.open - wanted, at_ms=entry.at_ms, us=more.get("us", "")))
    sale.places = _places(more) or {entry.place: sale.sold}


def _go_along(sale: Sale, before: Sale) -> None:
    """The item has become another SKU: what was known of its sale is known of this one."""
    sale.takes, sale.gives, sale.acks = before.takes, before.gives, before.acks
    sale.version, sale.hold = before.version, sale.hold or before.hold
    for name in before.names:
        kind, *parts = name.split(SEPARATOR)
        _name(sale, kind, SEPARATOR.join(parts[:-1]))


def _take_ack(books: Books, entry: LedgerEntry, more: dict[str, str]) -> None:
    sale = books.sales.get(more.get("ref", ""))
    if sale is None:
        # It came before its sale, whose effects will have its name.
        sale = _sale(books, more.get("ref", ""), entry, is_lost=False)
    ack = Ack(
        account=entry.account,
        units=_number(entry.after),
        place=entry.place,
        version=_version(entry, more),
        at_ms=entry.at_ms,
        is_dropped="dropped" in more,
    )
    if ack not in sale.acks:
        sale.acks.append(ack)


def _take_hold(books: Books, entry: LedgerEntry, more: dict[str, str], *, is_lost: bool) -> None:
    place = entry.place if (entry.sku, entry.item, entry.place) in books.holds else ""
    if entry.after.startswith(_HELD):
        books.holds[entry.sku, entry.item, entry.place] = _number(entry.after.removeprefix(_HELD))
        return
    units = _number(entry.before.removeprefix(_HELD))
    books.holds.pop((entry.sku, entry.item, place), None)
    own = SEPARATOR.join(("h", entry.item, entry.sku))
    if entry.after in _SOLD and entry.before.startswith(_HELD):
        sale = _sale(books, more.get("line", own), entry, is_lost=is_lost)
        sale.hold = sale.hold or entry.item
        _name(sale, "h", entry.item)
        if "order" in more:
            _name(sale, "c", more["order"])
        if "counted" not in more and place not in sale.bought_at:
            sale.bought_at.add(place)
            sale.takes.append(Units(units=units, at_ms=entry.at_ms))
            for at_place, sold in (_places(more) or {entry.place: units}).items():
                sale.places[at_place] = sale.places.get(at_place, 0) + sold
    elif entry.after == "voided" and not entry.before.startswith(_HELD):
        books.sales.pop(own, None)


def _sale(books: Books, name: str, entry: LedgerEntry, *, is_lost: bool) -> Sale:
    sale = books.sales.get(name)
    if sale is None:
        sale = books.sales[name] = Sale(
            id=name, sku=entry.sku, at_ms=entry.at_ms, seq=entry.seq, names=[name]
        )
        if name.startswith("h" + SEPARATOR):
            sale.hold = name.split(SEPARATOR)[1]
    if not entry.cause.startswith(_BROUGHT_BACK):
        sale.at_ms, sale.seq = entry.at_ms, entry.seq
    # What the present history tells of is in the store, or has been dealt with there.
    sale.is_lost = is_lost
    return sale


def _join(books: Books, ids: Sequence[str]) -> None:
    """Some lines have turned out to be one sale: of the others the names and acknowledgements are left."""
    for other_id, line_id in list(pairwise(ids))[::2]:
        other, line = books.sales.pop(other_id, None), books.sales.get(line_id)
        if other is None:
            continue
        if line is None:
            line = books.sales[line_id] = Sale(
                id=line_id, sku=other.sku, at_ms=other.at_ms, seq=other.seq, names=[line_id]
            )
        line.names += [name for name in other.names if name not in line.names]
        line.acks += other.acks
        line.hold = line.hold or other.hold


def _by_sku(books: Books) -> Iterator[dict[str, Any]]:
    sales: dict[str, list[Sale]] = {}
    for sale in lost_sales(books):
        sales.setdefault(sale.sku, []).append(sale)
    sources: dict[str, list[Source]] = {}
    for source in lost_sources(books):
        sources.setdefault(source.name[0], []).append(source)
    for sku in sorted({*sales, *sources}):
        waiting = sorted(sales.get(sku, ()), key=lambda sale: (sale.at_ms, sale.seq))
        while len(waiting) > LINES_AT_ONCE:
            yield _told(sku, waiting[:LINES_AT_ONCE])
            waiting = waiting[LINES_AT_ONCE:]
        yield _told(sku, waiting, sources.get(sku, ()), books.catalogue.get(sku, ""))


def _told(
    sku: str, sales: Iterable[Sale], sources: Iterable[Source] = (), catalogue: str = ""
) -> dict[str, Any]:
    return {
        "sku": sku,
        "sales": [_told_sale(sale) for sale in sales],
        "sources": [_told_source(source) for source in sources],
        "catalogue": catalogue,
    }


def _told_sale(sale: Sale) -> dict[str, Any]:
    account = sale.order.split(SEPARATOR)[0]
    return {
        "id": sale.id,
        "names": sale.names,
        "origin": account,
        "order": sale.order,
        "item": sale.item,
        "hold": sale.hold,
        "at": sale.at_ms,
        "seq": sale.seq,
        **_told_version(sale.version),
        "takes": [{"n": part.units, "at": part.at_ms, "us": part.us} for part in sale.takes],
        "gives": [{"n": part.units, "at": part.at_ms, "us": part.us} for part in sale.gives],
        "places": [{"place": place, "n": units} for place, units in sorted(sale.places.items()) if units],
        "acks": [_told_ack(ack) for ack in sale.acks],
    }


def _told_ack(ack: Ack) -> dict[str, Any]:
    return {
        "account": ack.account,
        "n": ack.units,
        "place": ack.place,
        "at": ack.at_ms,
        "dropped": ack.is_dropped,
        **_told_version(ack.version),
    }


def _told_source(source: Source) -> dict[str, Any]:
    _, account, item, place = source.name
    return {
        "account": account,
        "item": item,
        "place": place,
        "said": source.said,
        "read_at": source.read_ms,
        "at": source.at_ms,
        "seq": source.seq,
        **_told_version(source.version),
    }


def _told_version(version: Version) -> dict[str, Any]:
    return {"v": version.digits, "scale": version.scale, "resolution": version.resolution}


def _version(entry: LedgerEntry, more: dict[str, str]) -> Version:
    found = _SCALE.fullmatch(more.get("scale", ""))
    if not entry.version or found is None or not found[1]:
        return Version()  # from before scales were noted: better no version than one that cannot be compared
    return Version(digits=entry.version, scale=found[1], resolution=_number(found[2]))


def _name_order(sale: Sale, account: str, group: str) -> None:
    order, _, line = group.partition(SEPARATOR)
    for name in (
        SEPARATOR.join(("o", account, group, sale.sku)),
        SEPARATOR.join(("l", group, sale.sku)) if line else "",
        SEPARATOR.join(("c", order, sale.sku)) if order else "",
    ):
        if name and name not in sale.names:
            sale.names.append(name)


def _name(sale: Sale, kind: str, text: str) -> None:
    name = SEPARATOR.join((kind, text, sale.sku))
    if name not in sale.names:
        sale.names.append(name)


def _places(more: dict[str, str]) -> dict[str, int]:
    pairs = (part.rpartition(SEPARATOR) for part in more.get("places", "").split(LIST_SEPARATOR) if part)
    return {place: _number(units) for place, _, units in pairs}


def _number(text: str) -> int:
    return int(text) if text.lstrip("-").isdigit() else 0
