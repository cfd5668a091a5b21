"""Fan-out: what telling many readers costs the api process, how soon they know, and who can disturb it.

The api process has a core for itself; Valkey, changes and readers share the other, as for holds. The bare
writer and Nchan get the same changes, core and readers: one change at a time, the next when all have it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import resource
import socket
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import machine
from benchmarks.children import ChildFailedError
from benchmarks.fanout_readers import request_of
from benchmarks.fanout_rows import idle_rows, load_rows, missing_row, stopped_row, watched_rows
from benchmarks.fanout_runs import bare_served, hub_served, nchan_served, session
from benchmarks.figures import Figure
from benchmarks.hub import Cores
from benchmarks.nchan import nginx, programs

if TYPE_CHECKING:
    from benchmarks.fanout_runs import Served, Session, Spread
    from benchmarks.hub import Hub
    from benchmarks.nchan import Programs
    from benchmarks.scale import Scale

SKUS = 128
"""More than are ever under way, so that none is told in a later state instead; few, for short snapshots."""

PRESSED = 16
"""Changes under way at the same time where as many are to be told as can be."""

STEADY_RATE = 40.0
WATCHED_RATE = 1_000.0
STOPPED_RATE = 100.0
SETTLE_S = 2.0
FILES_LEFT = 500
"""Descriptors that a process needs besides its readers."""

SMALL_BUFFER = 4_096
STALL_TRIES = 30
"""Seconds in which the buffers of the kernel must be full of what a stopped reader does not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One number of readers in one round, by kind of server."""

    single: Mapping[str, Spread]
    pressed: Mapping[str, Spread]
    steady: Mapping[str, Spread]


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """What readers cost whom nothing is told: bytes of the api process each, and its part of a core."""

    wanted: int
    held: int
    bytes_each: float
    core: float
    limit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one part of the benchmark says, and the runs in which nothing may be missing."""

    rows: Sequence[Figure]
    ours: Sequence[Spread] = ()
    peers: Sequence[Spread] = ()


async def measure_fanout(scale: Scale) -> list[Figure]:
    """Measure part after part and return the rows; one that cannot run does not keep the others from it."""
    cores = _cores()
    raise_file_limit()
    parts = []
    for name, measure in _PARTS.items():
        try:
            parts.append(await measure(scale, cores))
        except (ChildFailedError, OSError) as failure:
            parts.append(Part(rows=[_could_not(f"fanout, {name}", _why(failure))]))
    rows = [row for part in parts for row in part.rows]
    ours = [spread for part in parts for spread in part.ours]
    return [*rows, missing_row(ours, [spread for part in parts for spread in part.peers])]


def raise_file_limit() -> int:
    """Let processes that are started from now on hold as many connections as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


async def _measure_load(scale: Scale, cores: Cores) -> Part:
    """The hub and its peers under the same changes."""
    async with _peer() as (found, problem):
        rounds = [await _measure_round(scale, cores, found) for _ in range(scale.runs)]
    rows = load_rows(rounds, scale.readers)
    if problem:
        rows.append(_could_not("Nchan", problem))
    runs = [
        (kind, spread)
        for lanes in rounds
        for lane in lanes.values()
        for spreads in (lane.single, lane.pressed, lane.steady)
        for kind, spread in spreads.items()
    ]
    return Part(
        rows=rows,
        ours=[spread for kind, spread in runs if kind == "hub"],
        peers=[spread for kind, spread in runs if kind != "hub"],
    )


async def _measure_round(scale: Scale, cores: Cores, found: Programs | None) -> dict[int, Lane]:
    """Measure the hub and its peers back to back, with frames as long as the hub's."""
    lanes = {}
    first = 0
    async with hub_served(cores) as (served, _):
        for readers in scale.readers:
            async with session(served, readers=readers, skus=SKUS, first=first, core=cores.others) as crowd:
                lanes[readers] = await _lane(crowd, scale, readers)
                first = crowd.next
    for readers, lane in lanes.items():
        single = lane.single["hub"].crowd
        frame_bytes = round(single.frame_bytes / max(1, single.frames))
        peers = [bare_served(frame_bytes, cores)]
        if found is not None:
            peers.append(nchan_served(found, frame_bytes, readers, cores))
        for peer in peers:
            async with (
                peer as served,
                session(served, readers=readers, skus=SKUS, core=cores.others) as crowd,
            ):
                lanes[readers] = _both(lanes[readers], await _lane(crowd, scale, readers))
    return lanes


async def _lane(crowd: Session, scale: Scale, readers: int) -> Lane:
    """One change at a time, several, and where readers are most also a steady rate."""
    kind = crowd.served.kind
    single = await crowd.pressed(1, scale.fanout_s)
    pressed = await crowd.pressed(PRESSED, scale.fanout_s)
    steady: dict[str, Spread] = {}
    if readers == max(scale.readers):
        steady[kind] = await crowd.at_rate(STEADY_RATE, scale.fanout_s)
    return Lane(single={kind: single}, pressed={kind: pressed}, steady=steady)


