"""A connection that counts among the feed's for as long as a block lasts.

A class and no generator: there are thousands of them, and each generator would keep a frame.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from synchub.feed.model import ByeReason

if TYPE_CHECKING:
    from synchub.feed.model import FeedQuery, Framing
    from synchub.feed.operations import Feed
    from synchub.feed.readers import Reader


class Registration:
    """Registers a connection when it is entered; yields its reader."""

    __slots__ = ("_about", "_ending", "_feed", "_reader", "_set_id")

    def __init__(
        self,
        feed: Feed,
        merchant: str,
        agent: str,
        query: FeedQuery,
        transport: asyncio.Transport,
        framing: Framing,
    ) -> None:
        self._feed = feed
        self._about: tuple[str, str, FeedQuery, asyncio.Transport, Framing] | None = (
            merchant, agent, query, transport, framing,
        )  # fmt: skip
        self._set_id = query.filter.set_id
        self._reader: Reader | None = None
        self._ending: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Reader:
        about, self._about = self._about, None
        assert about is not None  # noqa: S101 - it is entered once
        reader = self._reader = await self._feed.register(*about)
        self._ending = asyncio.get_running_loop().call_later(self._feed.age_s(), reader.end, ByeReason.LIMIT)
        return reader

    async def __aexit__(self, *_: object) -> None:
        if self._ending is not None:
            self._ending.cancel()
        if self._reader is not None:
            self._feed.forget(self._reader, self._set_id)
