"""What the archive tells of a merchant's stock: sales, sources, and what only the store could have known."""

from __future__ import annotations

from dataclasses import dataclass, field

SourceName = tuple[str, str, str, str]
"""SKU, account, item and location."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A source's own order, as the ledger has it."""

    digits: str = ""
    scale: str = ""
    resolution: int = 0


@dataclass(slots=True, kw_only=True)
class Source:
    """The last word of one source."""

    name: SourceName
    said: str
    """Status, level and changes, in the ledger's words."""
    version: Version
    read_ms: int
    """When it was asked for, if it was."""
    at_ms: int
    seq: int
    is_lost: bool = False
    """The store's present history does not have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """So many were sold, or cancelled."""

    units: int
    at_ms: int
    us: str = ""
    """The last moment at which it can have happened, by the platform's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """A source has said that its level is without so many units."""

    account: str
    units: int
    place: str
    version: Version
    at_ms: int
    is_dropped: bool


@dataclass(slots=True, kw_only=True)
class Sale:
    """One sale of one SKU, as its effects add up."""

    id: str
    sku: str
    at_ms: int
    seq: int
    names: list[str] = field(default_factory=list)
    order: str = ""
    """Account, order and line, once a platform has told of it."""
    item: str = ""
    hold: str = ""
    version: Version = field(default_factory=Version)
    takes: list[Units] = field(default_factory=list)
    gives: list[Units] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    acks: list[Ack] = field(default_factory=list)
    bought_at: set[str] = field(default_factory=set)
    """Locations of the hold's lines that made it; each is counted once, however often it is told."""
    is_lost: bool = False
    """The store's present history does not have it."""

    @property
    def sold(self) -> int:
        """Units, with those that were cancelled."""
        return sum(part.units for part in self.takes)

    @property
    def open(self) -> int:
        """Units that are still wanted."""
        return self.sold - sum(part.units for part in self.gives)


@dataclass(slots=True, kw_only=True)
class Books:
    """Everything that a merchant's archived ledger adds up to."""

    sales: dict[str, Sale] = field(default_factory=dict)
    sources: dict[SourceName, Source] = field(default_factory=dict)
    moved: dict[str, Sale] = field(default_factory=dict)
    """Sales that went along when their item became another SKU."""
    catalogue: dict[str, str] = field(default_factory=dict)
    holds: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """Units of live holds, by SKU, hold and location."""
    numbers: dict[str, int] = field(default_factory=dict)
    """What could be promised of each SKU."""
    entries: int = 0
    lost: int = 0
    """Entries that the store's present history does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be brought back, before anything is done."""

    merchant: str
    epoch: str
    """The last archived history."""
    seq: int
    entries: int
    lost: int
    sales: int
    units: int
    """Open units of those sales."""
    sources: int
    skus: int
    holds: int
    """Live holds, which only their owners' tokens bring back."""
    unknown_accounts: tuple[str, ...]
    """Accounts of lost sources that the store does not know: their numbers are left out until it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was brought back, and what was there."""

    sales: int
    sales_known: int
    sources: int
    sources_known: int
    """Known by now, or of an account that is not."""
    differing: tuple[tuple[str, int, int], ...]
    """SKUs whose number is another one than the archive's last: SKU, archived (with holds), present."""
