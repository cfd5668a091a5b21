"""``synchub up``: a whole hub with one command, and with ``--demo`` something to watch on it.

It starts the other processes and sleeps. What it imports lies in memory for as long
as the hub runs, so the demo's parts are loaded only where they are asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from synchub.errors import InvalidRequest
from synchub.kit.waiting import unless
from synchub.local_hub import DEFAULT_DATA, LocalHub, free_port
from synchub.settings import load_settings

if TYPE_CHECKING:
    from synchub.demo.model import PlannedFault
    from synchub.settings import Settings

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h)?")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--data",
        type=Path,
        default=DEFAULT_DATA,
        metavar="DIR",
        help=f"data folder (default: {DEFAULT_DATA})",
    )
    parser.add_argument("--host", help="address to listen on (default: server.host)")
    parser.add_argument(
        "--port", type=int, help="port to listen on; 0 takes a free one (default: server.port)"
    )
    parser.add_argument(
        "--demo", action="store_true", help="add emulated platforms and an agent that follows"
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND:ACCOUNT@FROM-TO",
        help="with --demo: let a platform misbehave, such as stall:shop@5s-25s (repeatable)",
    )
    parser.add_argument(
        "--for", dest="for_s", type=seconds, metavar="TIME", help="stop by itself after 15s, 2m or 1h"
    )
    parser.add_argument("--json", action="store_true", help="JSON on standard output and nothing else")


def seconds(text: str) -> float:
    """Read ``15s``, ``2m``, ``1h`` or a plain number of seconds.

    Raises:
        ArgumentTypeError: another form.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        msg = f"{text!r} is no time such as 15s, 2m or 1h"
        raise argparse.ArgumentTypeError(msg)
    return float(found[1]) * _SECONDS[found[2] or "s"]


def run(args: argparse.Namespace) -> int:
    """Run the hub until Ctrl-C, SIGTERM or the end of ``--for``; 0 after an orderly end."""
    try:
        faults = _faults(args)
    except InvalidRequest as problem:
        sys.stderr.write(f"synchub: {problem.detail}\n")
        return 2
    server = {name: value for name in ("host", "port") if (value := getattr(args, name)) is not None}
    settings = load_settings(server=server)
    return asyncio.run(_run(args, settings, faults))


def _faults(args: argparse.Namespace) -> tuple[PlannedFault, ...]:
    if not args.fault:
        return ()
    if not args.demo:
        msg = "--fault is about the platforms of the demo; add --demo."
        raise InvalidRequest(msg)
    from synchub.demo.rules import planned_fault

    return tuple(planned_fault(text) for text in args.fault)


async def _run(args: argparse.Namespace, settings: Settings, faults: tuple[PlannedFault, ...]) -> int:
    stop, hurry = _signals()
    hub = _hub(args, settings)
    try:
        await unless(stop, hub.start())
        if stop.is_set():
            return 0
        if args.demo:
            from synchub.demo.operations import play

            return await play(hub, faults, stop=stop, for_s=args.for_s, in_json=args.json)
        _introduce(args, hub)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), args.for_s)
        return 0
    finally:
        await hub.stop(hurry)


def _hub(args: argparse.Namespace, settings: Settings) -> LocalHub:
    if not args.demo:
        return LocalHub(args.data, settings, _teller(args))
    from synchub.demo.model import PROFILE

    return LocalHub(args.data, settings, _teller(args), worker_port=free_port(), profile=PROFILE)


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """The first signal asks for an end in good order, the second for a quick one."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def heard() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, heard)
    return stop, hurry


class _teller:  # noqa: N801 - used like a function
    """Says what happens: on standard error when standard output is for JSON."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._stream = sys.stderr if args.json else sys.stdout

    def __call__(self, sentence: str) -> None:
        """Write one sentence."""
        print(sentence, file=self._stream, flush=True)


def _introduce(args: argparse.Namespace, hub: LocalHub) -> None:
    if args.json:
        print(json.dumps({"url": hub.url, "redis": hub.store.url, "data": str(hub.data)}), flush=True)
        return
    data = "" if args.data == DEFAULT_DATA else f" --data {args.data}"
    print(f"The hub is ready at {hub.url}; its data is in {hub.data}.")
    print(f"  numbers      {hub.url}/metrics")
    print(f"  readiness    {hub.url}/readyz")
    print("Connect a first platform, then give an agent a key:")
    print(f"  synchub account add standard --merchant MERCHANT{data}")
    print(f"  synchub agent add --merchant MERCHANT{data}")
    print("Ctrl-C ends it in good order.", flush=True)
