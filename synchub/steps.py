"""What every script that changes a merchant's state is told: the time, and how long it remembers."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from synchub.redis import RUN, CoalescingRedis

if TYPE_CHECKING:
    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.redis import Part
    from synchub.settings import Settings

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS


def memory_args(settings: Settings) -> dict[str, Part]:
    """Return how long sales and holds are remembered."""
    return {
        "settle_memory_ms": settings.stock.settle_memory_hours * HOUR_MS,
        "remember_ms": settings.reservations.remember_hours * HOUR_MS,
    }


def step_args(keys: MerchantKeys, *, now_ms: int, settings: Settings) -> dict[str, Part]:
    """Return what every script that changes a merchant's state begins with."""
    return {
        "tag": keys.tag,
        "run": RUN,
        "now_ms": now_ms,
        "clock_kind": settings.stock.clock,
        "epoch_if_new": new_epoch(),
    }


def saw(redis: Executes, keys: MerchantKeys, epoch: bytes | None, seq: bytes | None) -> None:
    """Have the client remember how far the merchant's history was in an answer of the store."""
    if epoch and isinstance(redis, CoalescingRedis):
        redis.saw(keys.merchant, epoch.decode(), int(seq or 0))


def new_epoch() -> str:
    """Return 96 random bits as text: the name of one unbroken history."""
    return secrets.token_urlsafe(12)
