"""Fetch what is due: one account at a time, coalesced per item, inside the platform's rate."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from synchub import metrics
from synchub.connector_kit.contract import Access
from synchub.connector_kit.events import Ack, OrderLine
from synchub.errors import UpstreamFailed, UpstreamRefused, UpstreamThrottled
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import now_ms
from synchub.polling import store
from synchub.stock import operations as stock

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from synchub.accounts.model import AccountView
    from synchub.connector_kit.contract import Connector
    from synchub.connector_kit.events import StockEvent
    from synchub.connector_kit.http import PlatformHttp
    from synchub.lua import Executes
    from synchub.settings import Settings


async def count_due(redis: Executes, account: AccountView) -> int:
    """How many items of the account are due to be fetched now."""
    return await store.count_due(redis, MerchantKeys(account.merchant), account.name, now_ms=now_ms())


async def fetch_due(
    redis: Executes, account: AccountView, connector: Connector, http: PlatformHttp, settings: Settings
) -> int:
    """Fetch and apply the levels of every item that is due; returns how many were asked for.

    An item asked for again while it is being fetched is fetched again. A crash at
    any point leaves it on the list.

    Raises:
        UpstreamThrottled, UpstreamRefused, UpstreamFailed: what remains stays due.
        OutcomeUnknown, StoreUnavailable: likewise.
    """
    offer = connector.manifest.client
    if connector.client is None or offer is None:
        return 0
    keys = MerchantKeys(account.merchant)
    client = connector.client(Access(http=http, credentials=account.credentials))
    asked = 0
    while items := await store.due_items(
        redis, keys, account.name, now_ms=now_ms(), limit=offer.fetch_levels_max
    ):
        started_ms = now_ms()
        events = await _count_call(connector.name, client.fetch_levels(items))
        reports = [event for event in events if not isinstance(event, OrderLine | Ack)]
        await stock.apply_read(
            redis, keys, reports, account=account.name, started_ms=started_ms, settings=settings
        )
        await store.strike_off(redis, keys, account.name, items, started_ms=started_ms)
        asked += len(items)
        await asyncio.sleep(1 / offer.calls_per_second)
    return asked


async def _count_call(platform: str, call: Awaitable[tuple[StockEvent, ...]]) -> tuple[StockEvent, ...]:
    try:
        events = await call
    except (UpstreamThrottled, UpstreamRefused, UpstreamFailed) as problem:
        metrics.poll_requests.labels(platform, type(problem).__name__.removeprefix("Upstream").lower()).inc()
        raise
    metrics.poll_requests.labels(platform, "ok").inc()
    return events
