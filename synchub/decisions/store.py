"""The decision streams in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub import lua

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes

APPEND = lua.load("decisions_append")


async def append(
    redis: Executes, keys: MerchantKeys, rows: Sequence[tuple[str, ...]], *, stream_max: int
) -> int:
    """Append decisions in their order and return the number of the last."""
    return int(
        await APPEND(
            redis,
            keys={"decisions": keys.decisions},
            args={"decisions_max": stream_max},
            rest=[part for row in rows for part in row],
        )
    )
