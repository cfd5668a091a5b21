"""What the catalogue has said about SKUs for the time when there is none; read here, written by stock."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson

from synchub.availability.model import Outlook
from synchub.connector_kit.events import Incoming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes


async def read_outlooks(redis: Executes, keys: MerchantKeys, skus: Sequence[str]) -> list[Outlook]:
    """Return what is known of each SKU, in their order; all commands leave in one write."""
    found = await asyncio.gather(
        *(redis.execute("HMGET", keys.sku(sku), "substitutes", "incoming") for sku in skus)
    )
    return [_outlook(substitutes, incoming) for substitutes, incoming in found]


def _outlook(substitutes: bytes | None, incoming: bytes | None) -> Outlook:
    return Outlook(
        substitutes=tuple(orjson.loads(substitutes)) if substitutes else (),
        incoming=tuple(Incoming(**arrival) for arrival in orjson.loads(incoming)) if incoming else (),
    )
