"""The nouns of availability: the state of a SKU as one asker sees it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


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


SELLABLE: Final = frozenset({State.IN_STOCK, State.LOW_STOCK, State.BACKORDERED})
"""States in which an order may be placed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One answer as one kind of asker sees it."""

    state: State
    available: int
    """Units that may be promised; never negative."""
    degraded: bool
    """The number rests on stale, second-best or missing evidence."""

    @property
    def is_sellable(self) -> bool:
        """Whether an order may be placed."""
        return self.state in SELLABLE
