"""A delivery on its way: queued, understood, or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synchub.connector_kit.delivery import Delivery
    from synchub.connector_kit.events import Heartbeat
    from synchub.stock.model import Applied
    from synchub.stock.rules import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A verified delivery as the ingest stream holds it."""

    id: str
    """Id of the stream entry."""
    delivery: Delivery
    tries: int = 1
    """How often a worker has taken it, this time included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """What a delivery asks to be applied, and what became of it."""

    queued: Queued
    merchant: str
    rows: tuple[Row, ...]
    results: tuple[Applied, ...] = ()
    """One per row; empty until it has been applied."""
    topic: str = ""
    heartbeats: tuple[Heartbeat, ...] = ()
    """Signs of life in it, which are no rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Misunderstood:
    """Rightly signed, and not acted on; a person decides."""

    queued: Queued
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A fault of the hub while handling it: tried again, and put aside after the last try."""

    queued: Queued
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PutAside:
    """A delivery in quarantine or on the dead-letter list."""

    id: str
    queued: Queued
    reason: str
    put_aside_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """How much was put aside in one place, and since when."""

    count: int
    oldest_at_ms: int
    """When the oldest was put there; 0: none was."""
