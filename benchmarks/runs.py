"""One run of generator and readers against a receiver, with what each process of it used of a core."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from benchmarks import machine
from benchmarks.asking import Asking, unexpected_of
from benchmarks.children import Child, ChildFailedError, module, running
from benchmarks.hub import Hub, Receiver
from benchmarks.load import LoadReport, Plan
from benchmarks.subscribers import ReadPlan, ReadReport

LEAD_NS = 300_000_000
"""Between "all ready" and the first request: both processes have their start moment by then."""

CHILD_DEADLINE_S = 120.0
OPEN_CONNECTIONS = 64
CLOSED_CONNECTIONS = 64
SKUS = 2_000

LOAD_REPORT = TypeAdapter(LoadReport)
READ_REPORT = TypeAdapter(ReadReport)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run showed; ``shares`` is the part of a core that each watched process used."""

    load: LoadReport
    read: ReadReport | None
    shares: Mapping[str, float]


class Sequence:
    """Hands out ranges of change numbers: versions must go on rising from run to run on one store."""

    def __init__(self) -> None:
        self._next = SKUS

    def take(self, count: int) -> tuple[int, int]:
        """Return the next ``count`` numbers as (first, last)."""
        first, self._next = self._next, self._next + count
        return first, self._next


async def at_rate(
    receiver: Receiver, sequence: Sequence, *, rate: float, seconds: float, readers: int = 0
) -> Run:
    """Post at ``rate`` for ``seconds``; with ``readers``, follow the feed of the hub meanwhile."""
    first, last = sequence.take(round(rate * seconds))
    plan = _plan(receiver, first, last, rate=rate, connections=OPEN_CONNECTIONS)
    async with running("generator", module("benchmarks.load")) as generator:
        await _prepare(generator, asdict(plan))
        if not readers:
            return await _drive(receiver, generator, None)
        assert isinstance(receiver, Hub)
        wanted = ReadPlan(
            url=receiver.feed_url,
            key=receiver.key,
            readers=readers,
            skus=SKUS,
            first=first,
            last=last,
            rate=rate,
        )
        async with running("readers", module("benchmarks.subscribers")) as reading:
            await _prepare(reading, asdict(wanted))
            return await _drive(receiver, generator, reading)


async def saturated(receiver: Receiver, sequence: Sequence, *, count: int, core: int | None) -> Run:
    """Post ``count`` requests as fast as answers come; the generator stays on ``core``."""
    first, last = sequence.take(count)
    plan = _plan(receiver, first, last, rate=0, connections=CLOSED_CONNECTIONS)
    async with running("generator", module("benchmarks.load"), core=core) as generator:
        await _prepare(generator, asdict(plan))
        return await _drive(receiver, generator, None)


async def asked(receiver: Receiver, asking: Asking, *, core: int | None) -> Run:
    """Hold or ask as fast as answers come; the agents stay on ``core``.

    Raises:
        ChildFailedError: something else was answered than a hold or an answer.
    """
    async with running("agents", module("benchmarks.asking"), core=core) as agents:
        await _prepare(agents, asdict(asking))
        run = await _drive(receiver, agents, None)
    statuses = [0 if status == "broken" else int(status) for status in run.load.answered]
    if unexpected_of(asking.kind, statuses):
        msg = f"agents were answered {run.load.answered}"
        raise ChildFailedError(msg)
    return run


def _plan(receiver: Receiver, first: int, last: int, *, rate: float, connections: int) -> Plan:
    return Plan(
        url=receiver.hook_url,
        secret=receiver.secret,
        run=f"{time.monotonic_ns():x}",
        skus=SKUS,
        first=first,
        last=last,
        rate=rate,
        connections=connections,
        # Only the first run on a store creates the SKUs.
        warm_up=SKUS if first == SKUS else 0,
    )


async def _prepare(child: Child, plan: Mapping[str, Any]) -> None:
    await child.tell(plan)
    await child.hear(within_s=CHILD_DEADLINE_S)


async def _drive(receiver: Receiver, generator: Child, reading: Child | None) -> Run:
    start = {"start_ns": time.monotonic_ns() + LEAD_NS}
    before = {name: machine.cpu_s(pid) for name, pid in receiver.pids.items()}
    for child in filter(None, (reading, generator)):
        await child.tell(start)
    load = LOAD_REPORT.validate_python(await generator.hear(within_s=CHILD_DEADLINE_S))
    used = {name: machine.cpu_s(pid) - before[name] for name, pid in receiver.pids.items()}
    read = None
    if reading is not None:
        await reading.tell({"finished": True})
        read = READ_REPORT.validate_python(await reading.hear(within_s=CHILD_DEADLINE_S))
    with contextlib.suppress(ZeroDivisionError):
        used = {name: seconds / load.elapsed_s for name, seconds in used.items()}
    return Run(load=load, read=read, shares=used)
