"""Telling subscribers: the endpoint lanes of this worker, beside arq's jobs.

Not jobs themselves: a lane keeps its order by having one message in hand, and waits for minutes without
holding anything up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.redis import CoalescingRedis
from synchub.subscriptions import operations as subscriptions

if TYPE_CHECKING:
    from synchub.hub import Hub


async def tell_subscribers(hub: Hub) -> None:
    """Tell subscribers what there is to tell, until cancelled."""
    # Pages of a catch-up are large: they must not stand before the hot path's commands.
    redis = CoalescingRedis(hub.settings.redis)
    try:
        await subscriptions.deliver(redis, hub.directory, hub.vault, hub.policies, hub.settings)
    finally:
        await redis.close()
