"""The floor of a pick-up: one XADD to one blocked XREAD in another process, 600 bytes, nothing else.

Each entry carries the moment just before its XADD; latency counts to the moment XREAD has handed it over.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

import uvloop
from redis.asyncio import Redis

from benchmarks.children import hear_line, module, running, say_line
from benchmarks.figures import Latency, latency_of
from benchmarks.ticker import Ticker

STREAM = "bench:hop"
PAYLOAD = b"x" * 600
DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HopPlan:
    """``count`` entries at ``rate`` per second on the server at ``url``; this process has one ``role``."""

    role: str
    url: str
    count: int
    rate: float


async def measure_hop(program: str, url: str, *, count: int, rate: float) -> Latency:
    """Run ``program`` (this module, or one that speaks like it) as a reader and as a writer."""
    command = module(program)
    async with running("stream reader", command) as reader, running("stream writer", command) as writer:
        for child, role in ((reader, "read"), (writer, "write")):
            await child.tell(asdict(HopPlan(role=role, url=url, count=count, rate=rate)))
            await child.hear(within_s=DEADLINE_S)
        await writer.tell({"start_ns": time.monotonic_ns() + 100_000_000})
        return Latency(**await reader.hear(within_s=DEADLINE_S + count / rate))


async def serve(
    read: Callable[[HopPlan], Awaitable[list[int]]], write: Callable[[HopPlan], Awaitable[None]]
) -> None:
    """Play the role that the plan gives."""
    plan = HopPlan(**await hear_line())
    gc.disable()
    if plan.role == "write":
        await write(plan)
    else:
        say_line(asdict(latency_of(await read(plan))))


async def on_schedule(plan: HopPlan, add: Callable[[int], Awaitable[object]]) -> None:
    """Call ``add`` with the present moment for every entry of the plan."""
    say_line({"ready": True})
    start_ns, due = int((await hear_line())["start_ns"]), asyncio.Event()
    ticker = Ticker(due.set)
    for number in range(plan.count):
        due.clear()
        ticker.arm(start_ns + round(number * 1e9 / plan.rate))
        await due.wait()
        await add(time.monotonic_ns())
    ticker.close()


async def read_bare(plan: HopPlan) -> list[int]:
    """Read all entries and return each one's latency."""
    store: Redis = Redis.from_url(plan.url)
    await store.delete(STREAM)
    latencies: list[int] = []
    position = "0"
    say_line({"ready": True})
    while len(latencies) < plan.count:
        answer: Any = await store.xread({STREAM: position}, count=64, block=1000)
        now_ns = time.monotonic_ns()
        for entry_id, fields in answer[0][1] if answer else ():
            latencies.append(now_ns - int(fields[b"at"]))
            position = entry_id
    await store.aclose()
    return latencies


async def write_bare(plan: HopPlan) -> None:
    """Add all entries."""
    store: Redis = Redis.from_url(plan.url)
    await store.ping()
    await on_schedule(plan, lambda at_ns: store.xadd(STREAM, {"at": at_ns, "body": PAYLOAD}))
    await store.aclose()


if __name__ == "__main__":
    uvloop.run(serve(read_bare, write_bare))
