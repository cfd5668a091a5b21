"""Fetch what is due: one account at a time, coalesced per item, inside the platform's rate.

Only the holder of an account's lease calls its platform, so any number of
workers share one rate. A lease outlives its holder by seconds, not by a job
queue's idea of a time-out; while a platform fails, a pause holds the lease.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.connector_kit.contract import Access
from synchub.errors import Fault, UpstreamFailed, UpstreamRefused, UpstreamThrottled
from synchub.keyspace import MerchantKeys
from synchub.kit.backoff import full_jitter_s
from synchub.kit.clock import now_ms
from synchub.kit.tasks import end
from synchub.polling import store
from synchub.stock import operations as stock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from synchub.accounts.model import AccountView
    from synchub.connector_kit.contract import Client, Connector
    from synchub.connector_kit.events import StockEvent
    from synchub.connector_kit.http import PlatformHttp
    from synchub.lua import Executes
    from synchub.settings import Settings

LEASE_MS: Final = 5000
_RENEWALS: Final = 4
"""Signs of life per lease."""


async def count_due(redis: Executes, account: AccountView) -> int:
    """How many items of the account are due to be fetched."""
    return await store.count_due(redis, MerchantKeys(account.merchant), account.name, now_ms=now_ms())


async def is_free(redis: Executes, account: AccountView) -> bool:
    """Whether nobody is fetching for the account, and no pause is on."""
    return not await store.is_leased(redis, MerchantKeys(account.merchant), account.name)


async def fetch_due(
    redis: Executes, account: AccountView, connector: Connector, http: PlatformHttp, settings: Settings
) -> int:
    """Fetch and apply the levels of every item that is due; returns how many were asked for.

    Returns 0 at once when another worker is at it. An item asked for again while it
    is being fetched is fetched again. A crash at any point leaves it on the list.
    After a failure nobody asks the platform until a pause is over.

    Raises:
        UpstreamThrottled, UpstreamRefused, UpstreamFailed: what remains stays due.
        OutcomeUnknown, StoreUnavailable: likewise.
    """
    if connector.client is None or connector.manifest.client is None:
        return 0
    keys = MerchantKeys(account.merchant)
    client = connector.client(Access(http=http, credentials=account.credentials))
    async with _lease(redis, keys, account.name) as held:
        if not held:
            return 0
        try:
            asked = await _fetch_pages(redis, keys, account, connector, client, settings)
        except (UpstreamThrottled, UpstreamRefused, UpstreamFailed) as problem:
            await _pause(redis, keys, account.name, problem, settings)
            raise
        await store.clear_failures(redis, keys, account.name)
        return asked


async def _fetch_pages(
    redis: Executes,
    keys: MerchantKeys,
    account: AccountView,
    connector: Connector,
    client: Client,
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
        await asyncio.sleep(1 / offer.calls_per_second)
    return asked


async def _count_call(platform: str, call: Awaitable[tuple[StockEvent, ...]]) -> tuple[StockEvent, ...]:
    try:
        events = await call
    except (UpstreamThrottled, UpstreamRefused, UpstreamFailed) as problem:
        kind = type(problem).__name__.removeprefix("Upstream").lower()
        metrics.poll_requests.labels(platform, kind).inc()
        raise
    metrics.poll_requests.labels(platform, "ok").inc()
    return events


@asynccontextmanager
async def _lease(redis: Executes, keys: MerchantKeys, account: str) -> AsyncIterator[bool]:
    """Hold the account's lease, renewing it, until the block ends; yields whether it was to be had."""
    owner = secrets.token_hex(8)
    if not await store.take_lease(redis, keys, account, owner=owner, ttl_ms=LEASE_MS):
        yield False
        return
    renewing = asyncio.create_task(_renew(redis, keys, account, owner), name="renew-lease")
    try:
        yield True
    finally:
        await end(renewing)
        await store.return_lease(redis, keys, account, owner=owner)


async def _renew(redis: Executes, keys: MerchantKeys, account: str, owner: str) -> None:
    while True:
        await asyncio.sleep(LEASE_MS / _RENEWALS / 1000)
        try:
            await store.take_lease(redis, keys, account, owner=owner, ttl_ms=LEASE_MS)
        except Fault:
            continue  # the store is away: nothing can be fetched for anybody


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
