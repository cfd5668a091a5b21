"""64 agents at one hot SKU: holds against a bare POST and against PostgreSQL, answers against a bare GET.

Closed loop over keep-alive connections. The api process has a core for itself; Valkey, worker and agents
share the other, as for the receiver. PostgreSQL and its client may use both cores (see ``postgres.py`` for
what else is in its favour).
"""

from __future__ import annotations

import asyncio
import math
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import orjson

from benchmarks import hub, machine, runs
from benchmarks.asking import Asking, Kind
from benchmarks.children import ChildFailedError
from benchmarks.coverage import Pattern
from benchmarks.figures import Figure, median_run
from benchmarks.grants import STEP, measure_grants
from benchmarks.hub import Cores, Hub, Receiver
from benchmarks.postgres import Peer, measure_peers
from benchmarks.prepared import Target, prepare

if TYPE_CHECKING:
    from benchmarks.runs import Run
    from benchmarks.scale import Scale

AGENTS = 64
FLOOR_SHARE = 0.6
P99_MS = 10.0
PEER_TIMES = 5.0
PEER_P99_SHARE = 0.1
ANSWER_SHARE = 0.75
SCRIPT_US = 20.0

HOT = Pattern(skus=1)
SKU = HOT.sku(0)
PLENTY = 100_000_000
MEASURED_SHARE = 0.05
"""How many more are granted, of those that live, to take the script's time from."""

