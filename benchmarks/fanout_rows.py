"""The rows of fan-out: medians of rounds, targets, and what shows that nothing else was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, median_run

if TYPE_CHECKING:
    from benchmarks.fanout import Idle, Lane
    from benchmarks.fanout_runs import Spread

BARE_SHARE = 0.75
NCHAN_SHARE = 0.9
NCHAN_FROM = 500
"""With fewer readers the figure against Nchan is information."""

PER_CORE = 250_000
STEADY_MS = 15.0
WATCHED_MS = 5.0
WATCHED_CORE = 0.5
STOPPED_TIMES = 1.1
IDLE_BYTES = 15_000
BUSY_SHARE = 0.8

Rounds = Sequence[Mapping[int, "Lane"]]


def load_rows(rounds: Rounds, readers: Sequence[int]) -> list[Figure]:
    """Deliveries per core, for each number of readers, and how soon the most are told at a rate."""
    rows = []
    for number in readers:
        lanes = [each[number] for each in rounds]
        rows.append(_against_row(lanes, number, "bare", "a bare writer", BARE_SHARE))
        if all("nchan" in lane.single for lane in lanes):
            limit = NCHAN_SHARE if number >= NCHAN_FROM else None
            rows.append(_against_row(lanes, number, "nchan", "Nchan", limit))
        rows.append(_pressed_row(lanes, number))
    most = [each[max(readers)] for each in rounds]
    return [*rows, _steady_row(most, max(readers)), _busy_row(most, max(readers))]


def watched_rows(spreads: Sequence[Spread], *, readers: int, each: int) -> list[Figure]:
    """Readers with a set of their own: how soon, and how much of a core."""
    p99 = [spread.crowd.latency.p99_ms for spread in spreads]
    core = [spread.core for spread in spreads]
    name = f"{readers:,} readers of {each} SKUs each, 1,000 changes/s"
    return [
        Figure(
            name=f"{name}, p99",
            value=median_run(p99),
            unit="ms",
            limit=WATCHED_MS,
            runs=tuple(p99),
            notes={"p50 ms": spreads[-1].crowd.latency.p50_ms, **_measuring(spreads[-1])},
        ),
        Figure(
            name=f"{name}, part of a core",
            value=median_run(core),
            unit="",
            limit=WATCHED_CORE,
            runs=tuple(core),
            notes={"told/s": spreads[-1].crowd.items / spreads[-1].load.elapsed_s},
        ),
    ]


def stopped_row(measured: Sequence[tuple[Spread, Spread]], *, readers: int) -> Figure:
    """The others' p99 beside a reader that takes nothing, against the same without it."""
    beside = [spread.crowd.latency.p99_ms for _, spread in measured]
    return Figure(
        name=f"{readers} readers beside one that reads nothing, p99, against without it",
        value=median_run(beside),
        unit="ms",
        floor=median_run([spread.crowd.latency.p99_ms for spread, _ in measured]),
        limit=STOPPED_TIMES,
        of_floor=True,
        runs=tuple(beside),
        notes=_measuring(measured[-1][1]),
    )


def idle_rows(idle: Idle) -> list[Figure]:
    """One run: what stays the same is not measured three times."""
    limited = {"why not all": idle.limit} if idle.limit else {}
    return [
        Figure(
            name="readers that one api process holds",
            value=idle.held,
            unit="",
            limit=idle.wanted,
            at_least=True,
            notes=limited,
        ),
        Figure(
            name=f"memory of an idle reader, {idle.held:,} readers",
            value=idle.bytes_each,
            unit="bytes",
            limit=IDLE_BYTES,
        ),
        Figure(name=f"heartbeats of {idle.held:,} readers, part of a core", value=idle.core, unit=""),
    ]


