"""The client of ``docs/feed.md``, as it stands there, against a hub: it is right or it does not answer."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from synchub.feed.model import ByeReason
from tests.support.deliveries import body_of, level
from tests.support.hub import running_hub
from tests.support.pages import saved_files
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartValkey
    from tests.support.hub import Site


@contextlib.asynccontextmanager
async def following(site: Site, bound_ms: int = 1000) -> AsyncIterator[Any]:
    """The documented client in a thread, as its text asks for."""
    names: dict[str, Any] = {}
    text = saved_files("docs/feed.md")["client.py"]
    exec(compile(text, "client.py", "exec"), names)  # noqa: S102 - our own page
    stock = names["Stock"](site.url, site.merchant.key, bound_ms)
    task = asyncio.create_task(asyncio.to_thread(stock.run))
    try:
        yield stock
    finally:
        # A good-bye that asks nobody back ends the thread, as soon as it is connected.
        while not task.done():
            for agent in site.hub.directory.agents():
                site.hub.feed.dismiss(agent.merchant, agent.name)
            await asyncio.sleep(0.01)
        await task


def knows(stock: Any, sku: str, available: int) -> bool:
    try:
        item = stock.get(sku)
    except LookupError:
        return False
    return item is not None and item["available"] == available


async def test_it_learns_the_present_and_then_every_change(redis_url: str) -> None:
    async with running_hub(redis_url) as site:
        await site.post(body_of(level("TEE", 12), sequence=1))
        await site.drained()
        async with following(site) as stock:
            await eventually(lambda: knows(stock, "TEE", 12), what="the present")
            await site.post(body_of(level("TEE", 3), sequence=2))
            await eventually(lambda: knows(stock, "TEE", 3), what="the change")
            assert stock.get("NOBODY-HAS-IT") is None


async def test_it_does_not_answer_before_it_knows_and_goes_on_after_an_interruption(redis_url: str) -> None:
    async with running_hub(redis_url) as site:
        await site.post(body_of(level("TEE", 12), sequence=1))
        await site.drained()
        async with following(site) as stock:
            await eventually(lambda: knows(stock, "TEE", 12))
            cursor = stock.cursor
            [agent] = site.hub.directory.agents()
            assert site.hub.feed.dismiss(agent.merchant, agent.name, ByeReason.LIMIT) == 1
            await site.post(body_of(level("TEE", 4), sequence=2))
            await eventually(lambda: knows(stock, "TEE", 4))
            assert stock.cursor != cursor


async def test_it_falls_silent_while_the_hub_cannot_read_its_store(own_valkey: StartValkey) -> None:
    server = own_valkey()
    async with running_hub(server.url) as site:
        await site.post(body_of(level("TEE", 12), sequence=1))
        await site.drained()
        async with following(site, bound_ms=500) as stock:
            await eventually(lambda: knows(stock, "TEE", 12))
            server.freeze()
            try:
                await eventually(lambda: not knows(stock, "TEE", 12), what="silence")
                with pytest.raises(LookupError):
                    stock.get("TEE")
            finally:
                server.thaw()
            await eventually(lambda: knows(stock, "TEE", 12), what="speech")
