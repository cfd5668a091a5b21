"""What a worker counts now and then, for people who watch numbers."""

from __future__ import annotations

from typing import Final

import pytest

from synchub import metrics
from synchub.kit.clock import now_ms
from synchub.stock import operations as stock
from synchub.stock import store
from tests.support.hub import running_hub
from tests.support.rows import order, push
from workers.upkeep import tidy

HOUR_MS: Final = 3_600_000


@pytest.mark.parametrize(("hours", "overdue"), [(1, 1), (3, 0)])
async def test_sales_that_no_level_contains_for_too_long_are_counted(
    redis_url: str, hours: int, overdue: int
) -> None:
    settings = {"settle_after_hours": hours, "clock": "proposed"}
    async with running_hub(redis_url, stock=settings) as site:
        hub, keys, account = site.hub, site.merchant.keys, site.merchant.account
        sold_ms = now_ms() - 2 * HOUR_MS
        rows = [
            push(10, at=sold_ms, version=1, account=account, item="TEE"),
            order(2, at=sold_ms, version=2, account=account, item="TEE"),
        ]
        await store.apply_rows(hub.redis, keys, rows, now_ms=sold_ms, settings=hub.settings)
        await stock.let_time_pass(hub.redis, keys, settings=hub.settings)
        await tidy({"hub": hub})
        assert metrics.open_sales_overdue._value.get() == overdue
