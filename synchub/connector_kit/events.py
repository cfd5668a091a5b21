"""The five things a platform can tell the hub, in the hub's own words.

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
    """A change by an amount, positive or negative. Counted once, by its delivery's dedupe id."""

    item: str
    location: str
    amount: int
    reason: str
    version: Version | None = None
    source_time_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tickle:
    """Something about this item changed and the delivery does not say what: fetch it."""

    item: str
    location: str | None = None


class OrderStatus(StrEnum):
    """The state of an order line, not a movement."""

    PLACED = "placed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    """The present state of one line of one order."""

    order: str
    line: str
    item: str
    location: str | None
    quantity: int
    """Open units of the line."""
    status: OrderStatus
    ordered_at_us: int | None = None
    reference: str | None = None
    """A name that we gave the sale, such as a reservation id."""
    version: Version | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """The source says that its level now includes ``quantity`` units of a sale."""

    item: str
    quantity: int
    order: str | None = None
    line: str | None = None
    reference: str | None = None
    version: Version | None = None


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


StockEvent: TypeAlias = Level | Delta | Tickle | OrderLine | Ack | Catalogue
