"""The ledger streams in Redis; only ever read from here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from synchub.ledger.rules import entry_of

if TYPE_CHECKING:
    from synchub.keyspace import MerchantKeys
    from synchub.ledger.model import LedgerEntry
    from synchub.lua import Executes


async def read_after(redis: Executes, keys: MerchantKeys, after: int, *, limit: int) -> list[LedgerEntry]:
    """Return the next entries after a sequence, in order."""
    return [
        entry_of(int(entry_id.split(b"-")[0]), _texts(flat))
        for entry_id, flat in await redis.execute("XRANGE", keys.ledger, f"({after}-0", "+", "COUNT", limit)
    ]


async def read_ends(redis: Executes, keys: MerchantKeys) -> tuple[str, int, int]:
    """Return epoch, head and the oldest sequence that is kept (0: none)."""
    head, oldest = await asyncio.gather(
        redis.execute("HMGET", keys.head, "epoch", "seq"),
        redis.execute("XRANGE", keys.ledger, "-", "+", "COUNT", 1),
    )
    epoch, seq = head
    return (epoch or b"").decode(), int(seq or 0), int(oldest[0][0].split(b"-")[0]) if oldest else 0


def _texts(flat: list[Any]) -> dict[str, str]:
    parts = [part.decode(errors="backslashreplace") for part in flat]
    return dict(zip(parts[::2], parts[1::2], strict=True))
