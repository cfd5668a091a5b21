"""What is mapped, and what waits because it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A SKU in an item, and how many of its units one item is."""

    sku: str
    units: int = 1


class Decision(StrEnum):
    """What a person says of one more source of a SKU."""

    SUM = "sum"
    """Several items of the account lie apart from each other: their numbers add up."""
    SAME_POOL = "same_pool"
    """Several items of the account count the same units: the better evidence counts."""
    YES = "yes"
    """The source counts beside those of other accounts and locations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision and what it is about; empty SKU and place: all of the account's."""

    sku: str
    place: str
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Mappings:
    """The maps of one account; of the items at most as many as were asked for."""

    items: Mapping[str, str]
    """Platform item to SKU, only where stored: an item that *is* the SKU needs no entry."""
    kits: Mapping[str, tuple[Part, ...]]
    """Items that are packs or kits, to their parts; they sell them and have no level of their own."""
    items_total: int
    locations: Mapping[str, str]
    """Platform location to the merchant's location."""
    decided: tuple[Decided, ...]
    totals: Mapping[str, tuple[str, ...]]
    """The merchant's locations that are totals, to those that they cover; ``*`` is all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """Events of one item that wait for a mapping."""

    item: str
    levels: int
    """Latest levels, one per location."""
    changes: int
    """Single changes; all of them are kept."""
    locations: tuple[str, ...]
    """The platform's locations they speak of."""
    since_ms: int
    undecided: tuple[tuple[str, str], ...] = ()
    """SKUs and places at which it is one more source, to be decided about; empty: it waits for a mapping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedPage:
    """What waits for one account, longest first; ``total`` counts items beyond this page too."""

    items: tuple[Parked, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much of an account is mapped and how much waits."""

    items: int
    locations: int
    parked: int
