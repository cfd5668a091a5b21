"""Open sales in Redis: listed for a person, counted for the numbers; nothing is written here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from synchub import lua
from synchub.stock.model import Lacking, OpenSale, SalesCount, SalesPage

if TYPE_CHECKING:
    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes

READ_SALES: Final = lua.load("read_sales")
COUNT_SALES: Final = lua.load("count_sales")

SKUS_AT_ONCE: Final = 500
"""SKUs that one step looks at: the store is busy with it for less than a millisecond."""


async def read_page(
    redis: Executes, keys: MerchantKeys, *, sku: str, place: int, older_than_ms: int, limit: int
) -> SalesPage:
    """Read open sales from a position on; a page may be short, or empty, and not the last."""
    clock, sales, next_sku, next_place = await READ_SALES(
        redis,
        keys={"head": keys.head, "skus": keys.skus},
        args={
            "tag": keys.tag,
            "from": sku,
            "skipped": place,
            "older_than_ms": older_than_ms,
            "looked_max": SKUS_AT_ONCE,
            "limit": limit,
        },
    )
    return SalesPage(
        sales=tuple(_sale_of(json.loads(told), clock) for told in sales),
        next_sku=next_sku.decode(),
        next_place=next_place,
    )


async def count_page(
    redis: Executes, keys: MerchantKeys, *, sku: str, older_than_ms: int
) -> tuple[SalesCount, str]:
    """Count the open sales of the next SKUs; the text is the SKU to go on from, empty after the last."""
    open_, overdue, next_sku = await COUNT_SALES(
        redis,
        keys={"head": keys.head, "skus": keys.skus},
        args={"tag": keys.tag, "from": sku, "older_than_ms": older_than_ms, "looked_max": SKUS_AT_ONCE},
    )
    return SalesCount(open=open_, overdue=overdue), next_sku.decode()


def _sale_of(told: dict[str, Any], clock: int) -> OpenSale:
    # An empty table of Lua is an object in JSON, whatever it was meant to be.
    return OpenSale(
        names=tuple(told["names"]),
        sku=told["sku"],
        units=told["units"],
        places=tuple(sorted(dict(told["places"]).items())),
        origin=told["origin"],
        hold=told["hold"],
        age_ms=max(0, clock - told["at"]),
        lacking=tuple(
            Lacking(account=one["account"], item=one["item"], place=one["place"], units=one["pending"])
            for one in told["pending"] or ()
        ),
    )
