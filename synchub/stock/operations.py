"""What can be done with stock: apply reports, release waiting ones, read answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.errors import NotFound
from synchub.kit.clock import now_ms
from synchub.stock import sales, store
from synchub.stock.model import Outcome, PageApplied, SalesCount, SalesPage
from synchub.stock.rules import Circumstances, Row, place_of, release_row, rows_of, watermark_row
from synchub.sync_keys import cursors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.events import StockEvent
    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.settings import Settings
    from synchub.stock.model import Applied, Footing, Lapsed, OpenSale, PollPlace, Position, Reading, Settled


NOT_TAKEN_IN: Final = frozenset({Outcome.FAILED, Outcome.SCALE_MIXED, Outcome.PARKED_FULL, Outcome.NAMELESS})
"""Outcomes after which a change is nowhere in the store: a poll must not go on past it and forget it."""
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


async def apply_page(
    redis: Executes,
    keys: MerchantKeys,
    rows: Sequence[Row],
    *,
    guard: Row,
    move: Row,
    settings: Settings,
) -> PageApplied:
    """Apply what a page has brought, and with its last changes let the next poll begin after it.

    At most ``ingress.batch_max`` of its rows go into one script, each with the guard in front. The
    place moves only if every change was taken in, and nothing is applied any more once somebody
    else has gone on. So a crash anywhere leaves the place before the page, and repeating it has no
    further effect. With no rows left the place alone moves.

    Raises:
        OutcomeUnknown: some rows may have been applied; read the place again.
        StoreUnavailable: the part that failed was not applied; likewise.
    """
    results: list[Applied] = []
    size = settings.ingress.batch_max
    parts = [rows[start : start + size] for start in range(0, len(rows), size)] or [()]
    for number, part in enumerate(parts, 1):
        is_last = number == len(parts) and not any(result.outcome in NOT_TAKEN_IN for result in results)
        told = await store.apply_rows(
            redis, keys, [guard, *part, *([move] if is_last else [])], now_ms=now_ms(), settings=settings
        )
        results += told[1 : len(part) + 1]
        if is_last:
            is_done = told[-1].outcome is Outcome.DUPLICATE
            return PageApplied(results=tuple(results), moved=Outcome.APPLIED if is_done else told[-1].outcome)
        if told[0].outcome is Outcome.SUPERSEDED:
            return PageApplied(results=tuple(results), moved=Outcome.SUPERSEDED)
    return PageApplied(results=tuple(results), moved=Outcome.HELD_BACK)


async def read_place(redis: Executes, keys: MerchantKeys, account: str) -> PollPlace:
    """Return where the account's next poll begins."""
    return place_of(await redis.execute("HGET", cursors(keys.merchant), account))


async def read_places(redis: Executes, keys: MerchantKeys) -> dict[str, PollPlace]:
    """Return where the next poll of each of the merchant's accounts begins."""
    found = await redis.execute("HGETALL", cursors(keys.merchant))
    return {name.decode(): place_of(stored) for name, stored in zip(found[::2], found[1::2], strict=True)}


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


async def read_footings(
    redis: Executes, keys: MerchantKeys, *, after: str = "", limit: int
) -> tuple[Footing, ...]:
    """Return what the next SKUs' answers rest on, in byte order; fewer than ``limit``: there are no more."""
    return await store.read_footings(redis, keys, after=after, limit=limit)


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
