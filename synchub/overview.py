"""How everything stands, put together for whoever runs the hub: one look for ``doctor`` and ``/v1/ops``.

Nothing here is kept or decided; each part of the hub knows its own, and this is where they are read side by
side.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synchub import keyspace
from synchub.archive import operations as archive
from synchub.history import operations as history
from synchub.hook_guard import operations as hook_guard
from synchub.ingress import operations as ingress
from synchub.kit.clock import now_ms
from synchub.polling import operations as polling
from synchub.sync_lag import operations as sync_lag
from synchub.upstream import operations as upstream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.accounts.model import AccountView
    from synchub.history.model import Standing
    from synchub.hook_guard.model import GuardState
    from synchub.hub import Hub
    from synchub.ingress.model import Aside
    from synchub.polling.model import PollState
    from synchub.sync_lag.model import AccountSync
    from synchub.upstream.model import UpstreamState


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountOverview:
    """One account: what arrives of it, what is polled, and what its platform lets us do."""

    account: AccountView
    at_ms: int
    """When it was looked at; ages are counted from then."""
    sync: AccountSync | None
    """``None``: nothing has been heard and nothing judged yet."""
    polls: PollState | None
    """``None``: it has never been polled."""
    hooks: GuardState | None
    """``None``: its platform has not been asked about our subscription yet."""
    upstream: UpstreamState
    can_poll: bool
    can_check: bool
    """Its platform says what it is subscribed to, and can reach this hub's public address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantOverview:
    """One merchant's history: where it stands, and how much of it only the store has."""

    merchant: str
    at_ms: int
    standing: Standing
    unarchived: int

    @property
    def is_frozen(self) -> bool:
        """Nothing new is granted at present."""
        return self.standing.frozen_until_ms > self.at_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOverview:
    """What waits between receiver and workers, and what was put aside."""

    at_ms: int
    waiting: int
    oldest_age_ms: int
    workers: int
    dead: Aside
    quarantine: Aside


async def look_at_accounts(hub: Hub, accounts: Sequence[AccountView]) -> tuple[AccountOverview, ...]:
    """Return how these accounts stand, in their order.

    Raises:
        StoreUnavailable, OutcomeUnknown.
    """
    merchants = sorted({account.merchant for account in accounts})
    redis = hub.redis
    synced, polls, guarded, calls = await asyncio.gather(
        sync_lag.read_accounts(redis),
        asyncio.gather(*(polling.read_polls(redis, merchant) for merchant in merchants)),
        asyncio.gather(*(hook_guard.read_guard(redis, merchant) for merchant in merchants)),
        asyncio.gather(*(upstream.read_upstream(redis, account) for account in accounts)),
    )
    polled = dict(zip(merchants, polls, strict=True))
    hooks = dict(zip(merchants, guarded, strict=True))
    at_ms = now_ms()
    return tuple(
        AccountOverview(
            account=account,
            at_ms=at_ms,
            sync=synced.get(account.name),
            polls=polled[account.merchant].get(account.name),
            hooks=hooks[account.merchant].get(account.name),
            upstream=called,
            can_poll=_can_poll(hub, account),
            can_check=_can_check(hub, account),
        )
        for account, called in zip(accounts, calls, strict=True)
    )


def _can_poll(hub: Hub, account: AccountView) -> bool:
    connector = hub.connectors.get(account.platform)
    return connector is not None and polling.can_poll(account, connector)


def _can_check(hub: Hub, account: AccountView) -> bool:
    connector = hub.connectors.get(account.platform)
    if connector is None or connector.hooks_client is None:
        return False
    return hook_guard.is_reached(account, hub.settings)


async def look_at_merchants(hub: Hub, merchants: Sequence[str]) -> tuple[MerchantOverview, ...]:
    """Return how these merchants' histories stand, in their order.

    Raises:
        StoreUnavailable, OutcomeUnknown.
    """
    return tuple(await asyncio.gather(*(_look_at_merchant(hub, merchant) for merchant in merchants)))


async def _look_at_merchant(hub: Hub, merchant: str) -> MerchantOverview:
    standing, unarchived = await asyncio.gather(
        history.read_standing(hub.redis, merchant), archive.count_unarchived(hub.redis, merchant)
    )
    return MerchantOverview(merchant=merchant, at_ms=now_ms(), standing=standing, unarchived=unarchived)


async def look_at_queue(hub: Hub) -> QueueOverview:
    """Return what waits and what was put aside.

    Raises:
        StoreUnavailable, OutcomeUnknown.
    """
    waiting, oldest_age_ms, workers = await ingress.queue_state(hub.client)
    return QueueOverview(
        at_ms=now_ms(),
        waiting=waiting,
        oldest_age_ms=oldest_age_ms,
        workers=workers,
        dead=await ingress.count_aside(hub.client, keyspace.dead_letters()),
        quarantine=await ingress.count_aside(hub.client, keyspace.quarantine()),
    )
