"""An event for a single waiter.

asyncio's own keeps a queue of waiters, half a kilobyte of it even when it is empty; a feed has
thousands of connections, each of which waits alone.
"""

from __future__ import annotations

import asyncio


class Bell:
    """Wakes whoever waits, as ``asyncio.Event`` does."""

    __slots__ = ("_is_rung", "_waiter")

    def __init__(self) -> None:
        self._is_rung = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Wake the waiter, now or when it begins to wait."""
        self._is_rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        """Have the next wait last until :meth:`set`."""
        self._is_rung = False

    async def wait(self) -> None:
        """Return once it has been set."""
        if self._is_rung:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
