"""The right to call a platform for one purpose: one worker has it, until seconds after its end."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol

from synchub.errors import Fault
from synchub.kit.tasks import end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LEASE_MS: Final = 5000
_RENEWALS: Final = 4
"""Signs of life per lease."""


class TakesLease(Protocol):
    """Takes or renews one lease; with no time it returns it."""

    async def __call__(self, *, owner: str, ttl_ms: int) -> bool:
        """Say whether the asker has it."""


@asynccontextmanager
async def held(take: TakesLease) -> AsyncIterator[bool]:
    """Hold a lease, renewing it, until the block ends; yields whether it was to be had."""
    owner = secrets.token_hex(8)
    if not await take(owner=owner, ttl_ms=LEASE_MS):
        yield False
        return
    renewing = asyncio.create_task(_renew(take, owner), name="renew-lease")
    try:
        yield True
    finally:
        await end(renewing)
        await take(owner=owner, ttl_ms=0)


async def _renew(take: TakesLease, owner: str) -> None:
    while True:
        await asyncio.sleep(LEASE_MS / _RENEWALS / 1000)
        try:
            await take(owner=owner, ttl_ms=LEASE_MS)
        except Fault:
            continue  # the store is away: nobody else can take it either
