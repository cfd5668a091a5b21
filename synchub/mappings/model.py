"""What is mapped, and what waits because it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mappings:
    """The maps of one account; of the items at most as many as were asked for."""

    items: Mapping[str, str]
    """Platform item to SKU, only where stored: an item that *is* the SKU needs no entry."""
    items_total: int
    locations: Mapping[str, str]
    """Platform location to the merchant's location."""


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
