"""``python -m benchmarks``: floors and hub in one run, the median of three, one table.

A miss is reported and not hidden: its row says MISS, and a profile of the hub's processes follows. The exit
code stays 0 unless ``--strict`` asks otherwise, because a busy machine is no defect of the code.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import platform
import sys
from collections.abc import Awaitable, Callable, Sequence

import orjson

from benchmarks import hub, machine
from benchmarks.apply import measure_apply
from benchmarks.children import ChildFailedError
from benchmarks.end_to_end import READERS, measure_end_to_end
from benchmarks.fanout import measure_fanout
from benchmarks.figures import Figure, as_json, median_run, table
from benchmarks.holds import measure_holds
from benchmarks.idle import measure_idle
from benchmarks.memory import measure_memory
from benchmarks.pickup import measure_pickup
from benchmarks.profiles import profile_hub
from benchmarks.receiver import measure_receiver
from benchmarks.scale import Scale, scale_of
from benchmarks.stalls import measure_stalls

Measure = Callable[[Scale], Awaitable[list[Figure]]]

BATCHED_SHARE = 0.8
IDLE_PERCENT = 3.0
IDLE_MB = 250.0
PROFILED = frozenset({"end-to-end", "receiver", "pickup"})
"""Benchmarks whose misses a profile under load can explain."""

PROFILE_RATE = 1_000


async def apply_figures(scale: Scale) -> list[Figure]:
    """Redis time per change: batched against single."""
    with hub.store() as url:
        costs = [await measure_apply(url, rounds=scale.apply_rounds) for _ in range(scale.runs)]
    batched = [cost.batched_us for cost in costs]
    return [
        Figure(
            name="Redis time of a change, 64 in one script, against one each",
            value=median_run(batched),
            unit="us",
            floor=median_run([cost.single_us for cost in costs]),
            limit=BATCHED_SHARE,
            of_floor=True,
            runs=tuple(batched),
        )
    ]


async def idle_figures(scale: Scale) -> list[Figure]:
    """One run: what stays the same is not measured three times."""
    cost = await measure_idle(seconds=scale.idle_s)
    return [
        Figure(name="idle hub, processor", value=cost.cpu_percent, unit="%", limit=IDLE_PERCENT),
        Figure(
            name="idle hub, memory",
            value=cost.memory_mb,
            unit="MB",
            limit=IDLE_MB,
            notes=dict(cost.processes),
        ),
    ]


BENCHMARKS: dict[str, Measure] = {
    "end-to-end": measure_end_to_end,
    "receiver": measure_receiver,
    "pickup": measure_pickup,
    "apply": apply_figures,
    "holds": measure_holds,
    "fanout": measure_fanout,
    "memory": measure_memory,
    "stalls": measure_stalls,
    "idle": idle_figures,
}


async def measure(names: Sequence[str], scale: Scale) -> dict[str, list[Figure]]:
    """Run the named benchmarks one after the other; one that cannot run is a miss that says why."""
    figures = {}
    for name in names:
        _progress(f"{name} …")
        try:
            figures[name] = await BENCHMARKS[name](scale)
        except (ChildFailedError, OSError) as problem:
            reason = " ".join(str(problem).split())[-400:]
            figures[name] = [
                Figure(name=name, value=math.nan, unit="", limit=0, notes={"could not run:": reason})
            ]
    return figures


async def explain(figures: dict[str, list[Figure]], scale: Scale) -> dict[str, str]:
    """Profile the hub when something was missed that a profile can explain."""
    missed = {name for name, rows in figures.items() if any(row.verdict == "MISS" for row in rows)}
    if not missed & PROFILED:
        return {}
    _progress("profile …")
    try:
        return await profile_hub(rate=PROFILE_RATE, seconds=scale.seconds, readers=READERS)
    except (ChildFailedError, OSError) as problem:
        return {"hub": f"could not be profiled: {' '.join(str(problem).split())[-400:]}"}


async def run(arguments: argparse.Namespace) -> int:
    """Measure, explain, print."""
    scale = scale_of(runs=arguments.runs, quick=arguments.quick)
    figures = await measure(arguments.only or list(BENCHMARKS), scale)
    profiles = await explain(figures, scale)
    rows = [row for group in figures.values() for row in group]
    if arguments.json:
        _print_json(rows, profiles)
    else:
        _print_text(rows, profiles)
    return int(arguments.strict and any(row.verdict == "MISS" for row in rows))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="JSON on stdout and nothing else")
    parser.add_argument(
        "--only", action="append", choices=list(BENCHMARKS), metavar="NAME", help="repeatable"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each figure; the median counts")
    parser.add_argument("--quick", action="store_true", help="one short run: does everything work?")
    parser.add_argument("--strict", action="store_true", help="exit code 1 when a target is missed")
    raise SystemExit(asyncio.run(run(parser.parse_args())))


def _print_json(rows: Sequence[Figure], profiles: dict[str, str]) -> None:
    answer = {"machine": _machine(), "figures": [as_json(row) for row in rows], "profiles": profiles}
    sys.stdout.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode() + "\n")


def _print_text(rows: Sequence[Figure], profiles: dict[str, str]) -> None:
    print(", ".join(f"{name} {value}" for name, value in _machine().items()))
    print(table(rows))
    for name, text in profiles.items():
        print(f"\nprofile of {name}\n{text}")


def _machine() -> dict[str, str | int]:
    return {"cores": len(machine.cores()), "python": platform.python_version(), "system": platform.platform()}


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
