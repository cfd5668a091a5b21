"""One request to an endpoint, and what its answer means.

Only the status counts. Of the answer's body so much is read as lets the connection be used again, and never
more than :data:`BODY_MAX_BYTES`; it is kept nowhere.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import aiohttp

from synchub.kit.clock import monotonic_ms, wall_ms
from synchub.kit.outbound import AddressRefused
from synchub.subscriptions.model import Outcome, Reply
from synchub.subscriptions.rules import outcome_of, retry_after_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

BODY_MAX_BYTES: Final = 65_536
BODY_WAIT_S: Final = 1.0
"""An answer whose body takes longer has been given all the same; its connection is closed."""


async def send(
    session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str], *, timeout_ms: int
) -> Reply:
    """Post a body to an address and return what came of it; nothing that an endpoint does is an error."""
    started_ms = monotonic_ms()
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            answer = await session.post(
                url, data=body, headers=headers, allow_redirects=False, timeout=_NO_TIMEOUT
            )
    except TimeoutError:
        return Reply(outcome=Outcome.TIMED_OUT, took_ms=monotonic_ms() - started_ms)
    except (aiohttp.ClientError, OSError, ValueError) as problem:
        return Reply(outcome=_why(problem), took_ms=monotonic_ms() - started_ms)
    took_ms = monotonic_ms() - started_ms
    await _finish(answer)
    asked = answer.headers.get("Retry-After", "")
    outcome = outcome_of(answer.status, has_retry_after=bool(asked))
    return Reply(
        outcome=outcome,
        status=answer.status,
        retry_after_ms=0 if outcome is Outcome.DELIVERED else retry_after_ms(asked, wall_ms()),
        took_ms=took_ms,
    )


async def _finish(answer: aiohttp.ClientResponse) -> None:
    """Read a short body to its end, so that the connection can be used again; close it otherwise."""
    left = BODY_MAX_BYTES
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            while left >= 0 and answer.status != HTTPStatus.SWITCHING_PROTOCOLS:
                part = await answer.content.readany()
                left -= len(part)
                if not part:
                    answer.release()
                    return
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass  # the status has been told, and the rest is of no interest
    answer.close()


def _why(problem: Exception) -> Outcome:
    cause = problem.os_error if isinstance(problem, aiohttp.ClientConnectorError) else problem
    return Outcome.FORBIDDEN if isinstance(cause, AddressRefused) else Outcome.UNREACHABLE


_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
