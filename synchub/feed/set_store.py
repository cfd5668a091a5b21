"""Sets of SKUs as they lie in Redis."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synchub import lua
from synchub.errors import StoreUnavailable
from synchub.feed.model import Filter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.settings import FeedSettings

WRITE: Final = lua.load("feed_set_write")
USE: Final = lua.load("feed_set_use")
DELETE: Final = lua.load("feed_set_delete")

CHANGES_MAX: Final = 1000
"""Changes of one merchant's sets that are kept; who has missed some looks at every set it follows."""
MARK_BYTES: Final = 4
PAGE: Final = 1000
READS_MAX: Final = 5
"""Tries to read a set between two changes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetWrite:
    """One step of making or changing a set; no SKU is both added and removed."""

    agent: str
    set_id: str
    added: Sequence[str] = ()
    removed: Sequence[str] = ()
    is_new: bool = False


async def write(
    redis: Executes, keys: MerchantKeys, step: SetWrite, *, now_ms: int, limits: FeedSettings
) -> tuple[str, int, int]:
    """Do one step; return what came of it, the set's revision, and how many SKUs it has."""
    outcome, rev, count = await WRITE(
        redis,
        keys={
            "about": keys.feed_set(step.set_id),
            "members": keys.feed_set_skus(step.set_id),
            "owned": keys.feed_sets_of(step.agent),
            "changes": keys.feed_set_changes,
        },
        args={
            "id": step.set_id,
            "agent": step.agent,
            "is_new": int(step.is_new),
            "mark": secrets.token_hex(MARK_BYTES),
            "now_ms": now_ms,
            "life_ms": limits.set_life_ms,
            "skus_max": limits.set_skus_max,
            "sets_max": limits.sets_per_agent,
            "changes_max": CHANGES_MAX,
            "added": len(step.added),
        },
        rest=[*step.added, *step.removed],
    )
    return outcome.decode(), int(rev), int(count)


async def use(
    redis: Executes, keys: MerchantKeys, agent: str, set_id: str, *, now_ms: int, limits: FeedSettings
) -> tuple[int, str, int]:
    """Let a set live on; return its revision, 0 where the agent has no such set, its mark and its size."""
    rev, mark, count = await USE(
        redis,
        keys={
            "about": keys.feed_set(set_id),
            "members": keys.feed_set_skus(set_id),
            "owned": keys.feed_sets_of(agent),
        },
        args={"id": set_id, "agent": agent, "now_ms": now_ms, "life_ms": limits.set_life_ms},
    )
    return int(rev), mark.decode(), int(count)


async def delete(
    redis: Executes, keys: MerchantKeys, agent: str, set_id: str, *, limits: FeedSettings
) -> bool:
    """Delete a set; return whether the agent had it."""
    answer = await DELETE(
        redis,
        keys={
            "about": keys.feed_set(set_id),
            "members": keys.feed_set_skus(set_id),
            "owned": keys.feed_sets_of(agent),
            "changes": keys.feed_set_changes,
        },
        args={"id": set_id, "agent": agent, "life_ms": limits.set_life_ms, "changes_max": CHANGES_MAX},
    )
    return bool(answer)


async def read(redis: Executes, keys: MerchantKeys, set_id: str) -> Filter:
    """Return a set as it is at one revision; that of a set which is gone is 0.

    It is read in pages, so that 50,000 names do not hold up the store, and again when it has changed
    meanwhile.

    Raises:
        StoreUnavailable: it changes faster than it can be read.
    """
    before = await _revision(redis, keys, set_id)
    for _ in range(READS_MAX):
        skus: set[str] = set()
        cursor: bytes | str = "0"
        while True:
            cursor, found = await redis.execute("SSCAN", keys.feed_set_skus(set_id), cursor, "COUNT", PAGE)
            skus.update(sku.decode() for sku in found)
            if int(cursor) == 0:
                break
        after = await _revision(redis, keys, set_id)
        if after == before:
            rev, mark = after
            return Filter(skus=frozenset(skus), set_id=set_id, rev=rev, mark=mark)
        before = after
    msg = "The set changes faster than it can be read."
    raise StoreUnavailable(msg, retry_after_s=1)


async def read_newest_change(redis: Executes, keys: MerchantKeys) -> str:
    """Return the id of the newest change of the merchant's sets."""
    found = await redis.execute("XREVRANGE", keys.feed_set_changes, "+", "-", "COUNT", 1)
    return found[0][0].decode() if found else "0-0"


async def _revision(redis: Executes, keys: MerchantKeys, set_id: str) -> tuple[int, str]:
    rev, mark = await redis.execute("HMGET", keys.feed_set(set_id), "rev", "mark")
    return int(rev or 0), (mark or b"").decode()
