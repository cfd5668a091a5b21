"""What the store knows of the archive, and the logs as the archive reads them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synchub import lua
from synchub.archive.model import Entry, Extent, Log, Note
from synchub.archive.rules import entry_from, read_note, write_note

if TYPE_CHECKING:
    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes

STATE = lua.load("archive_state")
NOTE = lua.load("archive_note")
LEASE = lua.load("lease")


async def read_extents(redis: Executes, keys: MerchantKeys) -> dict[Log, Extent]:
    """Return how far both logs have come."""
    epoch, notes, *ends = await STATE(
        redis,
        keys={
            "head": keys.head,
            "archived": keys.archived,
            "ledger": keys.ledger,
            "decisions": keys.decisions,
        },
        args={"ledger_name": Log.LEDGER.value, "decisions_name": Log.DECISIONS.value},
    )
    return {
        log: Extent(epoch=epoch.decode(), oldest=_seq(oldest), newest=_seq(newest), note=read_note(note))
        for log, note, (oldest, newest) in zip(Log, notes, ends, strict=True)
    }


async def read_range(
    redis: Executes, keys: MerchantKeys, log: Log, *, first: int, last: int | None = None, limit: int
) -> list[Entry]:
    """Return entries from ``first`` on, at most up to ``last``."""
    upto = "+" if last is None else f"{last}-0"
    found = await redis.execute("XRANGE", _stream(keys, log), f"{first}-0", upto, "COUNT", limit)
    # A thousand entries would hold up the event loop for milliseconds.
    return await asyncio.to_thread(_entries, found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """What is to be noted: the last segment, and the entry that it ends with as the store has it."""

    note: Note
    digest: str
    kept: int
    """How many of the newest entries stay in the store."""


async def note(redis: Executes, keys: MerchantKeys, log: Log, archived: Archived, *, owner: str) -> str:
    """Remember how far the archive reaches and trim; says what came between, or ``noted``."""
    answer: bytes = await NOTE(
        redis,
        keys={
            "lease": keys.archive_lease,
            "archived": keys.archived,
            "head": keys.head,
            "stream": _stream(keys, log),
        },
        args={
            "owner": owner,
            "log": log.value,
            "note": write_note(archived.note),
            "epoch": archived.note.epoch,
            "seq": archived.note.seq,
            "digest": archived.digest,
            "kept": archived.kept,
        },
    )
    return answer.decode()


async def drop_before(redis: Executes, keys: MerchantKeys, log: Log, seq: int) -> int:
    """Trim everything before a sequence, archived or not; return how many entries went."""
    return int(await redis.execute("XTRIM", _stream(keys, log), "MINID", f"{seq}-0"))


async def forget(redis: Executes, keys: MerchantKeys) -> None:
    """Know nothing of an archive any more."""
    await redis.execute("DEL", keys.archived)


async def take_lease(redis: Executes, keys: MerchantKeys, *, owner: str, ttl_ms: int) -> bool:
    """Take or renew the right to write to the archive; with 0 ms give it back."""
    held = await LEASE(redis, keys={"lease": keys.archive_lease}, args={"owner": owner, "ttl_ms": ttl_ms})
    return bool(held)


def _stream(keys: MerchantKeys, log: Log) -> str:
    return keys.ledger if log is Log.LEDGER else keys.decisions


def _entries(found: list[Any]) -> list[Entry]:
    return [entry_from(_seq(entry_id), flat) for entry_id, flat in found]


def _seq(entry_id: Any) -> int:
    return int(entry_id.split(b"-")[0])
