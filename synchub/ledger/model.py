"""The nouns of the ledger: one effect, and a page of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NO_SEQUENCE: Final = 0
"""What is before a merchant's first entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One effect: something of a SKU was ``before`` and is ``after``.

    Texts are as the apply script writes them; an empty one says that there was, or
    is, nothing.
    """

    seq: int
    sku: str
    place: str
    account: str
    """Whose report or order caused it; empty for what the hub did by itself."""
    item: str
    """The platform's item, or the name of the sale or hold that it is about."""
    field: str
    """What has changed: ``level``, ``delta``, ``status``, ``catalogue``, ``answer``, ``sale``, ``hold`` …"""
    before: str
    after: str
    version: str
    cause: str
    at_ms: int
    """Hub time."""
    ats: int
    """What could be promised of the SKU after it."""
    more: tuple[tuple[str, str], ...] = ()
    """Fields that this version of the hub has no name for, in the order of their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPage:
    """Some entries in their order, and how to go on."""

    epoch: str
    head: int
    """Sequence of the newest entry."""
    oldest: int
    """Sequence of the oldest entry that the store still has; 0 when it has none."""
    entries: tuple[LedgerEntry, ...]
    next_after: int | None
    """Ask again after this sequence; None when the page reaches the head."""
