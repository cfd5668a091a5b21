"""What can be done with stock: apply reports, release waiting ones, read answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.kit.clock import now_ms
from synchub.stock import store
from synchub.stock.rules import Circumstances, Row, StockReport, release_row, rows_of, watermark_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.settings import Settings
    from synchub.stock.model import Applied, Position, Reading


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
    events: Sequence[StockReport],
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
