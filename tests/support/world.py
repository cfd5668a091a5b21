"""A world in which the truth is known: somebody sells, somebody counts, over wires that lose and repeat.

A world plays one SKU against a hub (the shipped scripts, or the reference model). After every
delivery the hub may offer at most what the reports that it rests on leave when every sale that it has
been told of, and that they do not contain, is taken off. When everything has arrived it must be exact.
Deterministic by seed.
"""

from __future__ import annotations

from itertools import product
from random import Random
from typing import TYPE_CHECKING, Any, Final

from tests.support.reference_answer import Role, SourceName
from tests.support.reference_holds import Wish
from tests.support.rows import ITEM, ack, cancel, order, push, read
from tests.support.world_parts import Page, Sale, Store, Wire, authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.support.reference_model import ReferenceModel
    from tests.support.reference_source import Source
    from tests.support.rows import Row
    from tests.support.sales_driver import SalesDriver

    Hub = ReferenceModel | SalesDriver
    Message = Callable[[int], list[Row]]

START: Final = 1_000_000
LAG_MS: Final = 400
"""No order takes longer to reach a store where reads are believed by lag."""


class World:
    """One SKU, one shop that sells it, one store that has it; the others differ from this."""

    wire = Wire()
    versioned = True
    scale = "S"
    resolution = 0

    def __init__(self, hub: Hub, seed: int) -> None:
        self.hub = hub
        self.random = Random(seed)
        self.now = START
        self.sales: dict[str, Sale] = {}
        self.messages: list[tuple[int, int, Message]] = []
        self.missing: list[Message] = []
        self.imports: list[tuple[int, int, str]] = []
        self.count = 0
        self.log: list[str] = []
        self.stores = self.open_stores()
        self.connect()
        for store in self.stores:
            store.change(0, self.stamp())
            self.report(store)

    # What differs

    def open_stores(self) -> list[Store]:
        """The stores at the beginning."""
        return [Store(account="wms")]

    def connect(self) -> None:
        """Tell the hub who is who."""
        self.hub.set_role("wms", authority(ref=True))
        self.hub.set_role("shop", Role(kind="C", own_items=True, own_places=True))

    def deeds(self) -> list[Callable[[], object]]:
        """What may happen, as often as it is named."""
        return [self.sell, self.sell, self.edit, self.cancel, self.receive, self.allocate, self.allocate,
                self.poll, self.agent_buys]  # fmt: skip

    def needs(self, sale: Sale) -> int:
        """Units that somebody may still ship: sold, or not yet known to be cancelled."""
        return max(sale.number, *(store.wanted.get(sale.name, 0) for store in self.stores))

    def stamp(self) -> int | None:
        """The version that time gives a change."""
        return None

    # Running

    def run(self, steps: int) -> None:
        """Play; then let everything arrive."""
        for _ in range(steps):
            self.random.choice(self.deeds())()
            self.tick(self.random.choice((1, 7, 40, 150)))
        self.finish()

    def tick(self, by: int) -> None:
        """Time passes, and what is due arrives."""
        self.now += by
        for due, number, name in sorted(self.imports):
            if due <= self.now:
                self.imports.remove((due, number, name))
                self.take_in(self.sales[name])
        for due, number, message in sorted(self.messages, key=lambda each: each[:2]):
            if due <= self.now:
                self.messages.remove((due, number, message))
                self.deliver(message)
        self.hub.pass_time(self.now)
        self.check()

    def send(self, message: Message) -> None:
        """Put something on the wire; it may get lost for now, or come twice."""
        if self.random.randrange(100) < self.wire.lost:
            self.missing.append(message)
            return
        for _ in range(2 if self.random.randrange(100) < self.wire.repeated else 1):
            self.count += 1
            self.messages.append((self.now + self.random.randrange(self.wire.slow_ms), self.count, message))

    def deliver(self, message: Message) -> None:
        """Something arrives."""
        rows = message(self.now)
        outcomes = self.hub.apply(rows, self.now)
        self.log += [
            f"{self.now} {_said(row)} -> {outcome}" for row, (outcome, _) in zip(rows, outcomes, strict=True)
        ]
        self.check()

    def finish(self) -> None:
        """Everything arrives, in any order, and everybody is asked once more."""
        for store in self.stores:
            store.is_silent = False
        for _ in range(200):
            for message in self.missing:
                self.messages.append((self.now, self.count, message))
            self.missing = []
            self.random.shuffle(self.messages)
            self.wire = Wire(0, 0, 1)
            self.tick(LAG_MS)
            self.allocate_all()
            if not (self.messages or self.missing or self.imports):
                break
        self.tick(LAG_MS)
        for _ in range(2):
            for store in self.stores:
                self.ask(store)
            self.tick(LAG_MS)
        self.expect(self.hub.answer(ITEM).ats == self.truth(), f"ends exact at {self.truth()}")

    # The shop

    def sell(self, reference: str = "", units: int = 0) -> Sale:
        """An order is placed."""
        name = str(1001 + len(self.sales))
        sale = Sale(name=name, number=units or self.random.randint(1, 3), reference=reference)
        self.sales[name] = sale
        self.tell_order(sale)
        return sale

    def edit(self) -> None:
        """A customer wants more, or less."""
        self.restate(lambda sale: max(0, sale.number + self.random.choice((-1, 2))))

    def cancel(self) -> None:
        """A customer wants nothing."""
        self.restate(lambda _: 0)

    def restate(self, wanted: Callable[[Sale], int]) -> None:
        """An order becomes another one."""
        sold = [
            each for each in self.sales.values() if each.number and (each.known_version or not each.reference)
        ]
        if not sold:
            return
        sale = self.random.choice(sold)
        number = wanted(sale)
        sale.cancelled += max(0, sale.number - number)
        sale.number, sale.version = number, sale.version + 1
        self.tell_order(sale)

    def agent_buys(self) -> None:
        """An agent holds and buys through the hub; the shop has the order a little later."""
        units = self.random.randint(1, 2)
        decision = self.hub.grant([Wish(ITEM, units)], self.now)
        self.check()
        if decision.first != "held" or self.random.random() < 0.3:
            return
        before = self.hub.answer(ITEM).ats
        self.hub.commit(decision.hold, self.now, order="" if self.random.random() < 0.5 else "A-1")
        self.expect(self.hub.answer(ITEM).ats == before, f"a commit leaves {before}")
        sale = self.sell(decision.hold, units)
        sale.known_present = units

    def tell_order(self, sale: Sale) -> None:
        """The shop tells the hub, and everybody who fulfils it."""
        version, number, us = sale.version, sale.number, sale.us
        references = (sale.name, *((sale.reference,) if sale.reference else ()))

        def message(at: int) -> list[Row]:
            sale.tell(version, number)
            about: dict[str, Any] = {
                "at": at,
                "version": version,
                "name": sale.name,
                "references": references,
            }
            about |= {"happened": us} if us else {}
            return [order(number, **about) if number else cancel(**about)]

        self.send(message)
        self.count += 1
        self.imports.append((self.now + self.random.randrange(LAG_MS), self.count, sale.name))

    # The store

    def take_in(self, sale: Sale) -> None:
        """The order reaches the store, as it stands now."""
        store = self.store_for(sale)
        before = store.cancelled.get(sale.name, 0)
        let_go = max(0, store.taken.get(sale.name, 0) - sale.number)
        store.wanted[sale.name], store.cancelled[sale.name] = sale.number, sale.cancelled
        if let_go:
            self.move(store, sale, -let_go)
        if sale.cancelled - before > let_go:
            version = store.change(0, self.stamp())
            self.acknowledge(store, sale, sale.cancelled - before - let_go, version, dropped=True)

    def store_for(self, sale: Sale) -> Store:
        """Who fulfils it."""
        return next((store for store in self.stores if sale.name in store.wanted), self.stores[0])

    def allocate(self) -> None:
        """The store takes some units off its number."""
        open_sales = self.unallocated()
        if open_sales:
            store, name, units = self.random.choice(open_sales)
            self.move(store, self.sales[name], self.random.randint(1, units))

    def allocate_all(self) -> None:
        """The store takes off all that it owes."""
        for store, name, units in self.unallocated():
            self.move(store, self.sales[name], units)

    def unallocated(self) -> list[tuple[Store, str, int]]:
        """What stores have to take off yet."""
        return [
            (store, name, wanted - store.taken.get(name, 0))
            for store in self.stores
            for name, wanted in sorted(store.wanted.items())
            if wanted > store.taken.get(name, 0)
        ]

    def move(self, store: Store, sale: Sale, units: int) -> None:
        """The store takes units off for a sale, or gives them back, and says so."""
        store.taken[sale.name] = store.taken.get(sale.name, 0) + units
        version = store.change(-units, self.stamp())
        self.acknowledge(store, sale, units, version)
        self.report(store)

    def acknowledge(
        self, store: Store, sale: Sale, units: int, version: int, *, dropped: bool = False
    ) -> None:
        """Say what the number contains."""
        key = f"{store.account}-{store.place}-{sale.name}-{version}-{dropped}"
        self.send(
            lambda at: [
                ack(units, at=at, version=version, account=store.account, location=store.place, key=key,
                    references=(sale.name,), dropped=dropped)
            ]
        )  # fmt: skip

    def receive(self) -> None:
        """Goods come in, or break."""
        store = self.random.choice(self.stores)
        store.change(self.random.choice((-1, 1, 4)), self.stamp())
        self.report(store)

    def report(self, store: Store) -> None:
        """The store says its number by itself."""
        number, version = store.number, store.version
        if store.is_silent or not self.versioned:
            return
        about: dict[str, Any] = {"account": store.account, "location": store.place, "scale": self.scale}
        shown, resolution = self.shown(version), self.resolution
        self.send(lambda at: [push(number, at=at, version=shown, resolution=resolution, **about)])

    def poll(self) -> None:
        """The hub asks a store."""
        store = self.random.choice(self.stores)
        if not store.is_silent:
            self.ask(store)

    def ask(self, store: Store) -> None:
        """The hub asks: the number is of the moment of asking, the answer takes its time."""
        at, number = self.now, store.number
        version, resolution = self.shown(store.version) if self.versioned else None, self.resolution
        about: dict[str, Any] = {"account": store.account, "location": store.place, "scale": self.scale}
        store.note(-at)
        self.send(lambda _: [read(number, at=at, version=version, resolution=resolution, **about)])

    # The truth

    def truth(self) -> int:
        """What can be sold when everybody knows everything."""
        owed = sum(
            max(0, self.needs(sale) - sum(store.taken.get(sale.name, 0) for store in self.counted()))
            for sale in self.sales.values()
        )
        return sum(store.number for store in self.counted()) - owed - self.hub.answer(ITEM).held

    def counted(self) -> list[Store]:
        """The stores whose numbers add up."""
        return self.stores

    def bound(self) -> int:
        """The most that the hub may offer on the reports that it rests on."""
        answer, told = self.hub.answer(ITEM), self.hub.sources(ITEM)
        levels, contained = 0, []
        for cell in answer.cells:
            store = next(each for each in self.stores if (each.account, each.place) == cell[1::-1])
            source = told[SourceName(cell.account, ITEM, cell.place)]
            levels += source.level
            contained.append(self.pages(store, source))
        least = min(self.owed(pages) for pages in product(*contained))
        return levels - least - answer.held

    def owed(self, pages: Iterable[Page]) -> int:
        """Units sold, as far as the hub has been told, that none of the reports contains."""
        owed, contained = 0, list(pages)
        for sale in self.sales.values():
            processed = min(store.cancelled.get(sale.name, 0) for store in self.stores)
            known = sale.known_present + max(0, sale.known_cancelled - processed)
            inside = sum(page.contains(sale) for page in contained)
            owed += max(0, min(known, self.needs(sale)) - inside)
        return owed

    def pages(self, store: Store, source: Source) -> list[Page]:
        """What a report can have contained: several look alike where the clock is coarse."""
        names = {-source.read_at}
        if source.version is not None:
            names |= {name for name in store.pages if name >= 0 and self.shown(name) == source.version}
        known = [store.pages[name] for name in names if name in store.pages]
        # A lower number under the same version may be an older one: less than the read, whose sales it lacks.
        asked = store.pages.get(-source.read_at)
        is_older = asked is not None and asked.number > source.level and self.resolution > 0
        return [page for page in known if page.number == source.level or (is_older and page is asked)] or [
            Page()
        ]

    def shown(self, version: int) -> int:
        """A version as the store writes it."""
        return version - version % (self.resolution or 1)

    def check(self) -> None:
        """Never above what is sure."""
        answer = self.hub.answer(ITEM)
        if answer.known:
            self.expect(answer.ats <= self.bound(), f"at most {self.bound()}")

    def expect(self, holds: bool, what: str) -> None:
        """Fail with the story."""
        assert holds, "\n".join([f"{what}, not {self.hub.answer(ITEM)}", *self.log[-60:]])


def _said(row: Row) -> str:
    kind, account, _, place, status, number, _, version, resolution, at, *_, sku, group, extra = row
    what = f"{kind}{status} {account} {place} {number} v{int(version or 0)}~{resolution}"
    return f"{what} at {at} {sku} {group!r} {extra!r}"
