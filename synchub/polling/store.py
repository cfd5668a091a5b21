"""Which items of an account are due to be fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub import lua

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes

DONE = lua.load("refetch_done")
LEASE = lua.load("lease")

_HOUR_S: Final = 3600
_PAUSE: Final = "pause"


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


async def take_lease(redis: Executes, keys: MerchantKeys, account: str, *, owner: str, ttl_ms: int) -> bool:
    """Take or renew the right to call the platform; false when somebody else has it."""
    held = await LEASE(
        redis, keys={"lease": keys.fetch_lease(account)}, args={"owner": owner, "ttl_ms": ttl_ms}
    )
    return bool(held)


async def return_lease(redis: Executes, keys: MerchantKeys, account: str, *, owner: str) -> None:
    """Give the right back."""
    await take_lease(redis, keys, account, owner=owner, ttl_ms=0)


async def is_leased(redis: Executes, keys: MerchantKeys, account: str) -> bool:
    """Whether somebody calls the platform now, or a pause is on."""
    return bool(await redis.execute("EXISTS", keys.fetch_lease(account)))


async def pause(redis: Executes, keys: MerchantKeys, account: str, *, ttl_ms: int) -> None:
    """Let nobody call the platform for a while."""
    await redis.execute("SET", keys.fetch_lease(account), _PAUSE, "PX", max(1, ttl_ms))


async def count_failure(redis: Executes, keys: MerchantKeys, account: str) -> int:
    """Count a failed fetch and return how many have failed in a row."""
    failures = int(await redis.execute("INCR", keys.fetch_failures(account)))
    await redis.execute("EXPIRE", keys.fetch_failures(account), _HOUR_S)
    return failures


async def clear_failures(redis: Executes, keys: MerchantKeys, account: str) -> None:
    """Forget the failures: the platform answers."""
    await redis.execute("DEL", keys.fetch_failures(account))
