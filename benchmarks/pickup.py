"""How soon a worker has a delivery that was just written: the hub's own consumer against the bare stream hop.

From just before the hub's durable write to its consumer handing the delivery over; the consumer finishes
each batch as in a worker, but nothing is applied, which is the next step's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import uvloop

from benchmarks import hub
from benchmarks.children import say_line
from benchmarks.figures import Figure, median_run
from benchmarks.stream_hop import PAYLOAD, HopPlan, measure_hop, on_schedule, serve
from synchub.connector_kit.delivery import Delivery
from synchub.ingress import store
from synchub.ingress.consumer import Consumer
from synchub.redis import CoalescingRedis, open_redis
from synchub.settings import load_settings

if TYPE_CHECKING:
    from benchmarks.scale import Scale
    from synchub.ingress.model import Queued

RATE = 1_000
FLOOR_TIMES = 4.0


async def measure_pickup(scale: Scale) -> list[Figure]:
    """Measure floor and consumer in turn, on one store."""
    bare, picked = [], []
    count = round(RATE * scale.seconds)
    with hub.store() as url:
        for _ in range(scale.runs):
            bare.append(await measure_hop("benchmarks.stream_hop", url, count=count, rate=RATE))
            picked.append(await measure_hop("benchmarks.pickup", url, count=count, rate=RATE))
    return [
        Figure(
            name=f"pick-up by a worker, {RATE:,}/s, p99, against a bare stream hop",
            value=median_run([latency.p99_ms for latency in picked]),
            unit="ms",
            floor=median_run([latency.p99_ms for latency in bare]),
            limit=FLOOR_TIMES,
            of_floor=True,
            runs=tuple(latency.p99_ms for latency in picked),
            notes={
                "p50 ms": median_run([latency.p50_ms for latency in picked]),
                "bare p50 ms": median_run([latency.p50_ms for latency in bare]),
            },
        )
    ]


DELIVERY: Final = Delivery(account="bench", headers={}, body=PAYLOAD, arrived_at_us=0)


async def read_queued(plan: HopPlan) -> list[int]:
    """Consume as a worker does and return each delivery's latency."""
    settings = load_settings(redis={"url": plan.url})
    client = open_redis(settings.redis)
    await store.ensure_group(client)
    latencies: list[int] = []
    complete = asyncio.Event()

    async def handle(batch: Sequence[Queued]) -> None:
        now_ns = time.monotonic_ns()
        latencies.extend(now_ns - int(queued.delivery.headers["posted-ns"]) for queued in batch)
        await store.finish(client, [queued.id for queued in batch])
        if len(latencies) >= plan.count:
            complete.set()

    consumer = Consumer("bench", settings, handle)
    running = asyncio.create_task(consumer.run())
    say_line({"ready": True})
    await complete.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await consumer.close()
    await client.aclose()
    return latencies


async def write_queued(plan: HopPlan) -> None:
    """Append as the receiver does; a header carries the moment."""
    redis = CoalescingRedis(load_settings(redis={"url": plan.url}).redis)
    await redis.execute("PING")
    await on_schedule(plan, lambda at_ns: store.append(redis, DELIVERY, {"posted-ns": str(at_ns)}))
    await redis.close()


if __name__ == "__main__":
    uvloop.run(serve(read_queued, write_queued))
