"""Which items of an account are due to be fetched, and how its polls go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from synchub import lua, sync_keys
from synchub.keyspace import SEPARATOR
from synchub.polling.model import Mode, PollState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.redis import Part

DONE = lua.load("refetch_done")
DUE = lua.load("refetch_due")
LEASE = lua.load("lease")

LEAD_MS: Final = 30_000
"""An item that sells fast overtakes those that came at most so much earlier."""
_FAST_A_DAY: Final = 48
_LOOKED_AT: Final = 250
_HOUR_S: Final = 3600
_PAUSE: Final = "pause"
SOON: Final = "soon"
SWEEP: Final = "sweep"
_STORED: Final = (
    "mode", "due_ms", "last_ms", "failures", "retry_ms", "has_more", "last_error", "sweep_ms", "is_sweeping",
)  # fmt: skip


async def due_items(
    redis: Executes, keys: MerchantKeys, account: str, *, now_ms: int, limit: int
) -> list[str]:
    """Return the items that are due: the longest waiting first, and fast sellers a little before them."""
    found = await DUE(
        redis,
        keys={"due": keys.refetch(account), "items": keys.items(account)},
        args={
            "tag": keys.tag,
            "now_ms": now_ms,
            "count": limit,
            "looked_at": _LOOKED_AT,
            "lead_ms": LEAD_MS,
            "fast_a_day": _FAST_A_DAY,
        },
    )
    return [item.decode() for item in found]


async def awaited(redis: Executes, keys: MerchantKeys, account: str, items: Sequence[str]) -> frozenset[str]:
    """Return those of the items that are on the list of fetches, due or not."""
    if not items:
        return frozenset()
    scores = await redis.execute("ZMSCORE", keys.refetch(account), *items)
    return frozenset(item for item, score in zip(items, scores, strict=True) if score is not None)


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


async def take_poll_lease(redis: Executes, merchant: str, account: str, *, owner: str, ttl_ms: int) -> bool:
    """Take, renew or (with no time) return the right to poll an account; false when somebody else has it."""
    args: dict[str, Part] = {"owner": owner, "ttl_ms": ttl_ms}
    return bool(await LEASE(redis, keys={"lease": sync_keys.poll_lease(merchant, account)}, args=args))


async def read_polls(redis: Executes, merchant: str) -> dict[str, PollState]:
    """Return how the polls of a merchant's accounts go, without where they stand."""
    found = await redis.execute("HGETALL", sync_keys.polls(merchant))
    stored = {name.decode(): value for name, value in zip(found[::2], found[1::2], strict=True)}
    names = {name.split(SEPARATOR)[0] for name in stored}
    return {name: _state(name, stored) for name in names}


async def write_poll(redis: Executes, merchant: str, account: str, state: PollState) -> None:
    """Store how the last turn went; wishes are stored beside it, so that none is overwritten."""
    told = {name: getattr(state, name) for name in _STORED}
    await redis.execute("HSET", sync_keys.polls(merchant), account, orjson.dumps(told))


async def wish(redis: Executes, merchant: str, account: str, what: str, *, at_ms: int) -> None:
    """Store a wish: ``soon`` for a poll, ``sweep`` for everything to be read."""
    await redis.execute("HSET", sync_keys.polls(merchant), f"{account}{SEPARATOR}{what}", at_ms)


async def strike_off_all(redis: Executes, keys: MerchantKeys, account: str, *, upto_ms: int) -> None:
    """Take everything off the list that was asked for by then: it has been read with everything else."""
    await redis.execute("ZREMRANGEBYSCORE", keys.refetch(account), "-inf", upto_ms)


async def oldest_due_ms(redis: Executes, keys: MerchantKeys, account: str) -> int:
    """When the item that waits longest was to be fetched; 0: none is on the list."""
    found = await redis.execute("ZRANGE", keys.refetch(account), 0, 0, "WITHSCORES")
    return int(float(found[1])) if found else 0


def _state(account: str, stored: Mapping[str, bytes]) -> PollState:
    told = orjson.loads(stored[account]) if account in stored else {}
    known = {name: told[name] for name in _STORED if name in told}
    if "mode" in known:
        known["mode"] = Mode(known["mode"])
    return PollState(
        **known,
        soon_ms=int(stored.get(f"{account}{SEPARATOR}{SOON}", 0)),
        sweep_wished_ms=int(stored.get(f"{account}{SEPARATOR}{SWEEP}", 0)),
    )
