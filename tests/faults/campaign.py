"""``make campaign``: every fault for long, with the settings of production, as a table.

Each line says what was done, under which load and for how long, how soon the hub was
well again and whether every promise was kept. The exit status is 1 when one was not;
``--seed`` repeats a run.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
import uvloop

from tests.faults.acts import FAULTS
from tests.faults.alert_faults import ALERT_FAULTS
from tests.faults.alert_trial import try_alerts
from tests.faults.failover_trial import FAIL_OVERS
from tests.faults.feed_trial import FEED_FAULTS, RESUME_S, FeedReport, try_feed
from tests.faults.full_disk import DISK, can_mount, small_disk
from tests.faults.platform_trial import FAIL_OVER as POLLED_FAIL_OVER
from tests.faults.platform_trial import KILLS as POLLED_KILLS
from tests.faults.platform_trial import LONG as LONG_PLATFORM
from tests.faults.platform_trial import PLATFORM_FAULTS, try_fail_over, try_kills, try_platform
from tests.faults.platform_trial import SHORT as SHORT_PLATFORM
from tests.faults.polling_trial import LONG_KILLS, POLLING, SHORT_KILLS, try_polling
from tests.faults.trial import LONG, SHORT, Report, try_out
from tests.support.processes import Deployment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.acts import Fault
    from tests.faults.alert_trial import AlertFault
    from tests.faults.feed_trial import FeedFault
    from tests.faults.platform_trial import PlatformReport
    from tests.faults.trial import Length

WORKERS: Final = 2
_HEAD: Final = ("fault", "load", "lasted", "sent", "not accepted", "well after", "feed resumed", "result")
_WIDTHS: Final = (20, 6, 8, 7, 13, 11, 24, 6)
_FEED_HEAD: Final = (
    "fault",
    "readers",
    "lasted",
    "changes",
    "returns",
    f"resume p50, p99 of {RESUME_S:.0f} s",
    "well after",
    "told of it",
    "result",
)
_FEED_WIDTHS: Final = (20, 7, 8, 7, 7, 22, 11, 10, 6)
_OVER_HEAD: Final = ("fail-over", "times", "lasted", "result")
_OVER_WIDTHS: Final = (20, 6, 8, 6)
_POLL_HEAD: Final = ("poll", "kills", "lasted", "facts", "calls", "result")
_POLL_WIDTHS: Final = (20, 6, 8, 7, 7, 6)
_PLATFORM_HEAD: Final = ("platform", "lasted", "found after", "well after", "calls", "result")
_PLATFORM_WIDTHS: Final = (20, 8, 11, 11, 7, 6)
_PLATFORM_NAMES: Final = (*(fault.name for fault in PLATFORM_FAULTS), POLLED_KILLS, POLLED_FAIL_OVER)
_POLLED_CHANGES: Final = 2000
_POLLED_KILLS: Final = 10
ALERTS: Final = "alerts"
"""What the campaign calls all faults of which somebody must hear."""
_ALERT_HEAD: Final = ("alert", "fault", "lasted", "heard")
_ALERT_WIDTHS: Final = (32, 20, 8, 6)
_TIMES: Final = 10
"""Fail-overs of a kind, each at another moment."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; 1 when a promise was broken."""
    args = _read(arguments)
    seed = random.SystemRandom().randrange(2**32) if args.seed is None else args.seed
    length = SHORT if args.short else LONG
    chosen = [fault for fault in (*FAULTS, DISK) if not args.faults or fault.name in args.faults]
    of_feed = [fault for fault in FEED_FAULTS if not args.faults or fault.name in args.faults]
    _say(f"seed {seed}; repeat with: python -m tests.faults.campaign --seed {seed}")
    held: list[bool] = []
    if chosen:
        _say(_line(_HEAD))
        held += [_run(fault, length, seed + number) for number, fault in enumerate(chosen)]
    if of_feed:
        _allow_many_files()
        # Whoever changes levels here is a process of the hub, whose log is not part of the table.
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        _say(_line(_FEED_HEAD, _FEED_WIDTHS))
        held += [_run_feed(fault, seed + number, is_short=args.short) for number, fault in enumerate(of_feed)]
    over = [name for name in FAIL_OVERS if not args.faults or name in args.faults]
    if over:
        _say(_line(_OVER_HEAD, _OVER_WIDTHS))
        held += [
            _run_fail_over(name, seed + number, 1 if args.short else _TIMES)
            for number, name in enumerate(over)
        ]
    if not args.faults or POLLING in args.faults:
        _say(_line(_POLL_HEAD, _POLL_WIDTHS))
        held.append(_run_polling(seed, SHORT_KILLS if args.short else LONG_KILLS))
    platforms = [name for name in _PLATFORM_NAMES if not args.faults or name in args.faults]
    if platforms:
        _say(_line(_PLATFORM_HEAD, _PLATFORM_WIDTHS))
        held += [
            _run_platform(name, seed + number, is_short=args.short) for number, name in enumerate(platforms)
        ]
    alerts = [fault for fault in ALERT_FAULTS if _is_chosen(fault, args.faults)]
    if args.short and (not args.faults or ALERTS in args.faults):
        alerts = [fault for fault in alerts if fault.is_short][:1]
    if alerts and shutil.which("promtool") is None:
        _say(f"{ALERTS:<20}  skipped: promtool, of Debian's package prometheus, is not installed")
    elif alerts:
        _say(_line(_ALERT_HEAD, _ALERT_WIDTHS))
        held += [_run_alerts(fault, seed + number) for number, fault in enumerate(alerts)]
    _say(f"{sum(held)} of {len(held)} faults held.")
    return 0 if all(held) else 1


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


