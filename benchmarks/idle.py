"""What a hub costs that nobody uses: processor and memory of all processes of ``synchub up``."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.children import module, running
from benchmarks.hub import SECRETS, START_DEADLINE_S, free_port, until_ready

SETTLE_S = 5.0
"""Start-up work is no idle time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleCost:
    """Percent of one core and megabytes (proportional set size), in all and by process."""

    cpu_percent: float
    memory_mb: float
    processes: Mapping[str, str]


async def measure_idle(*, seconds: float) -> IdleCost:
    """Start a hub on an embedded store, leave it alone for ``seconds`` and say what it used."""
    with tempfile.TemporaryDirectory(prefix="synchub-bench-") as folder:
        log = Path(folder) / "up.log"
        port = free_port()
        command = module("synchub", "up", "--data", f"{folder}/data", "--port", str(port))
        async with running("synchub up", command, log=log, env=SECRETS) as child:
            await until_ready(f"http://127.0.0.1:{port}/readyz", [child], log, within_s=START_DEADLINE_S)
            await asyncio.sleep(SETTLE_S)
            return await _watch(machine.family(child.pid), seconds)


async def _watch(pids: list[int], seconds: float) -> IdleCost:
    began = time.monotonic()
    before = {pid: machine.cpu_s(pid) for pid in pids}
    await asyncio.sleep(seconds)
    elapsed = time.monotonic() - began
    percents = {pid: 100 * (machine.cpu_s(pid) - before[pid]) / elapsed for pid in pids}
    megabytes = {pid: machine.pss_bytes(pid) / 1e6 for pid in pids}
    return IdleCost(
        cpu_percent=sum(percents.values()),
        memory_mb=sum(megabytes.values()),
        processes={
            f"{machine.command_of(pid)[-48:]} [{pid}]": f"{percents[pid]:.2f} % {megabytes[pid]:.0f} MB"
            for pid in pids
        },
    )
