"""Who and what a world consists of: wires, sales, and stores that count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.support.reference_answer import Role

if TYPE_CHECKING:
    from collections.abc import Mapping


class Wire(NamedTuple):
    """How bad the wires are, in hundredths."""

    lost: int = 25
    repeated: int = 20
    slow_ms: int = 600


@dataclass(kw_only=True)
class Sale:
    """One order as its shop has it, and as far as the hub has been told."""

    name: str
    number: int
    cancelled: int = 0
    version: int = 1
    us: int = 0
    reference: str = ""
    known_version: int = 0
    """As far as the hub has been told, like the next two."""
    known_present: int = 0
    known_cancelled: int = 0

    def tell(self, version: int, number: int) -> None:
        """The hub has got one more state."""
        if version > self.known_version:
            self.known_cancelled += max(0, self.known_present - number)
            self.known_present, self.known_version = number, version


class Page(NamedTuple):
    """What a store contained once: its number, the units taken off for sales, and those cancelled by then."""

    number: int = 0
    taken: Mapping[str, int] = {}
    cancelled: Mapping[str, int] = {}

    def contains(self, sale: Sale) -> int:
        """Units of the sale, as far as the hub can know: it may not have heard of a cancel."""
        unheard = max(0, self.cancelled.get(sale.name, 0) - sale.known_cancelled)
        return self.taken.get(sale.name, 0) + unheard


@dataclass(kw_only=True)
class Store:
    """Somebody who counts: a number, and which units of which sales it has taken off."""

    account: str
    place: str = "WH1"
    number: int = 20
    version: int = 0
    wanted: dict[str, int] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    cancelled: dict[str, int] = field(default_factory=dict)
    pages: dict[int, Page] = field(default_factory=dict)
    """What it contained: by version, and by the time of unversioned reads."""
    is_silent: bool = False

    def change(self, by: int, version: int | None = None) -> int:
        """The number changes; return the version of that."""
        self.number += by
        self.version = max(self.version + 1, version or 0)
        self.note(self.version)
        return self.version

    def note(self, name: int) -> None:
        """Keep what it contains now under a name."""
        self.pages[name] = Page(self.number, dict(self.taken), dict(self.cancelled))


def authority(*, own: bool = False, ref: bool = False, rank: int = 1, max_age: int = 10**9) -> Role:
    """Somebody whose numbers count."""
    return Role(kind="A", rank=rank, max_age=max_age, own_items=True, own_places=True, own=own, ref=ref)
