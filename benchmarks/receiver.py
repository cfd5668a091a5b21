"""How many webhooks one core takes, signature and durable write included, against a bare POST.

Closed loop at 64 connections. The server has a core for itself; Valkey and the generator share the other.
The worker is left out: it would take time from those two, and the receiver would no longer be what is full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import hub, machine, runs
from benchmarks.figures import Figure, median_run
from benchmarks.hub import Cores

if TYPE_CHECKING:
    from benchmarks.scale import Scale

FLOOR_SHARE = 0.6


async def measure_receiver(scale: Scale) -> list[Figure]:
    """Measure bare and hub in turn and return the row."""
    cores = _cores()
    bare, taken = [], []
    for _ in range(scale.runs):
        bare.append(await _bare(scale, cores))
        taken.append(await _hub(scale, cores))
    last = taken[-1]
    return [
        Figure(
            name="receiver, saturated, against a bare POST",
            value=median_run([run.load.per_second for run in taken]),
            unit="/s",
            floor=median_run([run.load.per_second for run in bare]),
            limit=FLOOR_SHARE,
            of_floor=True,
            at_least=True,
            runs=tuple(run.load.per_second for run in taken),
            notes={
                "refused": sum(run.load.refused for run in taken),
                "generator core": round(last.load.cpu_share, 2),
                "bare core": round(bare[-1].shares["bare"], 2),
                **{f"{name} core": round(share, 2) for name, share in last.shares.items()},
            },
        )
    ]


async def _bare(scale: Scale, cores: Cores) -> runs.Run:
    async with hub.bare_server(cores.serve) as bare:
        return await runs.saturated(bare, runs.Sequence(), count=scale.saturated_requests, core=cores.others)


async def _hub(scale: Scale, cores: Cores) -> runs.Run:
    with hub.store(cores.others) as url:
        async with hub.hub(url, cores=cores, works=False) as started:
            return await runs.saturated(
                started, runs.Sequence(), count=scale.saturated_requests, core=cores.others
            )


def _cores() -> Cores:
    usable = machine.cores()
    return Cores(serve=usable[0], others=usable[1]) if len(usable) > 1 else Cores()
