"""Fetch what is due: one account at a time, coalesced per item, the most urgent first.

The apply script writes the list of what is due; it has each item once. Only the holder of an
account's lease fetches, so that an item is not asked for twice at once. A lease outlives its
holder by seconds; after a failure a pause holds it, since the breaker wants several calls before
it opens.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from synchub import metrics
from synchub.connector_kit.contract import Access
from synchub.errors import Fault, UpstreamFailed, UpstreamRefused, UpstreamThrottled
from synchub.keyspace import MerchantKeys
from synchub.kit.backoff import full_jitter_s
from synchub.kit.clock import now_ms
from synchub.polling import store
from synchub.polling.leases import held
from synchub.stock import operations as stock

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from synchub.accounts.model import AccountView
    from synchub.connector_kit.contract import Connector, LevelsClient
    from synchub.connector_kit.events import StockEvent
    from synchub.connector_kit.http import PlatformHttp
    from synchub.lua import Executes
    from synchub.settings import Settings


async def count_due(redis: Executes, account: AccountView) -> int:
    """How many items of the account are due to be fetched."""
    return await store.count_due(redis, MerchantKeys(account.merchant), account.name, now_ms=now_ms())


async def oldest_due_ms(redis: Executes, account: AccountView) -> int:
    """When the item that waits longest was to be fetched; 0: none waits."""
    return await store.oldest_due_ms(redis, MerchantKeys(account.merchant), account.name)


async def is_free(redis: Executes, account: AccountView) -> bool:
    """Whether nobody is fetching for the account, and no pause is on."""
    return not await store.is_leased(redis, MerchantKeys(account.merchant), account.name)


async def wish_sweep(redis: Executes, merchant: str, account: str) -> None:
    """Have everything that the account has read page by page, from the beginning. Repeatable.

    Raises:
        OutcomeUnknown, StoreUnavailable: it may not have been taken.
    """
    await store.wish(redis, merchant, account, store.SWEEP, at_ms=now_ms())


async def fetch_due(
    redis: Executes, account: AccountView, connector: Connector, http: PlatformHttp, settings: Settings
) -> int:
    """Fetch and apply the levels of every item that is due; returns how many were asked for.

    Returns 0 at once when another worker is at it. An item asked for again while it
    is being fetched is fetched again. A crash at any point leaves it on the list.
    After a failure nobody asks the platform until a pause is over. When more items
    wait than ``refetch.items_max`` everything is read page by page instead, if the
    platform offers that; they leave the list as they are read.

    Raises:
        UpstreamThrottled, UpstreamRefused, UpstreamFailed: what remains stays due.
        OutcomeUnknown, StoreUnavailable: likewise.
    """
    if connector.levels_client is None:
        return 0
    keys = MerchantKeys(account.merchant)
    if connector.pages_client and await count_due(redis, account) > settings.refetch.items_max:
        await _wish_once(redis, account, connector.name)
        return 0
    client = connector.levels_client(Access(http=http, credentials=account.credentials))
    async with held(partial(store.take_lease, redis, keys, account.name)) as is_held:
        if not is_held:
            return 0
        try:
            asked = await _fetch_pages(redis, keys, account, connector, client, settings)
        except (UpstreamThrottled, UpstreamRefused, UpstreamFailed) as problem:
            await _pause(redis, keys, account.name, problem, settings)
            raise
        await store.clear_failures(redis, keys, account.name)
        return asked


async def _wish_once(redis: Executes, account: AccountView, platform: str) -> None:
    """Wish for everything, unless that is under way; then what is due leaves the list with it."""
    state = (await store.read_polls(redis, account.merchant)).get(account.name)
    if state and (state.is_sweeping or state.sweep_wished_ms > state.sweep_ms):
        return
    metrics.refetch_overflows.labels(platform).inc()
    await wish_sweep(redis, account.merchant, account.name)


async def _fetch_pages(
    redis: Executes,
    keys: MerchantKeys,
    account: AccountView,
    connector: Connector,
    client: LevelsClient,
    settings: Settings,
) -> int:
    offer = connector.manifest.client
    assert offer is not None  # noqa: S101 - checked by the only caller
    asked = 0
    while items := await store.due_items(
        redis, keys, account.name, now_ms=now_ms(), limit=offer.fetch_levels_max
    ):
        started_ms = now_ms()
        events = await _count_call(connector.name, client.fetch_levels(items))
        await stock.apply_read(
            redis, keys, events, account=account.name, started_ms=started_ms, settings=settings
        )
        await store.strike_off(redis, keys, account.name, items, started_ms=started_ms)
        asked += len(items)
    return asked


async def _count_call(platform: str, call: Awaitable[tuple[StockEvent, ...]]) -> tuple[StockEvent, ...]:
    try:
        events = await call
    except (UpstreamThrottled, UpstreamRefused, UpstreamFailed) as problem:
        kind = "failed"
        if isinstance(problem, UpstreamThrottled | UpstreamRefused):
            kind = "throttled" if isinstance(problem, UpstreamThrottled) else "refused"
        metrics.poll_requests.labels(platform, kind).inc()
        raise
    metrics.poll_requests.labels(platform, "ok").inc()
    return events


async def _pause(
    redis: Executes, keys: MerchantKeys, account: str, problem: Fault, settings: Settings
) -> None:
    """Wait as long as the platform says, otherwise longer with every failure in a row."""
    failures = await store.count_failure(redis, keys, account)
    refetch = settings.refetch
    pause_s = float(problem.retry_after_s or 0) or full_jitter_s(
        failures, base_s=refetch.backoff_base_ms / 1000, max_s=refetch.backoff_max_ms / 1000
    )
    await store.pause(redis, keys, account, ttl_ms=int(pause_s * 1000))
