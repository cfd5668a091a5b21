"""Hands changes to a loop that may be slow: of each SKU only the latest waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

    from synchub_client.model import Change


class Changes:
    """An endless iterator; what waits is bounded by the number of SKUs followed."""

    def __init__(self) -> None:
        self._waiting: dict[str, Change] = {}
        self._news = asyncio.Event()
        self._is_over = False
        self._failure: Exception | None = None

    def add(self, changes: Iterable[Change]) -> None:
        """Take changes in; a SKU that still waits keeps its place in the line."""
        for change in changes:
            self._waiting[change.sku] = change
        self._news.set()

    def end(self, failure: Exception | None) -> None:
        """Let the loop end when it has taken what waits, with this exception if there is one."""
        self._is_over, self._failure = True, failure
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        while not self._waiting:
            if self._failure is not None:
                raise self._failure
            if self._is_over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.pop(next(iter(self._waiting)))
