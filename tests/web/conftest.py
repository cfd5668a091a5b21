"""A shop with ten units, and an agent that may hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.buyers import Buyer, Shop, open_shop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def shop(redis_url: str) -> AsyncIterator[Shop]:
    """A merchant whose time stands still, without stock."""
    async with open_shop(redis_url) as one:
        yield one


@pytest.fixture
async def buyer(shop: Shop) -> Buyer:
    """An agent of the shop, which has ten units of ``TEE`` by now."""
    await shop.has(10)
    return await shop.buyer()
