"""The maps of one account and its parked items, all in the merchant's slot, read in pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.keyspace import SEPARATOR

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes

_PAGE: Final = 500


async def read_items(redis: Executes, keys: MerchantKeys, account: str, limit: int) -> dict[str, str]:
    """Return up to ``limit`` mapped items."""
    found: dict[str, str] = {}
    async for field, value in _scan(redis, "HSCAN", keys.items(account), "*"):
        if len(found) >= limit:
            break
        found[field] = value
    return found


async def read_sku(redis: Executes, keys: MerchantKeys, account: str, item: str) -> str | None:
    """Return the SKU an item is mapped to."""
    sku: bytes | None = await redis.execute("HGET", keys.items(account), item)
    return None if sku is None else sku.decode()


async def count_items(redis: Executes, keys: MerchantKeys, account: str) -> int:
    """Return how many items are mapped."""
    return int(await redis.execute("HLEN", keys.items(account)))


async def read_locations(redis: Executes, keys: MerchantKeys, account: str) -> dict[str, str]:
    """Return the mapped locations of the account."""
    prefix = account + SEPARATOR
    scan = _scan(redis, "HSCAN", keys.locations, prefix + "*")
    return {field.removeprefix(prefix): value async for field, value in scan}


async def write_location(redis: Executes, keys: MerchantKeys, account: str, theirs: str, ours: str) -> None:
    """Map a location that is not mapped yet."""
    await redis.execute("HSETNX", keys.locations, account + SEPARATOR + theirs, ours)


async def read_parked(redis: Executes, keys: MerchantKeys, account: str) -> dict[str, int]:
    """Return the account's parked items and since when each waits, longest first."""
    prefix = account + SEPARATOR
    scan = _scan(redis, "ZSCAN", keys.parked, prefix + "*")
    found = {member.removeprefix(prefix): int(float(score)) async for member, score in scan}
    return dict(sorted(found.items(), key=lambda pair: (pair[1], pair[0])))


async def read_parked_fields(redis: Executes, keys: MerchantKeys, account: str, item: str) -> tuple[str, ...]:
    """Return the names under which an item's events wait."""
    fields = await redis.execute("HKEYS", keys.parked_item(account, item))
    return tuple(field.decode() for field in fields)


async def forget(redis: Executes, keys: MerchantKeys, account: str) -> None:
    """Delete the account's maps, groups and parked events; repeatable."""
    for item in await read_parked(redis, keys, account):
        await redis.execute("DEL", keys.parked_item(account, item))
        await redis.execute("ZREM", keys.parked, account + SEPARATOR + item)
    for theirs in await read_locations(redis, keys, account):
        await redis.execute("HDEL", keys.locations, account + SEPARATOR + theirs)
    await redis.execute("DEL", keys.items(account))
    await _forget_groups(redis, keys, account)


async def _forget_groups(redis: Executes, keys: MerchantKeys, account: str) -> None:
    """Nothing lists an account's groups, so the key space is walked: removing an account is rare."""
    cursor: bytes | str = "0"
    while True:
        command = ("SCAN", cursor, "MATCH", keys.group(account, "*"), "COUNT", _PAGE, "TYPE", "set")
        cursor, found = await redis.execute(*command)
        for key in found:
            await redis.execute("DEL", key)
        if int(cursor) == 0:
            return


async def _scan(redis: Executes, verb: str, key: str, pattern: str) -> AsyncIterator[tuple[str, str]]:
    cursor: bytes | str = "0"
    while True:
        cursor, flat = await redis.execute(verb, key, cursor, "MATCH", pattern, "COUNT", _PAGE)
        for name, value in zip(flat[::2], flat[1::2], strict=True):
            yield name.decode(), value.decode()
        if int(cursor) == 0:
            return
