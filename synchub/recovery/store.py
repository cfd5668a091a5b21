"""One script, and where the store's present history has left the archived one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from synchub import lua
from synchub.steps import memory_args, saw, step_args

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.settings import Settings

RECOVER: Final = lua.load("recover")
_PAGE: Final = 1000


async def recover(
    redis: Executes,
    keys: MerchantKeys,
    skus: Sequence[dict[str, Any]],
    *,
    cause: str,
    now_ms: int,
    settings: Settings,
) -> list[tuple[int, int, int, int, int]]:
    """Bring back some SKUs in one step; return sales restored, known, sources the same, and its number."""
    epoch, seq, results = await RECOVER(
        redis,
        keys={"head": keys.head},
        args={
            **step_args(keys, now_ms=now_ms, settings=settings),
            **memory_args(settings),
            "feed_max": settings.feed.retained,
            "cause": cause,
        },
        rest=[orjson.dumps(one) for one in skus],
    )
    saw(redis, keys, epoch, seq)
    return [(counts[0], counts[1], counts[2], counts[3], int(counts[4])) for counts in results]


async def read_epoch(redis: Executes, keys: MerchantKeys) -> str:
    """Return the name of the store's present history; empty: it has none."""
    return ((await redis.execute("HGET", keys.head, "epoch")) or b"").decode()


async def accounts_known(redis: Executes, keys: MerchantKeys) -> set[str]:
    """Return the accounts that have a role."""
    return {name.decode() for name in await redis.execute("HKEYS", keys.roles)}


async def branch_of(redis: Executes, keys: MerchantKeys, epoch: str) -> int:
    """Return the sequence at which the store's present history began; 0 where it is all there is."""
    after = "-"
    while page := await redis.execute("XRANGE", keys.ledger, after, "+", "COUNT", _PAGE):
        for entry_id, flat in page:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            if fields.get(b"field") == b"epoch" and fields.get(b"to") == epoch.encode():
                return int(entry_id.split(b"-")[0]) - 1
        after = f"({page[-1][0].decode()}"
    return 0