def _run_feed(fault: FeedFault, seed: int, *, is_short: bool) -> bool:
    """Try one fault of the feed and print what came out."""
    size = fault.short if is_short else fault.long
    with tempfile.TemporaryDirectory(prefix="synchub-campaign-") as name:
        try:
            # Readers that take time of their own would be measured with the hub.
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                report = runner.run(try_feed(Path(name), fault, size, seed=seed))
        except Exception as problem:  # noqa: BLE001 - one fault that cannot be tried must not hide the others
            _say(f"{fault.name:<20}  seed {seed}: {type(problem).__name__}: {problem}")
            return False
        _say(_line(_feed_cells(report), _FEED_WIDTHS))
        for sentence in report.broken:
            _say(f"    seed {seed}: {sentence}")
        return not report.broken


def _run_fail_over(name: str, seed: int, times: int) -> bool:
    """Let another server take over, each time on a hub of its own, and print what came out."""
    started, broken = time.monotonic(), []
    for number in range(times):
        with tempfile.TemporaryDirectory(prefix="synchub-campaign-") as folder:
            try:
                asyncio.run(FAIL_OVERS[name](Path(folder), seed + number))
            except Exception as problem:  # noqa: BLE001 - one that goes wrong must not hide the others
                broken.append(f"    seed {seed + number}: {type(problem).__name__}: {problem}")
    lasted = f"{time.monotonic() - started:.0f} s"
    _say(_line((name, str(times), lasted, "BROKEN" if broken else "held"), _OVER_WIDTHS))
    for sentence in broken:
        _say(sentence)
    return not broken


def _run_polling(seed: int, kills: int) -> bool:
    """Kill workers in the middle of pages and print what came out."""
    with tempfile.TemporaryDirectory(prefix="synchub-campaign-") as folder:
        try:
            report = asyncio.run(try_polling(Path(folder) / "hub", kills=kills, seed=seed))
        except Exception as problem:  # noqa: BLE001 - what goes wrong is a line of the table too
            _say(f"{POLLING:<20}  seed {seed}: {type(problem).__name__}: {problem}")
            return False
    result = "BROKEN" if report.broken else "held"
    cells = (
        POLLING,
        str(report.kills),
        f"{report.seconds:.0f} s",
        str(report.facts),
        str(report.calls),
        result,
    )
    _say(_line(cells, _POLL_WIDTHS))
    for sentence in report.broken:
        _say(f"    seed {seed}: {sentence}")
    return not report.broken


