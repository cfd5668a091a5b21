"""The nouns of availability: the state of a SKU as one asker sees it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from synchub.connector_kit.events import Incoming


class State(StrEnum):
    """What an agent may conclude; exactly one holds."""

    IN_STOCK = "IN_STOCK"
    LOW_STOCK = "LOW_STOCK"
    OUT_OF_STOCK = "OUT_OF_STOCK"
    BACKORDERED = "BACKORDERED"
    RESERVED = "RESERVED"
    """Nothing is left only because live holds have taken it; it may come back within seconds."""
    DISCONTINUED = "DISCONTINUED"
    UNKNOWN_SKU = "UNKNOWN_SKU"
    """No source has ever reported it. An answer, not an error: agents ask for what they saw elsewhere."""


IN_HAND: Final = frozenset({State.IN_STOCK, State.LOW_STOCK})
"""States in which there are units to sell now."""

SELLABLE: Final = IN_HAND | {State.BACKORDERED}
"""States in which an order may be placed."""


class Assumption(StrEnum):
    """Which policy stood in for evidence that was missing."""

    ON_STALE = "on_stale"
    ON_UNKNOWN = "on_unknown"


class Pressure(StrEnum):
    """What an agent is asked to do when there is little."""

    NONE = "none"
    SLOW_DOWN = "slow_down"
    PREFER_ALTERNATIVES = "prefer_alternatives"
    BACKORDER_ONLY = "backorder_only"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One answer as one kind of asker sees it."""

    state: State
    visible: int | None
    """Units this asker could be granted, never negative; None: assumed to be there, nobody knows how many."""
    available: int | None
    """What is told of ``visible``: exact, rounded down to a bucket, or None."""
    degraded: bool
    """The number rests on stale, second-best or missing evidence."""
    decided_by: Assumption | None
    """The policy that was asked because evidence was missing; None: the number speaks for itself."""
    pressure: Pressure
    retry_after_ms: int
    """When asking again may help; 0: it will not, follow the feed."""
    ttl_ms: int
    """How long an asker without a feed may keep the answer."""

    @property
    def is_sellable(self) -> bool:
        """Whether an order may be placed."""
        return self.state in SELLABLE

    @property
    def is_in_hand(self) -> bool:
        """Whether there are units to sell now."""
        return self.state in IN_HAND

    def covers(self, quantity: int) -> bool:
        """Say whether so many units could be granted now; a backorder covers nothing."""
        if self.visible is None:
            return self.is_in_hand
        return self.is_in_hand and self.visible >= quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What the catalogue says about a SKU for the time when there is none."""

    substitutes: tuple[str, ...] = ()
    """The merchant's SKUs to take instead, best first."""
    incoming: tuple[Incoming, ...] = ()
    """Stock on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restock:
    """The arrival from which on an asker could be granted something."""

    expected_at_ms: int
    units: int
    """What would then be visible, at least 1."""
