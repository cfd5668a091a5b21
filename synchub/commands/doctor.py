"""``synchub doctor``: how the hub is, in words."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from synchub import keyspace
from synchub.archive import operations as archive
from synchub.commands.common import add_common, hub_of, say
from synchub.commands.doctor_platforms import look_at_platforms
from synchub.errors import SynchubError
from synchub.ingress import operations as ingress
from synchub.keyspace import MerchantKeys
from synchub.mappings import operations as mappings
from synchub.redis import store_errors
from synchub.safety import check_store, durability

if TYPE_CHECKING:
    import argparse

    from synchub.hub import Hub

_LATE_MS: Final = 5000
_SEGMENTS_BEHIND: Final = 10
"""Busy workers may be a few segments behind; more means that the archive is not written."""


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Look at everything; 0 when nothing needs anybody."""
    return asyncio.run(_examine(args))


async def _examine(args: argparse.Namespace) -> int:
    async with hub_of(args) as hub:
        try:
            notes, complaints = await findings(hub)
        except SynchubError as error:
            notes, complaints = [], [f"The store cannot be examined: {error.detail}"]
    sentences = [f"ok    {note}" for note in notes] + [f"look  {complaint}" for complaint in complaints]
    say(args, {"ok": notes, "look": complaints}, *sentences)
    return 1 if complaints else 0


async def findings(hub: Hub) -> tuple[list[str], list[str]]:
    """Return what is well and what somebody should look at, one sentence each.

    Raises:
        StoreUnavailable, OutcomeUnknown: the store cannot be asked.
    """
    with store_errors():
        complaints = await check_store(hub.client)
        notes = [] if complaints else [f"The store is safe; it writes to disk {await _durability(hub)}."]
        await _look_at_queue(hub, notes, complaints)
        await _look_aside(hub, notes, complaints)
    for account in hub.directory.accounts():
        waiting = (await mappings.count(hub.redis, MerchantKeys(account.merchant), account.name)).parked
        if waiting:
            complaints.append(
                f"{waiting} items of {account.name} wait to be mapped:"
                f" `synchub account parked {account.name}`."
            )
    await _look_at_archive(hub, notes, complaints)
    await look_at_platforms(hub, notes, complaints)
    return notes, complaints


async def _durability(hub: Hub) -> str:
    words = {"always": "before it answers", "everysec": "within a second", "no": "whenever the system likes"}
    return words.get(await durability(hub.client), "as its operator has set it")


async def _look_at_queue(hub: Hub, notes: list[str], complaints: list[str]) -> None:
    waiting, age_ms, workers = await ingress.queue_state(hub.client)
    if not workers:
        complaints.append("No worker is running: start one with `synchub work`.")
    elif age_ms > _LATE_MS:
        complaints.append(f"The oldest of {waiting} waiting deliveries has waited {age_ms / 1000:.0f} s.")
    else:
        notes.append(f"{workers} worker(s) running, {waiting} deliveries waiting.")


async def _look_aside(hub: Hub, notes: list[str], complaints: list[str]) -> None:
    for name, key, command in (
        ("dead letters", keyspace.dead_letters(), "dead"),
        ("quarantined deliveries", keyspace.quarantine(), "quarantine"),
    ):
        count = int(await hub.client.xlen(key))
        if count:
            complaints.append(f"{count} {name}: `synchub {command} list`.")
        else:
            notes.append(f"No {name}.")


async def _look_at_archive(hub: Hub, notes: list[str], complaints: list[str]) -> None:
    total = 0
    for merchant in sorted({account.merchant for account in hub.directory.accounts()}):
        waiting = await archive.count_unarchived(hub.redis, merchant)
        total += waiting
        if waiting > _SEGMENTS_BEHIND * hub.settings.archive.segment_max:
            complaints.append(
                f"{waiting} ledger entries of {merchant} are not archived: the workers' logs say why."
            )
    notes.append(f"{total} ledger entries wait for the archive.")