def _is_chosen(fault: AlertFault, names: Sequence[str]) -> bool:
    return not names or ALERTS in names or _alert_name(fault) in names


def _alert_name(fault: AlertFault) -> str:
    """Other faults may go by the same name, where something else is asked."""
    return f"{ALERTS}:{fault.name}"


def _run_platform(name: str, seed: int, *, is_short: bool) -> bool:
    """Have a platform misbehave and print what came out."""
    with tempfile.TemporaryDirectory(prefix="synchub-campaign-") as folder:
        try:
            report = asyncio.run(_tried_platform(name, Path(folder), seed, is_short=is_short))
        except Exception as problem:  # noqa: BLE001 - what goes wrong is a line of the table too
            _say(f"{name:<20}  seed {seed}: {type(problem).__name__}: {problem}")
            return False
    found = "" if report.found_after_s is None else f"{report.found_after_s:.2f} s"
    result = "BROKEN" if report.broken else "held"
    lasted, well = f"{report.seconds:.0f} s", f"{report.well_after_s:.2f} s"
    cells = (name, lasted, found, well, str(report.calls), result)
    _say(_line(cells, _PLATFORM_WIDTHS))
    for sentence in report.broken:
        _say(f"    seed {seed}: {sentence}")
    return not report.broken


async def _tried_platform(name: str, folder: Path, seed: int, *, is_short: bool) -> PlatformReport:
    length = SHORT_PLATFORM if is_short else LONG_PLATFORM
    if name == POLLED_FAIL_OVER:
        return await try_fail_over(folder, length, seed=seed)
    if name == POLLED_KILLS:
        kills, share = (1, 5) if is_short else (_POLLED_KILLS, 1)
        return await try_kills(folder, kills=kills, changes=_POLLED_CHANGES // share, seed=seed)
    [fault] = [one for one in PLATFORM_FAULTS if one.name == name]
    return await try_platform(folder, fault, length, seed=seed)


def _run_alerts(fault: AlertFault, seed: int) -> bool:
    """Have one fault and print which alerts were heard because of it."""
    with tempfile.TemporaryDirectory(prefix="synchub-campaign-") as folder:
        try:
            report = asyncio.run(try_alerts(Path(folder), fault, seed=seed))
        except Exception as problem:  # noqa: BLE001 - one that goes wrong must not hide the others
            _say(f"{_alert_name(fault)}  seed {seed}: {type(problem).__name__}: {problem}")
            return False
    for alert, was_heard in report.heard.items():
        cells = (alert, fault.name, f"{report.seconds:.0f} s", "yes" if was_heard else "NO")
        _say(_line(cells, _ALERT_WIDTHS))
    for sentence in report.broken:
        _say(f"    seed {seed}: {sentence}")
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


def _feed_cells(report: FeedReport) -> tuple[str, ...]:
    returns = len(report.resumed_s)
    return (
        report.fault,
        str(report.readers),
        f"{report.seconds:.0f} s",
        str(report.changes),
        str(returns),
        f"{report.resume_p50_s:.2f} s, {report.resume_p99_s:.2f} s" if returns else "",
        f"{report.well_after_s:.2f} s",
        f"{report.degraded_s:.2f} s" if report.degraded_s else "",
        "BROKEN" if report.broken else "held",
    )


def _allow_many_files() -> None:
    """Each reader has a socket here and another one in the hub, which inherits the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _line(cells: Sequence[str], widths: Sequence[int] = _WIDTHS) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__)
    names = [fault.name for fault in (*FAULTS, DISK, *FEED_FAULTS)] + [*FAIL_OVERS, POLLING, ALERTS]
    names += _PLATFORM_NAMES
    names += [_alert_name(fault) for fault in ALERT_FAULTS]
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
