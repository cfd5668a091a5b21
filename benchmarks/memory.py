"""What a merchant's stock costs in memory, and whether a change gets dearer as it grows.

SKUs and locations are loaded through the hub's own script, holds and sales through its HTTP face. Counted is
the store's ``used_memory`` less all streams: ledger, feed and ingest have a length of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self, TypeVar

import aiohttp
import orjson
from redis.asyncio import Redis

from benchmarks import hub, runs
from benchmarks.asking import WARM_UP
from benchmarks.children import ChildFailedError
from benchmarks.figures import Figure
from benchmarks.holds import asking_of, available, stock_up
from benchmarks.observed import bytes_of, kept_bytes, script_time
from benchmarks.prepared import headers_of
from synchub.connector_kit.events import Level, Scale, Version
from synchub.keyspace import MerchantKeys, ingest_stream
from synchub.redis import CoalescingRedis
from synchub.settings import load_settings
from synchub.stock.operations import apply
from synchub.stock.rules import Circumstances, rows_of

if TYPE_CHECKING:
    from benchmarks.hub import Hub
    from benchmarks.scale import Scale as RunScale

CART_MS = 900_000
T = TypeVar("T")

FIRST = 10_000
BATCH = 64
AT_ONCE = 16
"""Scripts under way at the same time while loading."""

LOCATIONS = 50
WIDE_SHARE = 0.002
"""Of the SKUs have stock at so many locations."""

TIMED = 6_400
GROWTH = 1.25
QUANTITY = 100
SALES_SHARE = 0.02
SALES_PER_DELIVERY = 50
DRAIN_S = 120.0

KEYS = MerchantKeys(hub.MERCHANT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Bytes each, and microseconds of the server per change with few and with all SKUs."""

    sku: float
    source: float
    hold: float
    sale: float
    first_us: float
    all_us: float
    notes: dict[str, float | str] = field(default_factory=dict)


async def measure_memory(scale: RunScale) -> list[Figure]:
    """Load everything once, which takes about two minutes with a million SKUs, and return the rows."""
    with hub.store() as url:
        async with hub.hub(url) as started:
            cost = await _cost(started, scale.skus)
    rows = [
        Figure(name=name, value=value, unit="bytes")
        for name, value in (
            (f"memory of a SKU with one location, {scale.skus:,} SKUs", cost.sku),
            (f"memory of a source, at SKUs with {LOCATIONS} locations", cost.source),
            ("memory of a live hold, with the answer to its key", cost.hold),
            ("memory of an open sale", cost.sale),
        )
    ]
    growth = Figure(
        name=f"Redis time of a change, {scale.skus:,} SKUs, against {FIRST:,}",
        value=cost.all_us,
        unit="us",
        floor=cost.first_us,
        limit=GROWTH,
        of_floor=True,
        notes=cost.notes,
    )
    return [*rows, growth]


async def _cost(started: Hub, skus: int) -> Cost:
    async with Loader(started) as loader:
        empty = await loader.bytes()
        await loader.levels(loader.skus(0, FIRST))
        first_us = await loader.time(FIRST)
        await loader.levels(loader.skus(FIRST, skus))
        loaded = await loader.bytes()
        all_us = await loader.time(skus)
        wide = max(10, round(skus * WIDE_SHARE))
        before = await loader.bytes()
        await loader.locations(wide)
        spread = await loader.bytes()
        holds = max(1_000, round(skus * SALES_SHARE))
        await stock_up(started)
        await loader.hold(1)  # what the first hold creates is not what each hold costs
        unheld = await loader.bytes()
        granted = await loader.hold(holds)
        held = await loader.bytes()
        await loader.sell(holds)
        sold = await loader.bytes()
        return Cost(
            sku=(loaded - empty) / skus,
            source=(spread - before) / (wide * (LOCATIONS - 1)),
            hold=(held - unheld) / granted,
            sale=(sold - held) / holds,
            first_us=first_us,
            all_us=all_us,
            notes={"answer to a key, bytes": await bytes_of(loader.observer, f"{KEYS.tag}once:*")},
        )


