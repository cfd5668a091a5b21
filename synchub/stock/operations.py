"""What can be done with stock: apply reports, release waiting ones, read answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.errors import NotFound
from synchub.kit.clock import now_ms
from synchub.stock import sales, store
from synchub.stock.model import SalesCount, SalesPage
from synchub.stock.rules import Circumstances, Row, release_row, rows_of, watermark_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.events import StockEvent
    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.settings import Settings
    from synchub.stock.model import Applied, Lapsed, OpenSale, Position, Reading, Settled


_STEPS_MAX: Final = 20
"""Steps of the store for one page of sales; what is left is on the next page."""


async def apply(
    redis: Executes, keys: MerchantKeys, rows: Sequence[Row], *, settings: Settings
) -> tuple[Applied, ...]:
    """Apply rows of one merchant in their order; one result per row.

    At most ``ingress.batch_max`` rows go into one script, so a longer sequence is
    atomic only by parts. Applying a row again changes nothing: versions, read
    times and operation ids tell it from a new one.

    Raises:
        OutcomeUnknown: some rows may have been applied; apply them all again.
        StoreUnavailable: the part that failed was not applied; apply them all again.
    """
    results: list[Applied] = []
    size = settings.ingress.batch_max
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        results += await store.apply_rows(redis, keys, part, now_ms=now_ms(), settings=settings)
    return tuple(results)


async def apply_read(
    redis: Executes,
    keys: MerchantKeys,
    events: Sequence[StockEvent],
    *,
    account: str,
    started_ms: int,
    settings: Settings,
) -> tuple[Applied, ...]:
    """Apply what a direct read of the platform has shown; ``started_ms`` is when it was asked."""
    about = Circumstances(
        account=account, at_ms=started_ms, is_read=True, op=f"read:{started_ms}", cause=f"read:{started_ms}"
    )
    return await apply(redis, keys, rows_of(events, about), settings=settings)


async def advance_watermark(
    redis: Executes, keys: MerchantKeys, *, account: str, complete_to_ms: int, settings: Settings
) -> None:
    """Record that an account has told everything up to a time; never moves back."""
    await apply(redis, keys, [watermark_row(account, complete_to_ms)], settings=settings)


async def release(
    redis: Executes, keys: MerchantKeys, account: str, items: Sequence[str], *, settings: Settings
) -> int:
    """Apply the waiting events of these items whose item and location are mapped by now.

    Repeatable; what is still unmapped goes on waiting. Returns how many items were tried.
    """
    rows = [release_row(account, item, cause="mapping") for item in items]
    return len(await apply(redis, keys, rows, settings=settings))


async def read(redis: Executes, keys: MerchantKeys, skus: Sequence[str]) -> Reading:
    """Return the present answers for these SKUs, and the position they belong to."""
    return await store.read_answers(redis, keys, skus)


async def read_page(
    redis: Executes, keys: MerchantKeys, *, prefix: str = "", after: str = "", limit: int
) -> Reading:
    """Return the next SKUs in byte order; fewer than ``limit`` means there are no more."""
    return await store.read_page(redis, keys, prefix=prefix, after=after, limit=limit)


async def read_head(redis: Executes, keys: MerchantKeys) -> Position:
    """Return the merchant's present position."""
    return (await store.read_answers(redis, keys, [])).position


async def let_time_pass(redis: Executes, keys: MerchantKeys, *, settings: Settings) -> Lapsed:
    """Turn everything that is over by now into events: holds, confirmations, fresh evidence, old sales.

    Repeatable; at most ``stock.lapse_max`` of a kind in one step. Call again while ``left`` is not 0.
    """
    return await store.lapse(redis, keys, now_ms=now_ms(), settings=settings)


async def settle_sale(
    redis: Executes, keys: MerchantKeys, names: Sequence[str], *, cause: str, settings: Settings
) -> Settled:
    """Take an open sale out of the reckoning, because a person says that it is settled.

    The first of the names that leads to a sale counts. Repeatable: a settled sale stays settled.

    Raises:
        NotFound: no sale is known by any of them.
    """
    for name in names:
        settled = await store.settle(redis, keys, name, cause=cause, now_ms=now_ms(), settings=settings)
        if settled is not None:
            return settled
    msg = "No such sale is known; it may have been settled long ago."
    raise NotFound(msg)


async def list_sales(
    redis: Executes, keys: MerchantKeys, *, sku: str = "", place: int = 0, older_than_ms: int = 0, limit: int
) -> SalesPage:
    """Return open sales by SKU, and of one SKU the oldest first.

    ``sku`` and ``place`` are where the page before has ended. A sale that is settled between two pages
    moves the ones after it forward: a later pass shows what this one has missed.
    """
    found: list[OpenSale] = []
    for _ in range(_STEPS_MAX):
        page = await sales.read_page(
            redis, keys, sku=sku, place=place, older_than_ms=older_than_ms, limit=limit - len(found)
        )
        found += page.sales
        sku, place = page.next_sku, page.next_place
        if not sku or len(found) >= limit:
            break
    return SalesPage(sales=tuple(found), next_sku=sku, next_place=place)


async def count_sales(redis: Executes, keys: MerchantKeys, *, overdue_after_ms: int) -> SalesCount:
    """Count all open sales of a merchant, a few hundred SKUs in one step of the store."""
    open_ = overdue = 0
    sku = ""
    while True:
        count, sku = await sales.count_page(redis, keys, sku=sku, older_than_ms=overdue_after_ms)
        open_, overdue = open_ + count.open, overdue + count.overdue
        if not sku:
            return SalesCount(open=open_, overdue=overdue)