def missing_row(ours: Sequence[Spread], peers: Sequence[Spread]) -> Figure:
    """The sum of all runs: a loss in one of them is a loss."""
    return Figure(
        name="missing or wrong, all readers and runs",
        value=sum(spread.faults for spread in ours),
        unit="",
        limit=0,
        notes={
            "told": sum(spread.crowd.items for spread in ours),
            "gaps": sum(spread.crowd.gaps for spread in ours),
            "broken": sum(spread.crowd.broken for spread in ours),
            "late heartbeats": sum(spread.crowd.late for spread in ours),
            "at the peers": sum(spread.faults for spread in peers),
        },
    )


def _against_row(lanes: Sequence[Lane], readers: int, kind: str, name: str, limit: float | None) -> Figure:
    ours = [lane.single["hub"] for lane in lanes]
    peers = [lane.single[kind] for lane in lanes]
    values = [spread.per_core_second for spread in ours]
    return Figure(
        name=f"told per core second, {readers:,} readers, one change each, against {name}",
        value=median_run(values),
        unit="/s",
        floor=median_run([spread.per_core_second for spread in peers]),
        limit=limit,
        of_floor=True,
        at_least=True,
        runs=tuple(values),
        notes={
            **_sizes(ours[-1]),
            **_measuring(ours[-1]),
            f"{kind}: bytes a frame": _frame_bytes(peers[-1]),
            f"{kind} core": round(peers[-1].core, 2),
        },
    )


def _pressed_row(lanes: Sequence[Lane], readers: int) -> Figure:
    ours = [lane.pressed["hub"] for lane in lanes]
    values = [spread.per_core_second for spread in ours]
    peers = {
        f"{kind}, one frame each, /s": median_run([lane.pressed[kind].per_core_second for lane in lanes])
        for kind in lanes[-1].pressed
        if kind != "hub"
    }
    return Figure(
        name=f"told per core second, {readers:,} readers, changes as fast as they are taken",
        value=median_run(values),
        unit="/s",
        limit=PER_CORE,
        at_least=True,
        runs=tuple(values),
        notes={**_sizes(ours[-1]), **peers, **_measuring(ours[-1])},
    )


def _steady_row(lanes: Sequence[Lane], readers: int) -> Figure:
    values = [lane.steady["hub"].crowd.latency.p99_ms for lane in lanes]
    last = lanes[-1].steady
    peers = {f"{kind} p99 ms": spread.crowd.latency.p99_ms for kind, spread in last.items() if kind != "hub"}
    return Figure(
        name=f"{readers:,} readers of everything, 40 changes/s, p99",
        value=median_run(values),
        unit="ms",
        limit=STEADY_MS,
        runs=tuple(values),
        notes={"p50 ms": last["hub"].crowd.latency.p50_ms, **peers, **_measuring(last["hub"])},
    )


def _busy_row(lanes: Sequence[Lane], readers: int) -> Figure:
    """A measuring process above this part of a core could itself be what is measured."""
    values = [lane.steady["hub"].crowd.cpu_share for lane in lanes]
    return Figure(
        name=f"readers' process, {readers:,} readers, 40 changes/s, part of a core",
        value=median_run(values),
        unit="",
        limit=BUSY_SHARE,
        runs=tuple(values),
    )


def _sizes(spread: Spread) -> dict[str, float]:
    crowd = spread.crowd
    return {
        "changes/s": (spread.load.last - spread.load.first) / spread.load.elapsed_s,
        "changes a frame": crowd.items / crowd.frames if crowd.frames else 0.0,
        "bytes a frame": _frame_bytes(spread),
    }


def _frame_bytes(spread: Spread) -> float:
    return spread.crowd.frame_bytes / spread.crowd.frames if spread.crowd.frames else 0.0


def _measuring(spread: Spread) -> dict[str, float]:
    """What each process used of a core."""
    shares: dict[str, float] = {
        "hub core": round(spread.core, 2),
        "readers' core": round(spread.crowd.cpu_share, 2),
        "changes' core": round(spread.load.cpu_share, 2),
    }
    if spread.load.slip.count:
        shares["slip p99 ms"] = spread.load.slip.p99_ms
    return shares
