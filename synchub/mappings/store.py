"""The maps of one account and its parked items, all in the merchant's slot, read in pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.keyspace import LIST_SEPARATOR, SEPARATOR
from synchub.mappings.model import Decided, Decision
from synchub.mappings.rules import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes

_PAGE: Final = 500
_STORED: Final = {Decision.SUM: "sum", Decision.SAME_POOL: "same", Decision.YES: "yes"}
_DECISIONS: Final = {text: decision for decision, text in _STORED.items()}


async def read_items(redis: Executes, keys: MerchantKeys, account: str, limit: int) -> dict[str, str]:
    """Return up to ``limit`` mapped items."""
    found: dict[str, str] = {}
    async for field, value in _scan(redis, "HSCAN", keys.items(account), "*"):
        if len(found) >= limit:
            break
        found[field] = value
    return found


async def read_map(redis: Executes, keys: MerchantKeys, account: str, item: str) -> str | None:
    """Return what an item is mapped to, as it is stored."""
    mapped: bytes | None = await redis.execute("HGET", keys.items(account), item)
    return None if mapped is None else mapped.decode()


async def read_names(redis: Executes, keys: MerchantKeys, account: str) -> Names:
    """Return how the account's names become the merchant's."""
    role = (await redis.execute("HGET", keys.roles, account) or b"C|0|0|p|p|0").decode().split("|")
    return Names(
        own_items=role[3] == "s",
        own_places=role[4] == "m",
        locations=await read_locations(redis, keys, account),
    )


async def write_decision(redis: Executes, keys: MerchantKeys, account: str, decided: Decided) -> None:
    """Store what a person has said, and have what it concerns looked at."""
    field = SEPARATOR.join((account, decided.sku, decided.place))
    await redis.execute("HSET", keys.decided, field, _STORED[decided.decision])
    await look_again(redis, keys, account)


async def look_again(redis: Executes, keys: MerchantKeys, account: str) -> None:
    """Have the reaper settle every SKU anew that the account is a source of."""
    await redis.execute("ZADD", keys.due, 0, f"a{SEPARATOR}{account}{SEPARATOR}")


async def read_decisions(redis: Executes, keys: MerchantKeys, account: str) -> tuple[Decided, ...]:
    """Return what people have said of the account's sources."""
    prefix = account + SEPARATOR
    scan = _scan(redis, "HSCAN", keys.decided, prefix + "*")
    found = [(*field.removeprefix(prefix).split(SEPARATOR), text) async for field, text in scan]
    return tuple(
        Decided(sku=sku, place=place, decision=_DECISIONS[text]) for sku, place, text in sorted(found)
    )


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


async def write_group(redis: Executes, keys: MerchantKeys, place: str, members: Sequence[str]) -> None:
    """Say whose total a location is."""
    await redis.execute("HSET", keys.groups, place, LIST_SEPARATOR.join(members))


async def read_groups(redis: Executes, keys: MerchantKeys) -> dict[str, tuple[str, ...]]:
    """Return the merchant's totals, with what they cover."""
    scan = _scan(redis, "HSCAN", keys.groups, "*")
    return {place: tuple(members.split(LIST_SEPARATOR)) async for place, members in scan}


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
    for decided in await read_decisions(redis, keys, account):
        await redis.execute("HDEL", keys.decided, SEPARATOR.join((account, decided.sku, decided.place)))
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
