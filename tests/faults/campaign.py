"""``make campaign``: every fault for long, with the settings of production, as a table.

Each line says what was done, under which load and for how long, how soon the hub was
well again and whether every promise was kept. The exit status is 1 when one was not;
``--seed`` repeats a run.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.faults.acts import FAULTS
from tests.faults.full_disk import DISK, can_mount, small_disk
from tests.faults.trial import LONG, SHORT, Report, try_out
from tests.support.processes import Deployment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.acts import Fault
    from tests.faults.trial import Length

WORKERS: Final = 2
_HEAD: Final = ("fault", "load", "lasted", "sent", "not accepted", "well after", "feed resumed", "result")
_WIDTHS: Final = (20, 6, 8, 7, 13, 11, 24, 6)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; 1 when a promise was broken."""
    args = _read(arguments)
    seed = random.SystemRandom().randrange(2**32) if args.seed is None else args.seed
    length = SHORT if args.short else LONG
    chosen = [fault for fault in (*FAULTS, DISK) if not args.faults or fault.name in args.faults]
    _say(f"seed {seed}; repeat with: python -m tests.faults.campaign --seed {seed}")
    _say(_line(_HEAD))
    failed = 0
    for number, fault in enumerate(chosen):
        failed += not _run(fault, length, seed + number)
    _say(f"{len(chosen) - failed} of {len(chosen)} faults held.")
    return 1 if failed else 0


def _run(fault: Fault, length: Length, seed: int) -> bool:
    """Try one fault on a hub of its own and print what came out."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="synchub-campaign-") as name:
        if fault is DISK and not can_mount():
            _say(f"{fault.name:<20}  skipped: only root can mount a small disk")
            return True
        hub = Deployment(Path(name), workers=WORKERS)
        try:
            report = asyncio.run(_tried(hub, fault, length, seed, Path(name)))
        except Exception as problem:  # noqa: BLE001 - one fault that cannot be tried must not hide the others
            _say(
                f"{fault.name:<20}  seed {seed}: {type(problem).__name__}: {problem}\n{hub.logs()}",
            )
            return False
        _say(_line(_cells(report, length, time.monotonic() - started)))
        for sentence in report.broken:
            _say(f"    seed {seed}: {sentence}")
        if report.broken:
            _say(hub.logs())
        return not report.broken


async def _tried(hub: Deployment, fault: Fault, length: Length, seed: int, folder: Path) -> Report:
    if fault is not DISK:
        with hub:
            return await try_out(hub, fault, length, seed=seed)
    with small_disk(folder / "disk") as disk:
        hub.move_store(disk)
        with hub:
            return await try_out(hub, fault, length, seed=seed)


def _cells(report: Report, length: Length, lasted_s: float) -> tuple[str, ...]:
    resumed = {
        way.removeprefix("resume:"): count for way, count in report.feed.items() if way.startswith("resume:")
    }
    return (
        report.fault,
        f"{length.rate:.0f}/s",
        f"{lasted_s:.0f} s",
        str(report.sent),
        str(report.sent - report.answers["202"]),
        f"{report.recovered_s:.2f} s",
        ", ".join(f"{way} {count}" for way, count in sorted(resumed.items())),
        "BROKEN" if report.broken else "held",
    )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _line(cells: Sequence[str]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def _read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__)
    names = [fault.name for fault in (*FAULTS, DISK)]
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"only these of: {', '.join(names)}")
    parser.add_argument("--seed", type=int, help="repeat the run that had printed this seed")
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes, as in the suite")
    args = parser.parse_args(arguments)
    unknown = set(args.faults) - set(names)
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    return args


if __name__ == "__main__":
    sys.exit(main())
