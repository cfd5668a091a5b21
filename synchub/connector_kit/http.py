"""The one way out to a platform's API: bounded, without redirects, with typed failures.

Failures name method, host and status, never the path, the query or the answer's
content: credentials and customers' data stand there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import aiohttp
from yarl import URL

from synchub.errors import UpstreamFailed, UpstreamRefused, UpstreamThrottled
from synchub.kit.outbound import AddressRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

DEADLINE_S: Final = 10.0
"""For one call, from the first byte sent to the last one read."""

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Counted after decompression, on bytes read."""

DEFAULT_RETRY_AFTER_S: Final = 2
"""When a platform asks for fewer calls and does not say for how long."""

MAX_RETRY_AFTER_S: Final = 3600

_TOO_SLOW: Final = 408
_TOO_MANY: Final = 429
_UNAVAILABLE: Final = 503


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """A complete 2xx answer; ``headers`` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class PlatformHttp(Protocol):
    """Calls to one platform, with its deadline and size limit already set."""

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        cost: float = 1.0,
        listing: str = "",
    ) -> HttpAnswer:
        """Send one request and return its whole answer.

        ``cost`` is what it takes of the platform's limits, in their unit, at most; ``listing`` is what it
        changes, where that is limited too. A hub's own implementation waits until both allow the call.

        Raises:
            UpstreamThrottled: 429 or 503 with Retry-After.
            UpstreamRefused: any other 4xx but 408, which its ``answered`` names; a private address.
            UpstreamFailed: 408, 5xx, redirects, time-outs, connection failures, oversized answers.
        """


class AiohttpPlatformHttp:
    """``PlatformHttp`` over a shared session, which is to be made with ``trust_env=False``."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        deadline_s: float = DEADLINE_S,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        """Borrow the session; whoever made it closes it."""
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=deadline_s)
        self._max_answer_bytes = max_answer_bytes

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        cost: float = 1.0,  # noqa: ARG002 - for those that count
        listing: str = "",  # noqa: ARG002 - for those that count
    ) -> HttpAnswer:
        """Send one request at once and return its whole answer, as ``PlatformHttp`` says."""
        call = f"{method} to {_host(url)}"
        try:
            async with self._session.request(
                method, url, headers=headers, json=json, timeout=self._timeout, allow_redirects=False
            ) as answer:
                _check_status(call, answer.status, answer.headers)
                body = await self._read(call, answer)
        except TimeoutError as problem:
            msg = f"{call} was not answered in time."
            raise UpstreamFailed(msg) from problem
        except (aiohttp.ClientError, ValueError) as problem:
            if _is_forbidden(problem):
                msg = f"{call} would lead to an address that is not public; see upstream.private_targets."
                raise UpstreamRefused(msg) from None
            msg = f"{call} failed: {type(problem).__name__}."
            # The library's own message repeats the URL.
            raise UpstreamFailed(msg) from None
        kept = {name.lower(): value for name, value in answer.headers.items()}
        return HttpAnswer(status=answer.status, headers=kept, body=body)

    async def _read(self, call: str, answer: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in answer.content.iter_any():
            body += chunk
            if len(body) > self._max_answer_bytes:
                msg = f"{call} was answered with more than {self._max_answer_bytes} bytes."
                raise UpstreamFailed(msg)
        return bytes(body)


def _check_status(call: str, status: int, headers: Mapping[str, str]) -> None:
    if status // 100 == 2:  # noqa: PLR2004 - the 2xx class
        return
    if status == _TOO_MANY or (status == _UNAVAILABLE and "Retry-After" in headers):
        msg = f"{call} was answered with {status}: too many calls."
        raise UpstreamThrottled(msg, retry_after_s=_retry_after_s(headers))
    _refuse_status(f"{call} was answered with {status}.", status)


def _refuse_status(msg: str, status: int) -> NoReturn:
    if status // 100 == 4 and status != _TOO_SLOW:  # noqa: PLR2004 - the 4xx class
        raise UpstreamRefused(msg, answered=status)
    raise UpstreamFailed(msg)


def _retry_after_s(headers: Mapping[str, str]) -> int:
    """Return the seconds asked for; a date counts from the answer's own ``Date``."""
    text = headers.get("Retry-After", "")
    try:
        seconds = float(text)
    except ValueError:
        seconds = _seconds_until(text, headers.get("Date", ""))
    if not 0 <= seconds < math.inf:
        return DEFAULT_RETRY_AFTER_S
    return min(MAX_RETRY_AFTER_S, math.ceil(seconds))


def _seconds_until(then: str, now: str) -> float:
    try:
        return (parsedate_to_datetime(then) - parsedate_to_datetime(now)).total_seconds()
    except (TypeError, ValueError):
        return DEFAULT_RETRY_AFTER_S


def _is_forbidden(problem: Exception) -> bool:
    cause = problem.os_error if isinstance(problem, aiohttp.ClientConnectorError) else problem
    return isinstance(cause, AddressRefused)


def _host(url: str) -> str:
    try:
        return URL(url).host or "nowhere"
    except ValueError:
        return "nowhere"
