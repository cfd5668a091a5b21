"""``synchub verify-delivery``: is a recorded delivery signed, and what would it do?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from synchub.commands.common import add_common, hub_of, say
from synchub.commands.recordings import read_recording
from synchub.errors import NotFound, PayloadRefused, Refusal
from synchub.kit.clock import now_ms

if TYPE_CHECKING:
    import argparse

    from synchub.connector_kit.contract import Connector
    from synchub.connector_kit.delivery import Delivery
    from synchub.hub import Hub


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("account", metavar="ACCOUNT", help="account it was sent to")
    parser.add_argument("file", metavar="FILE", type=Path, help="body, with NAME.headers.json beside it")
    parser.add_argument("--at", type=int, metavar="MS", help="as of this time in ms (default: now)")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Say whether it would be accepted and what would follow; writes nothing. 0 when accepted."""
    return asyncio.run(_verify(args))


async def _verify(args: argparse.Namespace) -> int:
    delivery = await asyncio.to_thread(read_recording, args.file, args.account)
    async with hub_of(args) as hub:
        connector, secrets = _sender(hub, args.account, args.at or now_ms())
    signed = _signature(connector, delivery, secrets, at_ms=args.at or now_ms())
    meaning, is_understood = _meaning(connector, delivery)
    manifest = connector.manifest
    document = {
        "signed": signed,
        "topic": manifest.topic_of(delivery),
        "dedupe_id": manifest.dedupe_id(delivery),
        "events": meaning,
    }
    sentences = [
        f"signature  {signed}",
        f"topic      {document['topic']}",
        *(f"event      {line}" for line in meaning),
    ]
    say(args, document, *sentences)
    return 0 if signed == "accepted" and is_understood else 1


def _sender(hub: Hub, account: str, at_ms: int) -> tuple[Connector, tuple[str, ...]]:
    found = hub.directory.find_account(account)
    if found is None:
        msg = f"There is no account {account}."
        raise NotFound(msg)
    return hub.connectors[found.platform], found.secrets_at(at_ms)


def _signature(connector: Connector, delivery: Delivery, secrets: tuple[str, ...], *, at_ms: int) -> str:
    try:
        connector.verify(delivery, secrets, now_ms=at_ms)
    except Refusal as refusal:
        return f"{refusal.code}: {refusal.detail}"
    return "accepted"


def _meaning(connector: Connector, delivery: Delivery) -> tuple[list[str], bool]:
    try:
        events = connector.normalize(connector.manifest.topic_of(delivery), delivery)
    except PayloadRefused as refusal:
        return [f"quarantined: {refusal.detail}"], False
    return [str(event) for event in events] or ["of no concern to stock"], True
