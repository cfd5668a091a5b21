"""The load generator, a process of its own: it prepares, warms up, sends and reports.

The report says how late the generator itself was and how much of a core it used: that shows whether it was
the bottleneck.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import uvloop

from benchmarks.children import hear_line, say_line
from benchmarks.coverage import Pattern
from benchmarks.figures import Latency, latency_of
from benchmarks.http1 import connect
from benchmarks.loops import ClosedLoop, OpenLoop
from benchmarks.prepared import Target, prepare


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Changes ``first`` to ``last`` (exclusive) to send; ``rate`` per second, or 0 for a closed loop."""

    url: str
    secret: str
    run: str
    skus: int
    first: int
    last: int
    rate: float
    connections: int
    warm_up: int
    drain_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What was sent and answered.

    ``slip`` is from a request's due moment to the generator looking at it, ``waited`` to its being written:
    the difference was spent waiting for a free connection, which is the receiver's doing.
    """

    sent: int
    answered: dict[str, int]
    refused: int
    latency: Latency
    slip: Latency
    waited: Latency
    cpu_share: float
    elapsed_s: float
    per_second: float


async def warm_up(plan: Plan) -> None:
    """Set every SKU once, so that the run changes SKUs that exist.

    Raises:
        SystemExit: a request of the warm-up was refused: the run would measure refusals.
    """
    target = Target(url=plan.url, secret=plan.secret, run=f"{plan.run}w")
    loop = ClosedLoop(prepare(target, Pattern(skus=plan.skus), 0, plan.warm_up, now_s=int(time.time())))
    connections = await connect(target.host, target.port, min(plan.connections, 16), loop.answered)
    await loop.run(connections)
    for connection in connections:
        connection.close()
    refused = Counter(status for status in loop.statuses if not is_accepted(status))
    if refused:
        msg = f"the warm-up was refused: {dict(refused)}"
        raise SystemExit(msg)


async def run_open(plan: Plan, start_ns: int, requests: Sequence[bytes]) -> LoadReport:
    """Send on schedule from ``start_ns``."""
    target = Target(url=plan.url, secret=plan.secret, run=plan.run)
    loop = OpenLoop(requests, round(1e9 / plan.rate))
    connections = await connect(target.host, target.port, plan.connections, loop.answered)
    cpu_before = time.process_time()
    await loop.run(connections, start_ns, plan.drain_s)
    elapsed_s, cpu_used = time.monotonic() - start_ns / 1e9, time.process_time() - cpu_before
    busy_s = len(requests) / plan.rate
    for connection in connections:
        connection.close()
    return LoadReport(
        sent=len(loop.waits_ns),
        answered=_by_status(loop.statuses),
        refused=len(requests) - sum(map(is_accepted, loop.statuses)),
        latency=latency_of(loop.latencies_ns),
        slip=latency_of(loop.slips_ns),
        waited=latency_of(loop.waits_ns),
        cpu_share=cpu_used / busy_s,
        elapsed_s=elapsed_s,
        per_second=len(loop.statuses) / busy_s,
    )


async def run_closed(plan: Plan, requests: Sequence[bytes]) -> LoadReport:
    """Send as fast as answers come."""
    target = Target(url=plan.url, secret=plan.secret, run=plan.run)
    loop = ClosedLoop(requests)
    connections = await connect(target.host, target.port, plan.connections, loop.answered)
    cpu_before, began = time.process_time(), time.monotonic()
    await loop.run(connections)
    elapsed_s, cpu_used = time.monotonic() - began, time.process_time() - cpu_before
    for connection in connections:
        connection.close()
    return LoadReport(
        sent=len(loop.statuses),
        answered=_by_status(loop.statuses),
        refused=len(requests) - sum(map(is_accepted, loop.statuses)),
        latency=latency_of(loop.latencies_ns),
        slip=latency_of([]),
        waited=latency_of([]),
        cpu_share=cpu_used / elapsed_s,
        elapsed_s=elapsed_s,
        per_second=loop.per_second(),
    )


def is_accepted(status: int) -> bool:
    """Whether the receiver took the delivery."""
    return 200 <= status < 300


def _by_status(statuses: Sequence[int]) -> dict[str, int]:
    return {str(status or "broken"): count for status, count in sorted(Counter(statuses).items())}


async def main() -> None:
    """Serve one plan."""
    plan = Plan(**await hear_line())
    await warm_up(plan)
    target = Target(url=plan.url, secret=plan.secret, run=plan.run)
    requests = prepare(target, Pattern(skus=plan.skus), plan.first, plan.last, now_s=int(time.time()))
    say_line({"ready": True})
    start_ns = int((await hear_line())["start_ns"])
    # A collection stops the process for milliseconds; a run is short and its garbage is small.
    gc.collect()
    gc.disable()
    report = await run_open(plan, start_ns, requests) if plan.rate else await run_closed(plan, requests)
    say_line(asdict(report))


if __name__ == "__main__":
    uvloop.run(main())
