"""What is true of one merchant's stock, and the only one who changes it.

Every number that a SKU ever gets is told apart from its others, so a number that a
reader holds says how many changes of that SKU the reader has seen.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from synchub.errors import Fault
from synchub.history.operations import Historian
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import now_ms
from synchub.redis import CoalescingRedis
from synchub.settings import ArchiveSettings, RedisSettings, Settings
from synchub.stock import operations as stock
from synchub.stock.model import Outcome
from tests.support.rows import push
from tests.support.wait import eventually, lasting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from tests.support.merchants import Merchant

SKUS: Final = tuple(f"{shelf}-{number:02d}" for shelf in "ABCD" for number in range(10))
_NUMBERS: Final = range(1_000, 1_000_000)
_AT_ONCE: Final = 6
_AGAIN_AFTER_S: Final = 0.02
_DONE: Final = frozenset({Outcome.APPLIED, Outcome.DUPLICATE, Outcome.UNCHANGED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One acknowledged change."""

    sku: str
    place: int
    """How many changes of this SKU it makes."""
    seq: int
    """Its sequence in the ledger; 0: its acknowledgement was lost and a second one does not say."""
    acked_ns: int
    """The machine's monotonic clock when the store's word for it had arrived."""


class Truth:
    """The reference: levels, their order, and since when everybody may be asked for them."""

    def __init__(self) -> None:
        self.levels: dict[str, int] = {}
        self.acked: list[Change] = []
        """In the order of their acknowledgements."""
        self.listeners: list[Callable[[], None]] = []
        """Called after each acknowledgement."""
        self._places: dict[str, dict[int, int]] = {}

    def plan(self, levels: Mapping[str, int]) -> None:
        """Say what is about to be changed: readers may be told of it before its acknowledgement is here."""
        for sku, number in levels.items():
            places = self._places.setdefault(sku, {})
            places[number] = len(places) + 1

    def acknowledge(self, levels: Mapping[str, int], seqs: Iterable[int], at_ns: int) -> None:
        """From ``at_ns`` on whoever claims to be up to date knows of it."""
        self.levels.update(levels)
        self.acked += (
            Change(sku=sku, place=self._places[sku][number], seq=seq, acked_ns=at_ns)
            for (sku, number), seq in zip(levels.items(), seqs, strict=True)
        )
        for listener in self.listeners:
            listener()

    def place(self, sku: str, number: object) -> int:
        """How many changes of a SKU a number stands for; 0 when nobody ever set it."""
        return self._places.get(sku, {}).get(number, 0) if isinstance(number, int) else 0

    def fresh_number(self, sku: str, chance: random.Random) -> int:
        """A number that the SKU never had."""
        while (number := chance.choice(_NUMBERS)) in self._places.get(sku, {}):
            pass
        return number


class Publisher:
    """Changes random SKUs through the hub's own operation, on a line to the store of its own."""

    def __init__(self, redis_url: str, merchant: Merchant, *, folder: Path, seed: int, pace_s: float) -> None:
        """``folder`` is one without an archive, as nothing is archived."""
        self.truth = Truth()
        self._settings = Settings.model_construct(
            redis=RedisSettings(url=redis_url), archive=ArchiveSettings(folder=folder)
        )
        self._redis = CoalescingRedis(self._settings.redis)
        # As every process of the hub that writes: a store that was started anew is looked at first.
        self._historian = Historian(self._redis, self._settings)
        self._merchant = merchant
        self._chance = random.Random(seed)
        self._pace_s = pace_s
        self._count = 0
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.stop()
        finally:
            await self._redis.close()

    def start(self) -> None:
        """Change something again and again."""
        self._task = asyncio.create_task(self._publish())

    async def stop(self) -> None:
        """Return when the last change is acknowledged."""
        self._over.set()
        if self._task is not None:
            await self._task
            self._task = None

    async def change(self, skus: Iterable[str]) -> None:
        """Give each of these SKUs a number that it never had, in one step; return when it is acknowledged."""
        levels = {sku: self.truth.fresh_number(sku, self._chance) for sku in skus}
        self.truth.plan(levels)
        rows = [self._row(sku, number) for sku, number in levels.items()]
        keys = MerchantKeys(self._merchant.name)
        while True:
            try:
                applied = await stock.apply(self._redis, keys, rows, settings=self._settings)
            except Fault:
                # Whatever has become of it: the same rows again have their effect once.
                await lasting(_AGAIN_AFTER_S)
            else:
                acked_ns = time.monotonic_ns()
                assert {one.outcome for one in applied} <= _DONE, applied
                self.truth.acknowledge(levels, [one.seq for one in applied], acked_ns)
                return

    async def more(self, changes: int) -> None:
        """Return when so many changes more have been acknowledged than now."""
        least = len(self.truth.acked) + changes
        await eventually(
            lambda: len(self.truth.acked) >= least, within_s=20, what=f"{changes} acknowledged changes"
        )

    async def _publish(self) -> None:
        while not self._over.is_set():
            await self.change(self._chance.sample(SKUS, self._chance.randint(1, _AT_ONCE)))
            await lasting(self._pace_s)

    def _row(self, sku: str, number: int) -> tuple[str, ...]:
        self._count += 1
        return push(number, at=now_ms(), version=self._count, account=self._merchant.account, item=sku)


def shown(items: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    """The numbers of a reader's items."""
    return {sku: item["available"] for sku, item in items.items()}


def expected(levels: Mapping[str, int], follows: Callable[[str], bool]) -> dict[str, int]:
    """The numbers that a reader must have in the end."""
    return {sku: number for sku, number in levels.items() if follows(sku)}
