"""What a store says of itself: time spent in scripts, memory, and how much of it lies in streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis.asyncio import Redis

STREAM_BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptTime:
    """Calls of scripts so far, and the microseconds of the server in them."""

    calls: int
    us: float


async def script_time(observer: Redis) -> ScriptTime:
    """Read the totals since the server's start; a difference of two belongs to what went on between them."""
    stats = await observer.info("commandstats")
    parts = [stats[name] for name in ("cmdstat_eval", "cmdstat_evalsha") if name in stats]
    return ScriptTime(
        calls=sum(part["calls"] for part in parts), us=float(sum(part["usec"] for part in parts))
    )


async def kept_bytes(observer: Redis) -> int:
    """Memory of everything but streams, which have a length of their own and are not per SKU or hold."""
    used = int((await observer.info("memory"))["used_memory"])
    streams = 0
    async for key in observer.scan_iter(_type="stream", count=STREAM_BATCH):
        streams += int(await observer.memory_usage(key, samples=0) or 0)
    return used - streams


async def bytes_of(observer: Redis, pattern: str, *, sample: int = 200) -> float:
    """Average memory of some keys of a pattern; 0 when there is none."""
    sizes: list[int] = []
    async for key in observer.scan_iter(match=pattern, count=STREAM_BATCH):
        sizes.append(int(await observer.memory_usage(key, samples=0) or 0))
        if len(sizes) == sample:
            break
    return sum(sizes) / len(sizes) if sizes else 0.0
