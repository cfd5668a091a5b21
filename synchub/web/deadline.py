"""``Request-Timeout-Ms``: the answer comes within the caller's time, or says what is not known.

A question that runs out of time has changed nothing; a write may have been done,
so its caller repeats it with the same idempotency key.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from functools import wraps
from typing import TYPE_CHECKING, Final

from synchub.errors import InvalidRequest, OutcomeUnknown, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADER: Final = "Request-Timeout-Ms"
LEAST_MS: Final = 10
MOST_MS: Final = 60_000
_MARGIN: Final = 0.1
_MARGIN_MAX_MS: Final = 5
"""Kept for writing the answer: a tenth of the time given, and no more than this."""


class Effect(Enum):
    """What may have happened when time runs out."""

    READ = auto()
    WRITE = auto()


def in_time(effect: Effect) -> Callable[[Handler], Handler]:
    """Make a handler answer within the time that its request gives it; without the header, as it does.

    Raises:
        InvalidRequest: the header is no number of milliseconds from 10 to 60,000.
        StoreUnavailable, OutcomeUnknown: time ran out, in a read or in a write.
    """

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def timed(request: web.Request) -> web.StreamResponse:
            given_ms = time_given_ms(request.headers.getall(HEADER, ()))
            if given_ms is None:
                return await handler(request)
            limit = asyncio.timeout(usable_ms(given_ms) / 1000)
            try:
                async with limit:
                    return await handler(request)
            except TimeoutError:
                if not limit.expired():
                    raise
            raise _too_late(effect, given_ms)

        return timed

    return decorate


def time_given_ms(headers: list[str] | tuple[str, ...]) -> int | None:
    """Read the header; None when it is not there.

    Raises:
        InvalidRequest: it does not fit, or stands there twice.
    """
    if not headers:
        return None
    text = headers[0]
    is_number = len(headers) == 1 and text.isascii() and text.isdigit() and len(text) <= len(str(MOST_MS))
    if not is_number or not LEAST_MS <= int(text) <= MOST_MS:
        msg = f"{HEADER} must be one whole number of milliseconds from {LEAST_MS} to {MOST_MS}."
        raise InvalidRequest(msg)
    return int(text)


def usable_ms(given_ms: int) -> float:
    """Return how long a handler may take so that its answer still leaves in time."""
    return given_ms - min(_MARGIN_MAX_MS, given_ms * _MARGIN)


def _too_late(effect: Effect, given_ms: int) -> OutcomeUnknown | StoreUnavailable:
    if effect is Effect.WRITE:
        msg = f"Not finished within {given_ms} ms; it may or may not happen. Repeat it with the same key."
        return OutcomeUnknown(msg, retry_after_s=1)
    msg = f"No answer within {given_ms} ms; nothing was changed. Ask again, or give it more time."
    return StoreUnavailable(msg, retry_after_s=1)
