"""From a ``stock.changed`` body to events.

The order of a source's reports is its ``sequence``, one number for the whole
delivery; without it each row's ``as_of``, as fine as its digits are. A level
with neither is refused, because an older one that arrives later could not be
told from a newer one.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from connectors.standard.payloads import BeatBody, Body, Data
from synchub.connector_kit.events import (
    Ack,
    Catalogue,
    CatalogueStatus,
    Delta,
    Heartbeat,
    Incoming,
    Level,
    LevelStatus,
    OrderLine,
    OrderStatus,
    Scale,
    StockEvent,
    Version,
)
from synchub.connector_kit.payloads import (
    identifier,
    latest_us,
    parse,
    quantity,
    read_json,
    resolution_us,
    sequence,
    time_us,
)
from synchub.errors import PayloadRefused

if TYPE_CHECKING:
    from connectors.standard.payloads import Acknowledged, Change, Item, Order
    from synchub.connector_kit.delivery import Delivery

TOPIC: Final = "stock.changed"
HEARTBEAT: Final = "stock.heartbeat"
EVERY_S_MAX: Final = 86_400
SELLABLE: Final = "sellable"

REFERENCES_MAX: Final = 16
"""Reservations that one line of an order can have come from."""


def normalize(topic: str, delivery: Delivery) -> tuple[StockEvent, ...]:
    """Return the events of all rows (levels, deltas, orders, acknowledgements, catalogue), or a sign of life.

    Rows in another state than ``sellable`` say nothing about what can be sold and
    give no event.

    Raises:
        PayloadRefused: another topic, or a row that is not of the documented form.
    """
    if topic == HEARTBEAT:
        return (_heartbeat(parse(BeatBody, read_json(delivery.body))),)
    if topic != TOPIC:
        msg = f"This connector reads {TOPIC} and {HEARTBEAT} only."
        raise PayloadRefused(msg)
    body = parse(Body, read_json(delivery.body))
    version = _version_of(body.data)
    said_us = None if body.timestamp is None else time_us(body.timestamp, "timestamp")
    sellable = [row for row in body.data.changes if row.state == SELLABLE]
    events = [_change(row, version, said_us) for row in sellable]
    _check_repeats(events)
    return (
        *events,
        *(_order(row, version, body.timestamp) for row in body.data.orders),
        *(_ack(row, version) for row in body.data.acks),
        *(_catalogue(row) for row in body.data.catalogue),
    )


def _change(row: Change, version: Version | None, said_us: int | None) -> Level | Delta:
    as_of_us = said_us if row.as_of is None else time_us(row.as_of, "changes.as_of")
    version = version or _time_version(row.as_of)
    item = identifier(row.sku, "changes.sku")
    location = identifier(row.location_id, "changes.location_id")
    if row.mode == "delta":
        return Delta(
            item=item,
            location=location,
            amount=quantity(row.quantity, "changes.quantity"),
            reason=row.reason or TOPIC,
            version=version,
            source_time_us=as_of_us,
        )
    if version is None:
        msg = "An absolute row needs as_of, or the delivery a sequence."
        raise PayloadRefused(msg)
    known = row.quantity is not None
    return Level(
        item=item,
        location=location,
        quantity=quantity(row.quantity, "changes.quantity") if known else None,
        status=LevelStatus.KNOWN if known else LevelStatus.UNKNOWN,
        version=version,
        source_time_us=as_of_us,
    )


def _check_repeats(events: list[Level | Delta]) -> None:
    """Refuse a level beside another row on the same SKU and location: which came first is not said."""
    rows = Counter((event.item, event.location) for event in events)
    if any(isinstance(event, Level) and rows[event.item, event.location] > 1 for event in events):
        msg = "Two rows of changes speak of one SKU at one location, and one of them is absolute."
        raise PayloadRefused(msg)


def _order(row: Order, version: Version | None, said: str | None) -> OrderLine:
    # Never the time of the order itself: a line may have been changed long after it.
    changed = said if row.happened_at is None else row.happened_at
    cancelled = row.status == "cancelled"
    units = _units(row.quantity, "orders.quantity")
    return OrderLine(
        order=identifier(row.order_id, "orders.order_id"),
        line=identifier(row.line, "orders.line"),
        item=identifier(row.sku, "orders.sku"),
        location=_optional(row.location_id, "orders.location_id"),
        quantity=0 if cancelled else units,
        status=OrderStatus(row.status),
        ordered_at_us=None if row.ordered_at is None else time_us(row.ordered_at, "orders.ordered_at"),
        happened_at_us=None if changed is None else latest_us(changed, "orders.happened_at"),
        references=_references(row),
        version=version or _time_version(changed),
    )


def _references(row: Order) -> tuple[str, ...]:
    given = [name for name in (row.reference, *row.references) if name is not None]
    if len(given) > REFERENCES_MAX:
        msg = f"A line of an order has more than {REFERENCES_MAX} references."
        raise PayloadRefused(msg)
    return tuple(dict.fromkeys(identifier(name, "orders.references") for name in given))


def _ack(row: Acknowledged, version: Version | None) -> Ack:
    by_line = row.order_id is not None and row.line is not None
    if row.reference is None and not by_line:
        msg = "An acknowledgement names a reference, or an order_id and its line."
        raise PayloadRefused(msg)
    if row.sku is None and not by_line:
        msg = "An acknowledgement by reference names its SKU: a reservation may hold several."
        raise PayloadRefused(msg)
    return Ack(
        item=_optional(row.sku, "acks.sku"),
        quantity=quantity(row.quantity, "acks.quantity"),
        location=_optional(row.location_id, "acks.location_id"),
        order=_optional(row.order_id, "acks.order_id"),
        line=_optional(row.line, "acks.line"),
        reference=_optional(row.reference, "acks.reference"),
        version=_included_since(row.version) or version,
        key=_optional(row.key, "acks.key"),
    )


def _catalogue(row: Item) -> Catalogue:
    substitutes, incoming = row.substitutes, row.incoming
    return Catalogue(
        item=identifier(row.sku, "catalogue.sku"),
        status=None if row.status is None else CatalogueStatus(row.status),
        backorder=None if row.backorder is None else row.backorder.allowed,
        substitutes=None
        if substitutes is None
        else tuple(identifier(sku, "catalogue.substitutes") for sku in substitutes),
        incoming=None
        if incoming is None
        else tuple(
            Incoming(
                quantity=_units(arrival.quantity, "catalogue.incoming.quantity"),
                expected_at_us=time_us(arrival.expected_at, "catalogue.incoming.expected_at"),
            )
            for arrival in incoming
        ),
    )


def _heartbeat(body: BeatBody) -> Heartbeat:
    every_s = body.data.every_s
    if every_s is None:
        return Heartbeat()
    is_number = isinstance(every_s, int | Decimal) and not isinstance(every_s, bool)
    if not is_number or not Decimal("0.1") <= Decimal(str(every_s)) <= EVERY_S_MAX:
        msg = f"every_s is a number of seconds between 0.1 and {EVERY_S_MAX}."
        raise PayloadRefused(msg)
    return Heartbeat(every_ms=int(Decimal(str(every_s)) * 1000))


def _version_of(data: Data) -> Version | None:
    if data.sequence is None:
        return None
    return Version(scale=Scale.SEQUENCE, number=sequence(data.sequence, "sequence"))


def _time_version(moment: str | None) -> Version | None:
    if moment is None:
        return None
    return Version(scale=Scale.TIME, number=time_us(moment, "as_of"), resolution=resolution_us(moment))


def _included_since(version: object) -> Version | None:
    """Return the level version an acknowledgement names: a sequence, or a time."""
    if version is None:
        return None
    if isinstance(version, str) and not version.isdecimal():
        return _time_version(version)
    return Version(scale=Scale.SEQUENCE, number=sequence(version, "acks.version"))


def _optional(value: object, what: str) -> str | None:
    return None if value is None else identifier(value, what)


def _units(value: object, what: str) -> int:
    units = quantity(value, what)
    if units < 0:
        msg = f"{what} is less than nothing."
        raise PayloadRefused(msg)
    return units