STOCK_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round: the floors and the hub back to back."""

    bare: Run
    held: Run
    bare_answers: Run
    answers: Run


async def measure_holds(scale: Scale) -> list[Figure]:
    """Measure all rounds, then the peer, and return the rows."""
    cores = _cores()
    rounds = [await _measure_round(scale, cores) for _ in range(scale.runs)]
    try:
        peers = await asyncio.to_thread(measure_peers, clients=AGENTS, seconds=scale.peer_s, runs=scale.runs)
        problem = ""
    except (ChildFailedError, OSError) as failure:
        peers, problem = {}, " ".join(str(failure).split())[-300:]
    rows = [_throughput_row(rounds), _latency_row(rounds), *_peer_rows(rounds, peers)]
    if problem:
        rows.append(
            Figure(name="PostgreSQL", value=math.nan, unit="", limit=0, notes={"could not run:": problem})
        )
    return [*rows, _answers_row(rounds), await _script_row(scale)]


async def _measure_round(scale: Scale, cores: Cores) -> Round:
    async with hub.bare_server(cores.serve) as bare:
        floor = await _asked(bare, "hold", scale.holds, cores)
        answers_floor = await _asked(bare, "ask", scale.holds, cores)
    with hub.store(cores.others) as url:
        async with hub.hub(url, cores=cores) as started:
            await stock_up(started)
            answers = await _asked(started, "ask", scale.holds, cores)
            held = await _asked(started, "hold", scale.holds, cores)
    return Round(bare=floor, held=held, bare_answers=answers_floor, answers=answers)


async def stock_up(started: Hub) -> None:
    """Post a really signed level of the hot SKU and wait until agents are told of it.

    Raises:
        ChildFailedError: they are not.
    """
    target = Target(url=started.hook_url, secret=started.secret, run=f"{time.monotonic_ns():x}")
    (request,) = prepare(target, HOT, PLENTY, PLENTY + 1, now_s=int(time.time()))
    reader, writer = await asyncio.open_connection(target.host, target.port)
    writer.write(request)
    status = (await reader.readline()).split(b" ")[1]
    writer.close()
    deadline = time.monotonic() + STOCK_DEADLINE_S
    while await asyncio.to_thread(available, started, SKU) < PLENTY:
        if time.monotonic() > deadline:
            msg = f"the level of {SKU} was answered {status.decode()} and agents are not told of it"
            raise ChildFailedError(msg)
        await asyncio.sleep(0.05)


def available(started: Hub, sku: str) -> int:
    """Ask how many there are."""
    request = urllib.request.Request(  # noqa: S310 - our own loopback address
        f"{started.base_url}/v1/stock/{sku}", headers={"Authorization": f"Bearer {started.key}"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - our own loopback address
        return int(orjson.loads(answer.read())["available"] or 0)


def asking_of(
    receiver: Receiver, kind: Kind, count: int, *, mode: str = "hold", ttl_ms: int = 60_000
) -> Asking:
    """What agents of this receiver ask; a bare server takes any key."""
    parts = urlsplit(receiver.hook_url)
    return Asking(
        url=f"{parts.scheme}://{parts.netloc}",
        key=receiver.key if isinstance(receiver, Hub) else hub.ANY_KEY,
        kind=kind,
        sku=SKU,
        run=f"{time.monotonic_ns():x}",
        count=count,
        connections=AGENTS,
        mode=mode,
        ttl_ms=ttl_ms,
    )


async def _asked(receiver: Receiver, kind: Kind, count: int, cores: Cores) -> Run:
    return await runs.asked(receiver, asking_of(receiver, kind, count), core=cores.others)


def _throughput_row(rounds: Sequence[Round]) -> Figure:
    values = [each.held.load.per_second for each in rounds]
    last = rounds[-1]
    return Figure(
        name=f"holds on one SKU, {AGENTS} agents, against a bare POST",
        value=median_run(values),
        unit="/s",
        floor=median_run([each.bare.load.per_second for each in rounds]),
        limit=FLOOR_SHARE,
        of_floor=True,
        at_least=True,
        runs=tuple(values),
        notes={
            "agents' core": round(last.held.load.cpu_share, 2),
            **{f"{name} core": round(share, 2) for name, share in last.held.shares.items()},
        },
    )


def _latency_row(rounds: Sequence[Round]) -> Figure:
    values = [each.held.load.latency.p99_ms for each in rounds]
    return Figure(
        name=f"hold on one SKU, {AGENTS} agents, p99",
        value=median_run(values),
        unit="ms",
        limit=P99_MS,
        runs=tuple(values),
        notes={
            "p50 ms": rounds[-1].held.load.latency.p50_ms,
            "bare p99 ms": rounds[-1].bare.load.latency.p99_ms,
        },
    )


def _peer_rows(rounds: Sequence[Round], peers: dict[str, list[Peer]]) -> list[Figure]:
    held = [each.held.load for each in rounds]
    rows = []
    for name, measured in peers.items():
        notes = {"pgbench p50 ms": measured[-1].latency.p50_ms}
        rows += [
            Figure(
                name=f"holds on one SKU, against PostgreSQL, {name}",
                value=median_run([load.per_second for load in held]),
                unit="/s",
                floor=median_run([peer.per_second for peer in measured]),
                limit=PEER_TIMES,
                of_floor=True,
                at_least=True,
            ),
            Figure(
                name=f"hold on one SKU, p99, against PostgreSQL, {name}",
                value=median_run([load.latency.p99_ms for load in held]),
                unit="ms",
                floor=median_run([peer.latency.p99_ms for peer in measured]),
                limit=PEER_P99_SHARE,
                of_floor=True,
                notes=notes,
            ),
        ]
    return rows


def _answers_row(rounds: Sequence[Round]) -> Figure:
    values = [each.answers.load.per_second for each in rounds]
    return Figure(
        name=f"answers about one SKU, {AGENTS} agents, against a bare GET",
        value=median_run(values),
        unit="/s",
        floor=median_run([each.bare_answers.load.per_second for each in rounds]),
        limit=ANSWER_SHARE,
        of_floor=True,
        at_least=True,
        runs=tuple(values),
        notes={"p99 ms": rounds[-1].answers.load.latency.p99_ms},
    )


async def _script_row(scale: Scale) -> Figure:
    measured = max(STEP, round(scale.live_holds * MEASURED_SHARE))
    with hub.store() as url:
        costs = [
            await measure_grants(url, live=scale.live_holds, measured=measured) for _ in range(scale.runs)
        ]
    values = [cost.in_step_us for cost in costs]
    return Figure(
        name=f"Redis time of a hold, {STEP} in one step, {scale.live_holds:,} live",
        value=median_run(values),
        unit="us",
        limit=SCRIPT_US,
        runs=tuple(values),
        notes={"alone, us": median_run([cost.alone_us for cost in costs])},
    )


def _cores() -> Cores:
    usable = machine.cores()
    return Cores(serve=usable[0], others=usable[1]) if len(usable) > 1 else Cores()
