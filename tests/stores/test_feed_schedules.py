"""Whatever happens in whatever order, a reader that follows the rules ends with the state of the store.

Each seed is a schedule of changes, set changes, edits of policies, histories that get another name,
entries that are trimmed, readers that take nothing, a little or everything, and cut connections.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from synchub.feed.model import Filter, Mode
from synchub.keyspace import MerchantKeys
from tests.support.feed import Site, Store, at_once, serving_feed
from tests.support.feed_pipe import CheckedReader
from tests.support.wait import a_turn, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.valkey import Valkey

SKUS = [f"{letter}{number:02}" for letter in "AB" for number in range(12)]
STEPS = 120
TIGHT = {
    "buffer_max_bytes": 4096,
    "owed_max": 15,
    "owed_max_ms": 300,
    "snapshot_part": 3,
    "read_max": 5,
    "read_block_ms": 10,
}
"""Everything happens that can happen, within a short schedule."""


@pytest.fixture
def store(valkey: Valkey, redis_url: str) -> Iterator[Store]:
    with valkey.client() as client:
        store = Store(client).name_history()
        for sku in SKUS[::2]:
            store.change(sku)
        yield store


@dataclass
class Schedule:
    """One run, and what must come out of it."""

    site: Site
    store: Store
    chance: random.Random
    set_id: str
    members: set[str]
    readers: list[CheckedReader] = field(default_factory=list)
    levels: dict[str, int] = field(default_factory=dict)
    moved_at: dict[str, int] = field(default_factory=dict)
    """Since which revision of the set a SKU is in it, or is not."""
    buffer: int = 0
    histories: int = 0

    async def step(self) -> None:
        """Do one thing."""
        weights = {
            self.change: 40,
            self.change_set: 8,
            self.stop: 8,
            self.take: 20,
            self.flow: 8,
            self.cut: 8,
            self.keep: 10,
            self.edit: 2,
            self.rename: 1,
            self.trim: 2,
        }
        [act] = self.chance.choices(list(weights), list(weights.values()))
        await act()
        for _ in range(self.chance.randrange(12)):
            await a_turn()

    async def change(self) -> None:
        levels = {
            sku: self.chance.randrange(30) for sku in self.chance.sample(SKUS, self.chance.randint(1, 12))
        }
        at_once(self.store, levels)
        self.levels |= levels

    async def change_set(self) -> None:
        add = self.chance.sample(SKUS, self.chance.randrange(6))
        remove = self.chance.sample(SKUS, self.chance.randrange(6))
        self.members = (self.members - set(remove)) | set(add)
        status, told = await self.site.sets("PATCH", self.set_id, add=add, remove=remove)
        assert (status, told["count"]) == (200, len(self.members))
        self.moved_at |= dict.fromkeys([*add, *remove], told["rev"])

    async def stop(self) -> None:
        self.one.pipe.flows = False

    async def take(self) -> None:
        self.one.pipe.take(self.chance.randrange(3000))

    async def flow(self) -> None:
        reader = self.one
        reader.pipe.flows = True
        reader.pipe.take()

    async def cut(self) -> None:
        reader = self.one
        await reader.leave()
        reader.connect(flows=self.chance.random() < 0.7)

    async def keep(self) -> None:
        """A reader of versions asks for an item and keeps it."""
        for reader in self.readers:
            reader.read()
            if reader.mode is Mode.INV and reader.seq is not None and reader.is_connected:
                sku = self.chance.choice([*sorted(self.expected(reader)), "NONE"])
                if reader.chosen.set_id and reader.settled_rev < self.moved_at.get(sku, 0):
                    continue  # not confirmed yet, so it may not be kept
                ver = self.store.vers.get(sku, 0)
                reader.items[sku] = {"sku": sku, "ver": ver, "buffer": self.buffer}

    async def edit(self) -> None:
        self.buffer = self.chance.randrange(4)
        await self.site.decide("acme", {"set": {"buffer_units": self.buffer}})

    async def rename(self) -> None:
        self.histories += 1
        self.store.name_history(f"history-{self.histories}-and-more")

    async def trim(self) -> None:
        self.store.client.xtrim(
            MerchantKeys("acme").feed, maxlen=self.chance.randrange(20), approximate=False
        )

    @property
    def one(self) -> CheckedReader:
        """Any of the readers."""
        return self.chance.choice(self.readers)

    def expected(self, reader: CheckedReader) -> dict[str, int]:
        """What the reader must end with."""
        names = [sku for sku in SKUS if sku in self.levels]
        if reader.chosen.set_id:
            names = sorted(self.members)
        elif reader.chosen.skus:
            names = sorted(reader.chosen.skus)
        elif reader.chosen.prefix:
            names = [sku for sku in names if sku.startswith(reader.chosen.prefix)]
        return {sku: max(0, self.levels.get(sku, 0) - self.buffer) for sku in names}

    def is_there(self, reader: CheckedReader) -> bool:
        """Whether a reader has everything."""
        reader.read()
        if not reader.is_connected:
            reader.connect()
        if reader.seq is None or reader.seq < self.store.seq:
            return False
        if reader.mode is Mode.INV:
            return all(
                (item["ver"], item["buffer"]) == (self.store.vers.get(sku, 0), self.buffer)
                for sku, item in reader.items.items()
                if sku in self.expected(reader)
            )
        return {sku: item["available"] for sku, item in reader.items.items()} == self.expected(reader)


@pytest.mark.parametrize("seed", range(20))
async def test_every_reader_ends_with_the_state_of_the_store(redis_url: str, store: Store, seed: int) -> None:
    async with serving_feed(redis_url, **TIGHT) as site:
        members = set(SKUS[:10])
        set_id = await site.new_set(*members)
        levels = dict.fromkeys(SKUS[::2], 10)
        run = Schedule(site, store, random.Random(seed), set_id, members, levels=levels)
        filters = [
            Filter(),
            Filter(prefix="A"),
            Filter(skus=frozenset(SKUS[5:15])),
            Filter(set_id=set_id),
        ]
        run.readers = [CheckedReader(site.feed, chosen, mode=mode) for chosen in filters for mode in Mode]
        try:
            for reader in run.readers:
                reader.connect()
            for _ in range(STEPS):
                await run.step()
            for reader in run.readers:
                reader.pipe.flows = True
                reader.pipe.take()
            for reader in run.readers:
                await eventually(
                    lambda reader=reader: run.is_there(reader),  # type: ignore[misc]  # of this turn
                    what=f"{reader.chosen} {reader.mode} up to date",
                )
        finally:
            await asyncio.gather(*(reader.leave() for reader in run.readers))
    assert {reader.mode: reader.broken for reader in run.readers if reader.broken} == {}


async def test_the_schedules_contain_what_they_are_about(redis_url: str, store: Store) -> None:
    """Otherwise the property above would say little."""
    assert store.epoch
    missing = {"hello", "snap", "snap_end", "upd", "set", "reset", "stalled"}
    async with serving_feed(redis_url, **TIGHT) as site:
        set_id = await site.new_set(*SKUS[:10])
        run = Schedule(
            site, store, random.Random(5), set_id, set(SKUS[:10]), levels=dict.fromkeys(SKUS[::2], 10)
        )
        run.readers = [CheckedReader(site.feed, Filter(set_id=set_id)), CheckedReader(site.feed, Filter())]
        for reader in run.readers:
            reader.connect()
        steps = 0
        while missing and steps < 40 * STEPS:
            steps += 1
            await run.step()
            if any(one.is_stalled for one in site.feed._readers):
                missing.discard("stalled")
            for reader in run.readers:
                if not reader.is_connected:
                    reader.connect()
                reader.read()
                missing -= set(reader.events)
        for reader in run.readers:
            await reader.leave()
    assert missing == set()
    assert steps < 20 * STEPS, "in twenty schedules it would hardly happen"
