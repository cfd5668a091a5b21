"""What a process keeps for the time without its store, and what sources say then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synchub.connector_kit.events import Level
    from synchub.stock.model import Footing


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountMap:
    """How a merchant's names become those of one account."""

    items: Mapping[str, str | None]
    """SKU to its one item; None where several items are that SKU."""
    taken: frozenset[str]
    """Items that are mapped, so that none of them is the SKU of its own name."""
    places: Mapping[str, str]
    """The platform's location to the merchant's."""
    own_items: bool
    """An item that is not mapped is the SKU of that name."""
    own_places: bool

    @property
    def size(self) -> int:
        """How many mapped items it holds."""
        return len(self.taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantMap:
    """What has to be known of a merchant to ask the sources themselves. No number is part of it."""

    footings: Mapping[str, Footing]
    """By SKU."""
    accounts: Mapping[str, AccountMap]

    @property
    def size(self) -> int:
        """How many SKUs and mapped items it holds."""
        return len(self.footings) + sum(account.size for account in self.accounts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One item that has to be read to answer for a SKU."""

    account: str
    item: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a platform said of one item; nothing where it does not know it."""

    asked_ms: int
    """When the request was sent: what it says was true then or later."""
    levels: tuple[Level, ...]
