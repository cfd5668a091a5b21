"""What an agent is given: items, changes, sources, and what a feed follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(StrEnum):
    """States of a SKU that are known today; an item may carry a newer one as plain text."""

    IN_STOCK = "IN_STOCK"
    LOW_STOCK = "LOW_STOCK"
    BACKORDERED = "BACKORDERED"
    RESERVED = "RESERVED"
    OUT_OF_STOCK = "OUT_OF_STOCK"
    DISCONTINUED = "DISCONTINUED"
    UNKNOWN_SKU = "UNKNOWN_SKU"


_ORDERABLE: Final = frozenset({State.IN_STOCK, State.LOW_STOCK, State.BACKORDERED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One SKU as the hub tells it."""

    sku: str
    ver: int
    """Grows with every change of this SKU; of two items the higher one is the newer."""
    state: str
    """One of :class:`State`, or one that this version does not know."""
    available: int | None
    """Units that may be promised; None where the merchant tells no number."""
    as_of: str | None = None
    """When the oldest report behind the number was true, as RFC 3339 text; None without a report."""
    source: str | None = None
    """The account that ``as_of`` belongs to."""
    degraded: bool = False
    """The number rests on stale, second-best or missing reports."""
    more: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)
    """Fields that this version does not know."""

    @property
    def is_orderable(self) -> bool:
        """Whether an order may be placed; false for a state that this version does not know."""
        return self.state in _ORDERABLE

    @property
    def reported_at(self) -> datetime | None:
        """``as_of`` as a time with zone."""
        return None if self.as_of is None else datetime.fromisoformat(self.as_of)


class ChangeKind(StrEnum):
    """What has happened to a SKU."""

    UPDATED = "updated"
    """There is a newer item."""
    INVALIDATED = "invalidated"
    """It has changed and the feed does not say into what: ``read`` it."""
    REMOVED = "removed"
    """The feed does not follow it any more, or the merchant has it no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The latest about one SKU; what came in between is not repeated."""

    sku: str
    kind: ChangeKind
    item: Item | None
    """Present iff the kind is ``updated``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """How an account behind the numbers does; a fresh feed may rest on a silent warehouse."""

    account: str
    status: str
    asof: object
    """Up to when the account is known to have told everything, as the hub writes it."""


class Mode(StrEnum):
    """What a feed carries."""

    UPD = "upd"
    """The new state of what has changed."""
    INV = "inv"
    """Only that it has changed; values are fetched when somebody wants them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Which SKUs a feed follows: those named, those that start with ``prefix``, or all."""

    skus: frozenset[str] | None = None
    prefix: str = ""
    mode: Mode = Mode.UPD

    @property
    def is_named(self) -> bool:
        """Whether the SKUs are given by name."""
        return self.skus is not None

    def matches(self, sku: str) -> bool:
        """Whether the feed is to tell of this SKU."""
        return sku.startswith(self.prefix) if self.skus is None else sku in self.skus
