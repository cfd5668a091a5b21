"""Ending background tasks for certain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_ASK_AGAIN_S: Final = 0.2


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks and return when they have ended; their results and failures are dropped.

    A client library may swallow a cancellation that meets it while it connects,
    so one request is not enough.
    """
    remaining = _unfinished(tasks)
    while remaining:
        for task in remaining:
            task.cancel()
        await asyncio.wait(remaining, timeout=_ASK_AGAIN_S)
        remaining = _unfinished(remaining)
    for ended in tasks:
        if ended is not None and not ended.cancelled():
            ended.exception()


def is_ending() -> bool:
    """Say whether the running task has been asked to end.

    Endless loops ask it each time round: before Python 3.12 a client library can
    swallow the cancellation itself, and a task group asks its tasks only once.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _unfinished(tasks: Iterable[asyncio.Task[Any] | None]) -> list[asyncio.Task[Any]]:
    return [task for task in tasks if task is not None and not task.done()]
