"""Where the time goes: the hub's processes run again under cProfile when a figure was missed.

Profiled processes are about twice as slow, so nothing is measured in this run; it only shows proportions.
"""

from __future__ import annotations

import io
import pstats
import tempfile
from pathlib import Path

from benchmarks import hub, runs

TOP = 18


async def profile_hub(*, rate: float, seconds: float, readers: int) -> dict[str, str]:
    """Run the hub under load with a profiler in each process; one table of functions per process."""
    with tempfile.TemporaryDirectory(prefix="synchub-bench-") as folder, hub.store() as url:
        async with hub.hub(url, profile_into=Path(folder)) as started:
            await runs.at_rate(started, runs.Sequence(), rate=rate, seconds=seconds, readers=readers)
        return {name: summary(file) for name, file in started.profiles.items()}


def summary(file: Path) -> str:
    """Return the functions with most time of their own; says so when the process left no profile."""
    if not file.exists():
        return "the process ended without writing its profile"
    text = io.StringIO()
    stats = pstats.Stats(str(file), stream=text)
    stats.sort_stats("tottime").print_stats(TOP)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())
