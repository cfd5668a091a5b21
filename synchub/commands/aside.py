"""What ``quarantine`` and ``dead`` have in common: list and retry put-aside deliveries."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from synchub.commands.common import add_common, hub_of, say
from synchub.ingress import operations as ingress
from synchub.redis import store_errors

if TYPE_CHECKING:
    import argparse

    from synchub.ingress.model import PutAside


def register_for(parser: argparse.ArgumentParser) -> None:
    """Declare ``list`` and ``retry``."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="show the newest ones, newest first")
    listing.add_argument("--count", type=int, default=50, help="how many (default 50)")
    add_common(listing)
    retry = verbs.add_parser("retry", help="send them through the hub again")
    retry.add_argument("ids", nargs="*", metavar="ID", help="which; all when none is named")
    add_common(retry)


def run_on(args: argparse.Namespace, where: str) -> int:
    """Carry out the verb on one list."""
    return asyncio.run(_list(args, where) if args.verb == "list" else _retry(args, where))


async def _list(args: argparse.Namespace, where: str) -> int:
    async with hub_of(args) as hub:
        with store_errors():
            entries = await ingress.list_aside(hub.client, where, count=args.count)
    say(
        args,
        [_document(entry) for entry in entries],
        *([_sentence(entry) for entry in entries] or ["Nothing here."]),
    )
    return 0


async def _retry(args: argparse.Namespace, where: str) -> int:
    async with hub_of(args) as hub:
        with store_errors():
            count = await ingress.retry_aside(hub.client, where, args.ids)
    say(args, {"retried": count}, f"{count} on their way through the hub again.")
    return 0


def _document(entry: PutAside) -> dict[str, object]:
    delivery = entry.queued.delivery
    return {
        "id": entry.id,
        "account": delivery.account,
        "reason": entry.reason,
        "arrived_at": _time(delivery.arrived_at_us),
        "put_aside_at": _time(entry.put_aside_at_us),
        "headers": dict(delivery.headers),
        "body": delivery.body.decode(errors="replace"),
    }


def _sentence(entry: PutAside) -> str:
    delivery = entry.queued.delivery
    parts = (
        entry.id,
        _time(delivery.arrived_at_us),
        delivery.account,
        f"{len(delivery.body)} bytes",
        entry.reason,
    )
    return "  ".join(parts)


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