class Loader:
    """Fills one merchant of a running hub; all its numbers rise, so nothing is refused as old."""

    def __init__(self, started: Hub) -> None:
        self.observer: Redis = Redis.from_url(started.redis_url)
        self._hub = started
        self._settings = load_settings(redis={"url": started.redis_url})
        self._redis = CoalescingRedis(self._settings.redis)
        self._account = started.hook_url.rpartition("/")[2]
        self._number = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._redis.close()
        await self.observer.aclose()

    @staticmethod
    def skus(first: int, last: int) -> Iterable[str]:
        """Names of SKUs."""
        return (f"SKU-{number:07d}" for number in range(first, last))

    async def bytes(self) -> int:
        """Memory of all but streams."""
        return await kept_bytes(self.observer)

    async def levels(self, skus: Iterable[str]) -> None:
        """Report a level of each SKU at its one location."""
        await self._apply((sku, "WH1") for sku in skus)

    async def locations(self, wide: int) -> None:
        """Report the same SKUs at all the other locations."""
        await self._apply((sku, f"WH{n}") for sku in self.skus(0, wide) for n in range(2, LOCATIONS + 1))

    async def time(self, skus: int) -> float:
        """Change SKUs all over the range and return the microseconds of the server for each."""
        step = max(1, skus // TIMED)
        chosen = [f"SKU-{number:07d}" for number in range(0, min(skus, step * TIMED), step)]
        before = await script_time(self.observer)
        await self._apply((sku, "WH1") for sku in chosen)
        after = await script_time(self.observer)
        return (after.us - before.us) / len(chosen)

    async def hold(self, count: int) -> int:
        """Grant holds of one SKU that outlive the run; return how many were granted."""
        await runs.asked(
            self._hub, asking_of(self._hub, "hold", count, mode="cart", ttl_ms=CART_MS), core=None
        )
        return count + WARM_UP

    async def sell(self, count: int) -> None:
        """Post orders of one unit of as many SKUs and wait until they count.

        Raises:
            ChildFailedError: they were refused, or do not count.
        """
        skus = list(self.skus(0, count))
        before = await asyncio.to_thread(available, self._hub, skus[-1])
        async with aiohttp.ClientSession() as http:
            for start in range(0, count, SALES_PER_DELIVERY):
                await self._order(http, skus[start : start + SALES_PER_DELIVERY])
        await self._until_applied()
        left = await asyncio.to_thread(available, self._hub, skus[-1])
        if left != before - 1:
            msg = f"of {before} {skus[-1]} one was ordered and {left} are left"
            raise ChildFailedError(msg)

    async def _order(self, http: aiohttp.ClientSession, skus: Sequence[str]) -> None:
        self._number += 1
        body = orjson.dumps(_orders(skus, f"O{self._number}"))
        headers = headers_of(self._hub.secret, f"orders-{self._number}", body)
        async with http.post(self._hub.hook_url, data=body, headers=headers) as answer:
            if not answer.ok:
                msg = f"orders were answered {answer.status}: {(await answer.text())[:300]}"
                raise ChildFailedError(msg)

    async def _until_applied(self) -> None:
        deadline = time.monotonic() + DRAIN_S
        while await self.observer.xlen(ingest_stream()):
            if time.monotonic() > deadline:
                msg = "the workers did not come to an end with the orders"
                raise ChildFailedError(msg)
            await asyncio.sleep(0.05)

    async def _apply(self, cells: Iterable[tuple[str, str]]) -> None:
        """Report a level of each (SKU, location), batch by batch."""
        for wave in _parts(_parts(cells, BATCH), AT_ONCE):
            await asyncio.gather(*(self._apply_batch(batch) for batch in wave))

    async def _apply_batch(self, cells: Sequence[tuple[str, str]]) -> None:
        self._number += 1
        about = Circumstances(
            account=self._account,
            at_ms=time.time_ns() // 1_000_000,
            is_read=False,
            op=f"bench:{self._number}",
            cause="benchmark",
        )
        version = Version(scale=Scale.SEQUENCE, number=self._number)
        levels = [
            Level(item=sku, location=place, quantity=QUANTITY + self._number, version=version)
            for sku, place in cells
        ]
        results = await apply(self._redis, KEYS, rows_of(levels, about), settings=self._settings)
        outcomes = {applied.outcome for applied in results}
        assert outcomes == {"applied"}, outcomes


def _orders(skus: Sequence[str], name: str) -> dict[str, object]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    orders = [
        {
            "order_id": f"{name}-{number}",
            "line": "1",
            "sku": sku,
            "location_id": "WH1",
            "quantity": "1",
            "status": "placed",
            "ordered_at": now,
        }
        for number, sku in enumerate(skus)
    ]
    return {"type": "stock.changed", "timestamp": now, "data": {"orders": orders}}


def _parts(things: Iterable[T], size: int) -> Iterator[list[T]]:
    part: list[T] = []
    for thing in things:
        part.append(thing)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
