"""Webhook POST to SSE event through the whole hub, with 50 readers that get everything, against a bare POST.

The bare POST is the floor: the same requests at the same rate from the same generator to a server that only
reads them. Both count from the moment a request was due.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import hub, runs
from benchmarks.figures import Figure, median_run

if TYPE_CHECKING:
    from benchmarks.runs import Run
    from benchmarks.scale import Scale

READERS = 50
RATES = (1_000, 2_000, 4_000)
LIMIT_MS = {1_000: 10.0, 2_000: 25.0}
FLOOR_RATE = 1_000
FLOOR_TIMES = 4.0
BUSY_SHARE = 0.8
"""A measuring process above this part of a core could itself be what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round: the floor and the hub back to back."""

    bare: Run
    hub: Mapping[int, Run]


async def measure_end_to_end(scale: Scale) -> list[Figure]:
    """Measure all rounds and return the rows."""
    rounds = [await _measure_round(scale) for _ in range(scale.runs)]
    rows = [_latency_row(rate, rounds) for rate in LIMIT_MS]
    rows.append(_floor_row(rounds))
    rows.extend(_missing_row(rate, rounds) for rate in RATES)
    rows.extend(_generator_rows(rounds))
    return rows


async def _measure_round(scale: Scale) -> Round:
    async with hub.bare_server() as bare:
        floor = await runs.at_rate(bare, runs.Sequence(), rate=FLOOR_RATE, seconds=scale.seconds)
    with hub.store() as url:
        async with hub.hub(url) as started:
            sequence = runs.Sequence()
            measured = {
                rate: await runs.at_rate(started, sequence, rate=rate, seconds=scale.seconds, readers=READERS)
                for rate in RATES
            }
    return Round(bare=floor, hub=measured)


def _latency_row(rate: int, rounds: Sequence[Round]) -> Figure:
    values = [_latency_p99(each.hub[rate]) for each in rounds]
    last = rounds[-1].hub[rate]
    return Figure(
        name=f"webhook to event, {rate:,}/s, p99",
        value=median_run(values),
        unit="ms",
        limit=LIMIT_MS[rate],
        runs=tuple(values),
        notes={"p50 ms": last.read.latency.p50_ms if last.read else "", **_shares(last)},
    )


def _floor_row(rounds: Sequence[Round]) -> Figure:
    values = [_latency_p99(each.hub[FLOOR_RATE]) for each in rounds]
    bare = rounds[-1].bare.load
    return Figure(
        name=f"webhook to event, {FLOOR_RATE:,}/s, p99, against a bare POST",
        value=median_run(values),
        unit="ms",
        floor=median_run([each.bare.load.latency.p99_ms for each in rounds]),
        limit=FLOOR_TIMES,
        of_floor=True,
        runs=tuple(values),
        notes={"bare p50 ms": bare.latency.p50_ms, "slip p99 ms": bare.slip.p99_ms},
    )


def _missing_row(rate: int, rounds: Sequence[Round]) -> Figure:
    """The sum of all rounds: a loss in one of three is a loss."""
    values = [_wrong(each.hub[rate]) for each in rounds]
    reads = [each.hub[rate].read for each in rounds]
    return Figure(
        name=f"missing or wrong at {READERS} readers, {rate:,}/s",
        value=sum(values),
        unit="",
        limit=0,
        runs=tuple(values),
        notes={
            "posted": sum(each.hub[rate].load.sent for each in rounds),
            "refused": sum(each.hub[rate].load.refused for each in rounds),
            "seen": sum(read.exact for read in reads if read),
            "seen as a later state": sum(read.superseded for read in reads if read),
            "p99 ms": median_run([_latency_p99(each.hub[rate]) for each in rounds]),
        },
    )


def _generator_rows(rounds: Sequence[Round]) -> list[Figure]:
    top = [each.hub[RATES[-1]] for each in rounds]
    generator = [run.load.cpu_share for run in top]
    readers = [run.read.cpu_share for run in top if run.read]
    return [
        Figure(
            name=f"generator's part of a core, {RATES[-1]:,}/s",
            value=median_run(generator),
            unit="",
            limit=BUSY_SHARE,
            runs=tuple(generator),
            notes={"slip p50 ms": top[-1].load.slip.p50_ms, "slip p99 ms": top[-1].load.slip.p99_ms},
        ),
        Figure(
            name=f"readers' part of a core, {RATES[-1]:,}/s",
            value=median_run(readers),
            unit="",
            limit=BUSY_SHARE,
            runs=tuple(readers),
        ),
    ]


def _latency_p99(run: Run) -> float:
    assert run.read is not None
    return run.read.latency.p99_ms


def _wrong(run: Run) -> float:
    read = run.read
    assert read is not None
    faults = (read.missing, read.wrong_final, read.gaps, read.backwards, read.broken, run.load.refused)
    return float(sum(faults))


def _shares(run: Run) -> dict[str, float | str]:
    return {f"{name} core": round(share, 2) for name, share in run.shares.items()}
