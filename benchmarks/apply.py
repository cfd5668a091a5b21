"""What one change costs Redis: 64 changes in one script against one script for each.

Counted by the server itself (microseconds of EVALSHA in ``INFO commandstats``), so neither the network nor
Python is in it. Both ways change the same number of SKUs by the hub's own script, in turn; single applies
are sent 64 at once, so that waking up and syncing to disk are shared there too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from benchmarks.coverage import Pattern
from synchub.connector_kit.events import Level, Scale, Version
from synchub.keyspace import MerchantKeys
from synchub.redis import CoalescingRedis
from synchub.settings import Settings, load_settings
from synchub.stock.operations import apply
from synchub.stock.rules import Circumstances, Row, rows_of

BATCH = 64
PATTERN = Pattern(skus=BATCH * 16)
MERCHANT = "bench-apply"
ACCOUNT = "bench"
ROLE = "A|0|900000|s|m|0|0|0|0"
"""An authoritative source, first in rank, whose items and locations need no mapping."""

KEYS = MerchantKeys(MERCHANT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyCost:
    """Microseconds of the server per change."""

    single_us: float
    batched_us: float


async def measure_apply(url: str, *, rounds: int) -> ApplyCost:
    """Apply ``rounds`` x 1,024 changes each way on the server at ``url``."""
    settings = load_settings(redis={"url": url})
    observer: Redis = Redis.from_url(url)
    redis = CoalescingRedis(settings.redis)
    try:
        await redis.execute("FLUSHALL")
        await redis.execute("HSET", KEYS.roles, ACCOUNT, ROLE)
        # The first change of a SKU creates it: not what is compared.
        await _apply(redis, settings, _parts(0, BATCH))
        spent = {1: 0.0, BATCH: 0.0}
        for number in range(1, 2 * rounds + 1):
            size = BATCH if number % 2 else 1
            before = await _script_us(observer)
            await _apply(redis, settings, _parts(number, size))
            spent[size] += await _script_us(observer) - before
    finally:
        await redis.close()
        await observer.aclose()
    changes = rounds * PATTERN.skus
    return ApplyCost(single_us=spent[1] / changes, batched_us=spent[BATCH] / changes)


async def _apply(redis: CoalescingRedis, settings: Settings, parts: Sequence[Sequence[Row]]) -> None:
    for wave in _in_waves(parts):
        results = await asyncio.gather(*(apply(redis, KEYS, rows, settings=settings) for rows in wave))
        outcomes = {applied.outcome for result in results for applied in result}
        assert outcomes == {"applied"}, outcomes


def _parts(number: int, size: int) -> Sequence[Sequence[Row]]:
    """Change all SKUs once, ``size`` changes at a time."""
    rows = [_row(number * PATTERN.skus + slot) for slot in range(PATTERN.skus)]
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _in_waves(parts: Sequence[Sequence[Row]]) -> Iterable[Sequence[Sequence[Row]]]:
    """As many parts at once as make one batch of changes."""
    size = BATCH // len(parts[0])
    return (parts[start : start + size] for start in range(0, len(parts), size))


def _row(index: int) -> Row:
    level = Level(
        item=PATTERN.sku(index),
        location="WH1",
        quantity=PATTERN.quantity(index),
        version=Version(scale=Scale.SEQUENCE, number=index + 1),
    )
    now_ms = int(time.time() * 1000)
    about = Circumstances(
        account=ACCOUNT, at_ms=now_ms, is_read=False, op=f"bench:{index}", cause="benchmark"
    )
    return rows_of([level], about)[0]


async def _script_us(observer: Redis) -> float:
    stats = await observer.info("commandstats")
    return float(sum(stats.get(f"cmdstat_{name}", {"usec": 0})["usec"] for name in ("eval", "evalsha")))
