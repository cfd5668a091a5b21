"""What was chosen and measured of how sales come to be in levels, in the merchant's slot."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from synchub.accounts import evidence_rules as rules
from synchub.keyspace import SEPARATOR
from synchub.lua import load

if TYPE_CHECKING:
    from synchub.accounts.evidence_rules import Measured, Pair, Stored
    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes

_SUSPEND: Final = load("evidence_suspend")
_LOOK_AGAIN: Final = "a"


async def read_stored(redis: Executes, keys: MerchantKeys) -> dict[Pair, Stored]:
    """Return what was chosen, by pair; an origin may be ``*``."""
    flat = await redis.execute("HGETALL", keys.evidence)
    return {
        _pair(name): rules.stored_of(text.decode()) for name, text in zip(flat[::2], flat[1::2], strict=True)
    }


async def read_measured(redis: Executes, keys: MerchantKeys) -> dict[Pair, Measured]:
    """Return what was measured, by pair."""
    flat = await redis.execute("HGETALL", keys.evidence_times)
    counts: defaultdict[Pair, dict[str, int]] = defaultdict(dict)
    for name, count in zip(flat[::2], flat[1::2], strict=True):
        authority, origin, step = name.decode().split(SEPARATOR)
        counts[authority, origin][step] = int(count)
    return {pair: rules.measured_of(steps) for pair, steps in counts.items()}


async def write(redis: Executes, keys: MerchantKeys, pair: Pair, text: str | None) -> None:
    """Store a choice, or take it back; what it concerns is looked at by the reaper."""
    field = SEPARATOR.join(pair)
    if text is None:
        await redis.execute("HDEL", keys.evidence, field)
    else:
        await redis.execute("HSET", keys.evidence, field, text)
    await redis.execute("ZADD", keys.due, 0, f"{_LOOK_AGAIN}{SEPARATOR}{pair[0]}{SEPARATOR}")


async def suspend(redis: Executes, keys: MerchantKeys, pair: Pair, *, at_ms: int, ends: bool) -> bool:
    """Interrupt the way of a pair, or let it go on; False where there is none by time, or nothing differs."""
    outcome = await _SUSPEND(
        redis,
        keys={"evidence": keys.evidence},
        args={
            "field": SEPARATOR.join(pair),
            "any": SEPARATOR.join((pair[0], rules.ANY)),
            "at_ms": at_ms,
            "ends": int(ends),
        },
    )
    return bool(outcome)


async def forget(redis: Executes, keys: MerchantKeys, account: str) -> None:
    """Delete everything about an account's own number; repeatable."""
    for key in (keys.evidence, keys.evidence_times):
        for name in await redis.execute("HKEYS", key):
            if account in name.decode().split(SEPARATOR)[:2]:
                await redis.execute("HDEL", key, name)


def _pair(name: bytes) -> Pair:
    authority, origin = name.decode().split(SEPARATOR)
    return authority, origin
