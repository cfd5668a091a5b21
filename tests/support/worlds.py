"""The worlds that the rules have to stand: what differs from the plain one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.support.reference_answer import Role
from tests.support.world import LAG_MS, World
from tests.support.world_parts import Sale, Store, Wire, authority

if TYPE_CHECKING:
    from collections.abc import Callable

US: Final = 1000


class LosingWarehouse(World):
    """A warehouse whose deliveries get lost, come twice and out of order."""

    wire = Wire(lost=40, repeated=30, slow_ms=900)


class OwnShop(World):
    """A shop that counts its stock itself, takes orders, and acknowledges nothing."""

    scale = "T"

    def open_stores(self) -> list[Store]:
        return [Store(account="shop")]

    def connect(self) -> None:
        self.hub.set_role("shop", authority(own=True))

    def stamp(self) -> int | None:
        return self.now * US

    def tell_order(self, sale: Sale) -> None:
        store = self.stores[0]
        before, store.taken[sale.name] = store.taken.get(sale.name, 0), sale.number
        store.wanted[sale.name], store.cancelled[sale.name] = sale.number, sale.cancelled
        sale.us = store.change(before - sale.number, self.stamp())
        super().tell_order(sale)
        self.report(store)

    def take_in(self, sale: Sale) -> None:
        """It knows already."""


class OwnShopInSeconds(OwnShop):
    """The same with a clock that stops at the second."""

    resolution = 1_000_000


class ForeignImporter(World):
    """A marketplace sells; a foreign importer brings its orders to the warehouse, which only answers."""

    versioned = False

    def connect(self) -> None:
        self.hub.set_role("wms", authority())
        self.hub.set_role("shop", Role(kind="C", own_items=True, own_places=True))
        self.hub.set_lag("wms", "shop", LAG_MS)

    def deeds(self) -> list[Callable[[], object]]:
        return [*super().deeds(), self.poll, self.poll]

    def take_in(self, sale: Sale) -> None:
        super().take_in(sale)
        self.allocate_all()

    def acknowledge(
        self, store: Store, sale: Sale, units: int, version: int, *, dropped: bool = False
    ) -> None:
        """It says nothing."""


class TwoWarehouses(World):
    """Two warehouses of one account; orders are routed anew, and acknowledgements get lost."""

    def open_stores(self) -> list[Store]:
        return [Store(account="wms"), Store(account="wms", place="WH2", number=12)]

    def deeds(self) -> list[Callable[[], object]]:
        return [*super().deeds(), self.route_anew, self.route_anew]

    def route_anew(self) -> None:
        """An order goes to the other warehouse."""
        here, there = self.random.sample(self.stores, 2)
        sold = [name for name, wanted in here.wanted.items() if wanted]
        if not sold:
            return
        sale = self.sales[self.random.choice(sorted(sold))]
        there.wanted[sale.name] = here.wanted.pop(sale.name)
        there.cancelled[sale.name] = here.cancelled.pop(sale.name)
        units = here.taken.get(sale.name, 0)
        if units:
            self.move(here, sale, -units)
            self.move(there, sale, units)

    def check(self) -> None:
        """Units let go are free as long as nobody has said so: only the end is sure."""


class FailOver(World):
    """Two systems count the same shelf; either may fall silent, and the second joins late."""

    def open_stores(self) -> list[Store]:
        return [Store(account="wms"), Store(account="erp")]

    def connect(self) -> None:
        self.hub.set_role("wms", authority(ref=True, max_age=1500))
        self.hub.set_role("erp", authority(ref=True, rank=2, max_age=1500))
        self.hub.set_role("shop", Role(kind="C", own_items=True, own_places=True))
        self.stores[1].is_silent = True

    def deeds(self) -> list[Callable[[], object]]:
        return [*super().deeds(), self.fall_silent, self.poll]

    def fall_silent(self) -> None:
        """Somebody stops talking, or talks again."""
        store = self.random.choice(self.stores)
        store.is_silent = not store.is_silent

    def receive(self) -> None:
        by = self.random.choice((-1, 1, 4))
        for store in self.stores:
            store.change(by)
            self.report(store)

    def take_in(self, sale: Sale) -> None:
        for store in self.stores:
            before = store.cancelled.get(sale.name, 0)
            let_go = max(0, store.taken.get(sale.name, 0) - sale.number)
            store.wanted[sale.name], store.cancelled[sale.name] = sale.number, sale.cancelled
            if let_go:
                self.move(store, sale, -let_go)
            if sale.cancelled - before > let_go:
                version = store.change(0)
                self.acknowledge(store, sale, sale.cancelled - before - let_go, version, dropped=True)

    def counted(self) -> list[Store]:
        return self.stores[:1]


WORLDS: Final[tuple[type[World], ...]] = (
    LosingWarehouse, OwnShop, OwnShopInSeconds, ForeignImporter, TwoWarehouses, FailOver,
)  # fmt: skip
