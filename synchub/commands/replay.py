"""``synchub replay``: recorded deliveries through the hub again.

Whoever can reach the store may say what came in, so nothing is signed anew:
the deliveries enter the ingest stream as verified ones do. What has been applied
before is recognized and changes nothing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from synchub.commands.common import add_common, hub_of, say
from synchub.commands.recordings import read_recording
from synchub.errors import NotFound

if TYPE_CHECKING:
    import argparse


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--account", metavar="ACCOUNT", required=True, help="account they were sent to")
    parser.add_argument(
        "files",
        metavar="FILE",
        type=Path,
        nargs="+",
        help="bodies, with NAME.headers.json beside each",
    )
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Enqueue the recordings in the order given."""
    return asyncio.run(_replay(args))


async def _replay(args: argparse.Namespace) -> int:
    deliveries = [await asyncio.to_thread(read_recording, file, args.account) for file in args.files]
    async with hub_of(args) as hub:
        found = hub.directory.find_account(args.account)
        if found is None:
            msg = f"There is no account {args.account}."
            raise NotFound(msg)
        for delivery in deliveries:
            await hub.gate.enqueue(delivery, hub.connectors[found.platform])
    say(args, {"replayed": len(deliveries)}, f"{len(deliveries)} on their way through the hub.")
    return 0
