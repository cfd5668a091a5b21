"""Which items of an account are due to be fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub import lua

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes

DONE = lua.load("refetch_done")


async def due_items(
    redis: Executes, keys: MerchantKeys, account: str, *, now_ms: int, limit: int
) -> list[str]:
    """Return the items that are due, the longest waiting first."""
    found = await redis.execute("ZRANGE", keys.refetch(account), "-inf", now_ms, "BYSCORE", "LIMIT", 0, limit)
    return [item.decode() for item in found]


async def count_due(redis: Executes, keys: MerchantKeys, account: str, *, now_ms: int) -> int:
    """How many items are due."""
    return int(await redis.execute("ZCOUNT", keys.refetch(account), "-inf", now_ms))


async def strike_off(
    redis: Executes, keys: MerchantKeys, account: str, items: Sequence[str], *, started_ms: int
) -> None:
    """Take fetched items off the list unless they were asked for again after ``started_ms``."""
    await DONE(redis, keys={"due": keys.refetch(account)}, args={"started_ms": started_ms}, rest=list(items))
