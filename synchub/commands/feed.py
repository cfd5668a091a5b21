"""``synchub feed watch``: what an agent sees, one line for each change.

It keeps nothing but its position, so it shows changes and does not decide by them;
``benchmarks`` and agents use a client that also keeps a cache.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from synchub.commands.common import DEFAULT_DATA, read_hub_file
from synchub.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import StreamReader

DEFAULT_URL: Final = "http://127.0.0.1:8080"
PAUSE_MAX_S: Final = 10.0
SILENCE_S: Final = 10.0
"""A feed that says nothing for so long is dead: heartbeats come every third of a second."""
_COLOURS: Final = {"IN_STOCK": 32, "LOW_STOCK": 33, "BACKORDERED": 33, "RESERVED": 33}
_RED: Final = 31


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    watch = actions.add_parser("watch", help="print every change until Ctrl-C")
    watch.add_argument("--url", help=f"the hub (default: the one running in --data, else {DEFAULT_URL})")
    watch.add_argument("--data", type=Path, default=DEFAULT_DATA, metavar="DIR", help="data folder of `up`")
    watch.add_argument("--key", required=True, metavar="KEY", help="an agent's key: itself, @FILE, or - for stdin")
    chosen = watch.add_mutually_exclusive_group()
    chosen.add_argument("--sku", action="append", default=[], help="only this SKU (repeatable)")
    chosen.add_argument("--prefix", default="", help="only SKUs that start so")
    watch.add_argument("--json", action="store_true", help="one JSON object per frame, without heartbeats")


def run(args: argparse.Namespace) -> int:
    """Print changes until interrupted; 0 then, 1 when the hub refuses the request for good."""
    running = read_hub_file(args.data)
    url = args.url or (running["url"] if running else DEFAULT_URL)
    query = [("sku", sku) for sku in args.sku] + ([("prefix", args.prefix)] if args.prefix else [])
    show = Printer(as_json=args.json, in_colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    try:
        asyncio.run(watch(url.rstrip("/") + "/v1/feed", _key(args.key), query, show))
    except KeyboardInterrupt:
        return 0
    return 1


async def watch(url: str, key: str, query: list[tuple[str, str]], show: Printer) -> None:
    """Follow, and come back after every end with the last position; return when there is no use."""
    last, failures = "", 0
    timeout = ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S)
    async with ClientSession(timeout=timeout) as session:
        while True:
            pause_s = min(PAUSE_MAX_S, 0.5 * 2.0 ** min(failures, 10))
            headers = {"Authorization": f"Bearer {key}"} | ({"Last-Event-ID": last} if last else {})
            try:
                async with session.get(url, params=query, headers=headers) as response:
                    if response.status != 200:  # noqa: PLR2004 - HTTP's own number
                        show.refusal(response.status, await response.text())
                        if 400 <= response.status < 500 and response.status != 429:  # noqa: PLR2004
                            return
                        failures += 1
                    else:
                        async for event, position, data in events(response.content):
                            failures = 0
                            last = position if position is not None else last
                            show.frame(event, data)
                            if event == "bye":
                                pause_s = data["retry_ms"] / 1000
                                if not data["reconnect"]:
                                    return
            except (ClientError, TimeoutError, OSError) as problem:
                failures += 1
                show.note(f"connection lost ({type(problem).__name__}), coming back")
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 - spreads reconnects