def _both(one: Lane, other: Lane) -> Lane:
    return Lane(
        single={**one.single, **other.single},
        pressed={**one.pressed, **other.pressed},
        steady={**one.steady, **other.steady},
    )


async def _measure_watched(scale: Scale, cores: Cores) -> Part:
    """Readers that each follow a set of some of many SKUs."""
    readers = max(scale.readers)
    async with (
        hub_served(cores) as (served, _),
        session(
            served,
            readers=readers,
            skus=scale.watched_skus,
            watched=scale.watched_each,
            core=cores.others,
        ) as crowd,
    ):
        spreads = [await crowd.at_rate(WATCHED_RATE, scale.fanout_s) for _ in range(scale.runs)]
    return Part(rows=watched_rows(spreads, readers=readers, each=scale.watched_each), ours=spreads)


async def _measure_stopped(scale: Scale, cores: Cores) -> Part:
    """The same rate without and with one more reader, which has long stopped reading."""
    measured = []
    async with (
        hub_served(cores) as (served, started),
        session(served, readers=scale.stopped_among, skus=SKUS, core=cores.others) as crowd,
    ):
        for _ in range(scale.runs):
            alone = await crowd.at_rate(STOPPED_RATE, scale.fanout_s)
            with _stopped_reader(served):
                await _until_stalled(crowd, started)
                measured.append((alone, await crowd.at_rate(STOPPED_RATE, scale.fanout_s)))
    rows = [stopped_row(measured, readers=scale.stopped_among)]
    return Part(rows=rows, ours=[spread for both in measured for spread in both])


async def _until_stalled(crowd: Session, started: Hub) -> None:
    """Press changes until the hub has put a reader aside that takes nothing.

    Raises:
        ChildFailedError: it does not.
    """
    before = await asyncio.to_thread(_stalls, started)
    for _ in range(STALL_TRIES):
        await crowd.pressed(PRESSED, 1.0)
        if await asyncio.to_thread(_stalls, started) > before:
            return
    msg = "a reader that reads nothing was never put aside"
    raise ChildFailedError(msg)


async def _measure_idle(scale: Scale, cores: Cores) -> Part:
    """Memory and heartbeats of readers that are told of no change."""
    hard = raise_file_limit()
    wanted = min(scale.idle_readers, hard - FILES_LEFT)
    limit = f"{hard:,} open files are allowed" if wanted < scale.idle_readers else ""
    async with hub_served(cores) as (served, _):
        # The first reader brings with it what is needed once.
        async with session(served, readers=1, skus=1, core=cores.others):
            pass
        before = machine.pss_bytes(served.pid)
        async with session(served, readers=wanted, skus=1, first=1, core=cores.others) as crowd:
            await asyncio.sleep(SETTLE_S)
            grown = machine.pss_bytes(served.pid) - before
            began, cpu_before = time.monotonic(), machine.cpu_s(served.pid)
            await asyncio.sleep(scale.idle_s)
            core = (machine.cpu_s(served.pid) - cpu_before) / (time.monotonic() - began)
            # Whoever is told of this one change is still there.
            told = await crowd.at_rate(1.0, 1.0)
    idle = Idle(
        wanted=scale.idle_readers,
        held=told.crowd.items,
        bytes_each=grown / wanted,
        core=core,
        limit=limit,
    )
    return Part(rows=idle_rows(idle), ours=[told])


@contextlib.asynccontextmanager
async def _peer() -> AsyncIterator[tuple[Programs | None, str]]:
    """Nchan's programs when they start here, or why they do not."""
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(programs())
            async with nginx(found, connections=1, core=None):
                problem = ""
        except (ChildFailedError, OSError) as failure:
            found, problem = None, _why(failure)
        yield found, problem


@contextlib.contextmanager
def _stopped_reader(served: Served) -> Iterator[None]:
    """Ask for the feed and read nothing of it."""
    address = served.feed_url.removeprefix("http://").partition("/")[0]
    host, _, port = address.partition(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        connection.connect((host, int(port)))
        connection.sendall(request_of(served.feed_url, served.key))
        yield


def _stalls(started: Hub) -> float:
    """How often the hub says it has put a reader aside."""
    with urllib.request.urlopen(f"{started.base_url}/metrics", timeout=5) as answer:  # noqa: S310 - our own loopback address
        lines: Sequence[str] = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("synchub_feed_stalls_total"))


def _could_not(name: str, why: str) -> Figure:
    return Figure(name=name, value=math.nan, unit="", limit=0, notes={"could not run:": why})


def _why(failure: Exception) -> str:
    return " ".join(str(failure).split())[-300:]


def _cores() -> Cores:
    usable = machine.cores()
    return Cores(serve=usable[0], others=usable[1]) if len(usable) > 1 else Cores()


_PARTS = {
    "load": _measure_load,
    "watched": _measure_watched,
    "stopped": _measure_stopped,
    "idle": _measure_idle,
}
