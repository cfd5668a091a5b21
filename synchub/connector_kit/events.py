"""The things a platform can tell the hub, in the hub's own words.

A connector's ``normalize`` returns these and nothing else. ``item`` and
``location`` are the *platform's* identifiers, always text; the hub maps them to
the merchant's SKUs and locations. Quantities are integers in the SKU's smallest
unit; a quantity that is not known is ``None`` and never zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

MAX_QUANTITY: Final = 10**12
"""Largest magnitude of one quantity: a thousand of them still sum exactly in a double."""

MAX_VERSION: Final = 10**20 - 1
"""Versions are kept as 20 decimal digits, so 64-bit sequences compare exactly."""


class Scale(StrEnum):
    """What a version counts. Two scales are never compared with each other."""

    SEQUENCE = "sequence"
    """The source's own counter: every change has a new number."""

    TIME = "time"
    """Microseconds since the epoch by the source's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """The source's own order of its reports on one item and location.

    ``resolution`` is 0 for a strict version (each change has another number);
    otherwise two changes may share a number as long as they are less than
    ``resolution`` apart (1_000_000 for times that stop at the second).
    """

    scale: Scale
    number: int
    resolution: int = 0


class LevelStatus(StrEnum):
    """What a level report says about its location."""

    KNOWN = "known"
    """``quantity`` is the number."""

    UNKNOWN = "unknown"
    """The platform reported no number (null): asks for a fetch, replaces nothing."""

    UNTRACKED = "untracked"
    """The platform does not count this item."""

    CLOSED = "closed"
    """The item is no longer stocked at this location."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """An absolute quantity of one item at one location."""

    item: str
    location: str
    quantity: int | None
    status: LevelStatus = LevelStatus.KNOWN
    version: Version | None = None
    source_time_us: int | None = None
    """When the source says it was true, for its evidence time; ``None``: on arrival."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A change by an amount, positive or negative. Counted once, by its key."""

    item: str
    location: str
    amount: int
    reason: str
    version: Version | None = None
    source_time_us: int | None = None
    key: str | None = None
    """The source's id of this very change, unique within the account; one told twice, by a delivery and a
    poll, counts once. ``None``: the delivery's dedupe id, or the record's key, and its place there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tickle:
    """Something about this item changed and the delivery does not say what: fetch it."""

    item: str
    location: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A sign that deliveries arrive; says nothing about stock."""

    every_ms: int | None = None
    """How soon the next one follows, by the sender; ``None``: only when it is asked for."""


class OrderStatus(StrEnum):
    """The state of an order line, not a movement."""

    PLACED = "placed"
    """``quantity`` units of it are sold; none is a state too."""

    CANCELLED = "cancelled"
    """No unit of it will leave; ``quantity`` is 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    """The present state of one line of one order: how many units it takes, not what changed.

    A line's state is replaced by the one with the newer ``version``; the hub works out the
    difference. Shipping is no change of it: units that have left are sold as before.
    """

    order: str
    """The platform's id of the order, by which other systems know it too."""
    line: str
    """The platform's id of the line, unique within the order."""
    item: str
    """What is sold, by an id that the account's map knows or that ``fetch_levels`` can resolve."""
    location: str | None = None
    """Where the units are taken from; ``None``: the platform has not said so (yet)."""
    quantity: int
    """Open units now: ordered less those cancelled before they left. Never negative.

    A return is not taken off, nor is a refund of money: what comes back is a level's matter.
    """
    status: OrderStatus
    ordered_at_us: int | None = None
    """When the order was placed, by the platform's clock; the same in all states of a line."""
    happened_at_us: int | None = None
    """The last moment at which the line can have come into this state, by the platform's clock.

    The upper end of what the written time may mean: ``…05Z`` stands for 05.999999. A level
    that is surely later includes this state, if the platform takes its own orders off its
    level. ``None``: not known; ``ordered_at_us`` stands for it only while a line is unchanged.
    """
    references: tuple[str, ...] = ()
    """Names that the hub gave the sale, such as the id of a reservation; claims of the sender."""
    version: Version | None = None
    """The platform's order of the states of this line; ``None``: states are told in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """The source's level now includes units of a sale that it may not have taken itself.

    Only the event that lowers (or raises again) the very number that the source reports is
    an acknowledgement: ``reports.lowered_by`` in the manifest.
    """

    item: str | None = None
    """What was sold; may be left out where order and line, or the batch, say it."""
    quantity: int | None
    """Units that the level includes from now on; negative: so many have been given back to it.

    ``None``: all of them, of the batch if there is one, otherwise of the whole order: the
    source counts none of those units as taken any more, and will not take those that are
    cancelled. One that comes before what it takes back still does.
    """
    location: str | None = None
    """Where the source took the units from; the sale moves there. ``None``: not said."""
    order: str | None = None
    """The order's id in the system that took the order, which is often another account."""
    line: str | None = None
    """The line's id in that system."""
    reference: str | None = None
    """A name that the hub gave the sale, or the only name under which the source knows it."""
    version: Version | None = None
    """The version of the first level that includes the units; ``None``: the next read does."""
    key: str | None = None
    """The source's id of this very fact, such as a shipment and its line.

    Unique within the account; one told twice counts once, in whatever delivery.
    ``None``: the delivery's dedupe id and the row's place.
    """
    batch: str | None = None
    """The source's id of an act that several acknowledgements belong to, and by which it takes them back."""


class CatalogueStatus(StrEnum):
    """What the catalogue says about an item."""

    ACTIVE = "active"
    DISCONTINUED = "discontinued"
    REMOVED = "removed"
    """The platform no longer has the item: its levels no longer count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """Stock on its way."""

    quantity: int
    expected_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What an item is. Fields that are ``None`` say nothing and change nothing.

    ``item`` may be ``None`` only when ``group`` names all the items meant (a
    product whose variants are items).
    """

    item: str | None
    group: str | None = None
    sku: str | None = None
    """The merchant's SKU of the item: feeds the account's map."""
    status: CatalogueStatus | None = None
    backorder: bool | None = None
    """Whether the item may be sold when there is none."""
    substitutes: tuple[str, ...] | None = None
    incoming: tuple[Incoming, ...] | None = None


StockEvent: TypeAlias = Level | Delta | Tickle | OrderLine | Ack | Catalogue | Heartbeat
