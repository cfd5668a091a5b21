"""What the lanes of one process share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from synchub.errors import Fault
from synchub.redis import LOST

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from synchub.agents.model import Agent
    from synchub.kit.breaker import Limits
    from synchub.lua import Executes
    from synchub.settings import Settings
    from synchub.subscriptions.model import SealedSecret, Subscription
    from synchub.subscriptions.occurrences import Decisions

TROUBLE: Final = (Fault, RedisError, *LOST)
"""What it means that the store is away."""


class LaneLost(Exception):
    """Another process tells this merchant's subscribers by now, or the subscription is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What the lanes of one process share."""

    redis: Executes
    settings: Settings
    session: aiohttp.ClientSession
    decided: Decisions
    holder_of: Callable[[Subscription], Agent | None]
    """The agent, as long as it has the key that the subscription was made with."""
    opened: Callable[[Subscription, SealedSecret], str]
    """Decrypts a signing secret."""
    owner: str
    """What this process is called in leases."""
    slots: asyncio.Semaphore
    """Requests at once."""
    slots_failing: asyncio.Semaphore
    """Of these, for endpoints that failed last."""
    looks: asyncio.Semaphore
    """Lanes that read what they have missed at once."""
    breaker: Limits
