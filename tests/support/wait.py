"""Waiting for what must become true, instead of for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DEADLINE_S: Final = 10.0
_PAUSE_S: Final = 0.01


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]],
    *,
    within_s: float = DEADLINE_S,
    what: str = "the condition",
) -> None:
    """Return as soon as ``condition`` holds.

    Raises:
        AssertionError: it did not hold ``within_s`` seconds.
    """
    deadline = time.monotonic() + within_s
    while True:
        answer = condition()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        if time.monotonic() > deadline:
            msg = f"{what} did not come true within {within_s} s"
            raise AssertionError(msg)
        await asyncio.sleep(_PAUSE_S)


def eventually_true(
    condition: Callable[[], bool], *, within_s: float = DEADLINE_S, what: str = "the condition"
) -> None:
    """Do the same where no event loop runs.

    Raises:
        AssertionError: it did not hold ``within_s`` seconds.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            msg = f"{what} did not come true within {within_s} s"
            raise AssertionError(msg)
        time.sleep(_PAUSE_S)


async def lasting(seconds: float) -> None:
    """Let a load or a fault last; never a way to wait for what comes of it."""
    await asyncio.sleep(seconds)


async def a_turn() -> None:
    """Let every task that can go on do so once."""
    await asyncio.sleep(0)
