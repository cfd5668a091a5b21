"""``synchub connector``: the platforms this hub can talk to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from synchub.commands.common import say
from synchub.connector_kit.discovery import discover
from synchub.connector_kit.scaffold import write_connector

if TYPE_CHECKING:
    import argparse


def register(parser: argparse.ArgumentParser) -> None:
    """Declare ``list`` and ``new``."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="show the connectors that are installed")
    listing.add_argument("--json", action="store_true", help="JSON on standard output and nothing else")
    new = verbs.add_parser("new", help="write the folder of a new connector")
    new.add_argument("name", metavar="NAME", help="lower-case name of the platform")
    new.add_argument(
        "--into", type=Path, default=Path("connectors"), help="parent folder (default: connectors)"
    )
    new.add_argument("--polled", action="store_true", help="for a platform that posts nothing")
    new.add_argument("--json", action="store_true", help="JSON on standard output and nothing else")


def run(args: argparse.Namespace) -> int:
    """Carry out the verb."""
    return _list(args) if args.verb == "list" else _new(args)


def _list(args: argparse.Namespace) -> int:
    found = [connector.manifest for _, connector in sorted(discover().items())]
    say(
        args,
        [
            {
                "name": m.name,
                "title": m.title,
                "kind": m.kind.value,
                "quality": m.quality,
                "topics": sorted(m.topics),
            }
            for m in found
        ],
        *(
            f"{m.name:<12} {m.title} ({m.kind.value}, {m.quality}): {', '.join(sorted(m.topics)) or 'polled'}"
            for m in found
        ),
    )
    return 0


def _new(args: argparse.Namespace) -> int:
    files = write_connector(args.name, args.into, is_polled=args.polled)
    told = (
        "Record answers into fixtures/, then fill manifest.toml, client.py and mapping.py;"
        if args.polled
        else "Record deliveries into fixtures/, then fill manifest.toml, signature.py and mapping.py;"
    )
    say(
        args,
        {"files": [str(file) for file in files]},
        *(f"wrote {file}" for file in files),
        f"{told} docs/adding-a-connector.md leads through it.",
    )
    return 0
