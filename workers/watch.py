"""Judging silence: every worker is ready to, and a lease decides which of them does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.redis import CoalescingRedis
from synchub.sync_lag.operations import Watcher
from synchub.upstream.model import Operation, Priority

if TYPE_CHECKING:
    from synchub.accounts.model import AccountView
    from synchub.connector_kit.contract import Connector
    from synchub.hub import Hub


async def watch_accounts(hub: Hub) -> None:
    """Judge all accounts, or stand by while another worker does, until cancelled."""

    async def ask(account: AccountView, connector: Connector) -> bool:
        if connector.canary_client is None:
            return False
        access = hub.upstream.access(account, connector, Operation.CANARY, priority=Priority.PROBE)
        return await connector.canary_client(access).ask_canary()

    # What is remembered of many accounts is large: it must not stand before the hot path's commands.
    redis = CoalescingRedis(hub.settings.redis)
    try:
        await Watcher(redis, hub.directory, hub.connectors, hub.settings, ask).run()
    finally:
        await redis.close()
