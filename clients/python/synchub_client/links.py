"""Connections to the hub: requests go out, frames come in, refusals become exceptions.

Both kinds carry the same frames. Only a WebSocket can be asked for a new anchor; over
SSE a second connection takes the first one's place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

import aiohttp
import orjson

from synchub_client._version import VERSION
from synchub_client.errors import HubRefused, HubUnavailable, ProtocolBroken
from synchub_client.frames import read_answer, read_frame, read_message
from synchub_client.sse import EVENT_BYTES_MAX, SseParser

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from synchub_client.frames import Answer, Frame

CONNECT_S: Final = 5.0
ANSWER_S: Final = 10.0
"""How long the hub may take to begin an answer."""
PROBLEM_BYTES_MAX: Final = 64 * 1024
ANSWER_BYTES_MAX: Final = 1024 * 1024
_LOST: Final = (aiohttp.ClientError, TimeoutError, OSError)
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_HTTP_OK: Final = 200

Query = list[tuple[str, str]]


Take = Callable[["Frame"], bool]
"""Takes a frame; false when no more are wanted."""


class Connection(Protocol):
    """One open connection."""

    async def read(self, take: Take, silence: Silence) -> None:
        """Hand over frames until the hub closes or no more are wanted.

        Raises:
            HubUnavailable: the connection was lost, or silent for too long.
            ProtocolBroken: what came is no frame.
        """

    async def ask_anchor(self, number: int) -> bool:
        """Ask for a new anchor; return false where the connection cannot."""

    async def close(self) -> None:
        """Cut it."""


class Silence:
    """Ends a wait that lasts longer than a live connection can be silent."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._timeout: asyncio.Timeout | None = None

    def watch(self) -> asyncio.Timeout:
        """Begin to watch."""
        self._timeout = asyncio.timeout(self._longest_s)
        return self._timeout

    def allow(self, longest_s: float) -> None:
        """Be as patient as this from now on."""
        if longest_s != self._longest_s:
            self._longest_s = longest_s
            self.heard()

    def heard(self) -> None:
        """Begin anew, because something has come."""
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._longest_s)


class Hub:
    """The hub's address, as one agent knows it."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}", "User-Agent": f"synchub-client/{VERSION}"}

    async def open_events(self, query: Query, cursor: str) -> Connection:
        """Open the feed as Server-Sent Events.

        Raises:
            HubRefused, HubUnavailable: it was not opened.
        """
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": cursor} if cursor else {})}
        # Only the answer's head has a time limit; the stream is watched by its heartbeats.
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        response = await self._ask("GET", "/v1/feed", headers, query=query, limits=limits)
        if response.content_type != "text/event-stream":
            response.close()
            raise HubRefused(response.status, "not_a_feed", f"{response.content_type} is no event stream")
        return _Events(response)

    async def open_socket(self, query: Query, cursor: str) -> Connection:
        """Open the feed as a WebSocket.

        Raises:
            HubRefused, HubUnavailable: it was not opened.
        """
        asked = [*query, ("from", cursor)] if cursor else query
        try:
            async with asyncio.timeout(CONNECT_S + ANSWER_S):
                socket = await self._session.ws_connect(
                    self._url + "/v1/feed/ws",
                    params=asked,
                    headers=self._headers,
                    max_msg_size=EVENT_BYTES_MAX,
                )
        except aiohttp.WSServerHandshakeError as refusal:
            retry_after = refusal.headers.get("Retry-After") if refusal.headers else None
            raise _refusal(refusal.status, "handshake_refused", "", retry_after) from None
        except _LOST as problem:
            raise HubUnavailable(_named(problem)) from problem
        return _Socket(socket)

    async def ask_stock(self, sku: str) -> Answer:
        """Ask for the present state of one SKU.

        Raises:
            HubRefused, HubUnavailable: there was no answer.
            ProtocolBroken: the answer is none.
        """
        limits = aiohttp.ClientTimeout(total=CONNECT_S + ANSWER_S)
        path = "/v1/stock/" + quote(sku, safe="")
        response = await self._ask("GET", path, {"Accept": "application/json"}, limits=limits)
        try:
            return read_answer(await _body(response, ANSWER_BYTES_MAX))
        except _LOST as problem:
            raise HubUnavailable(_named(problem)) from problem
        finally:
            response.release()

    async def send(self, method: str, path: str, body: Mapping[str, Sequence[str]] | None) -> bytes:
        """Send JSON, or nothing, and return the answer's body.

        Raises:
            HubRefused, HubUnavailable: there was no answer.
        """
        limits = aiohttp.ClientTimeout(total=CONNECT_S + ANSWER_S)
        headers = {} if body is None else {"Content-Type": "application/json"}
        data = None if body is None else orjson.dumps(body)
        response = await self._ask(method, path, headers, limits=limits, data=data)
        try:
            return await _body(response, ANSWER_BYTES_MAX)
        except _LOST as problem:
            raise HubUnavailable(_named(problem)) from problem
        finally:
            response.release()

    async def _ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        limits: aiohttp.ClientTimeout,
        query: Query | None = None,
        data: bytes | None = None,
    ) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout(CONNECT_S + ANSWER_S):
                response = await self._session.request(
                    method,
                    self._url + path,
                    params=query,
                    data=data,
                    headers={**self._headers, **headers},
                    timeout=limits,
                    # A key must not follow a redirection to somewhere else.
                    allow_redirects=False,
                )
        except _LOST as problem:
            raise HubUnavailable(_named(problem)) from problem
        if not response.ok or response.status >= 300:  # noqa: PLR2004 - redirections count as ok there
            raise await _problem(response)
        return response


class _Events:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def read(self, take: Take, silence: Silence) -> None:
        parser = SseParser()
        try:
            async with silence.watch():
                async for piece in self._response.content.iter_any():
                    silence.heard()
                    for event in parser.feed(piece):
                        if not take(read_frame(event.name, event.data, event.id)):
                            return
        except _LOST as problem:
            raise HubUnavailable(_named(problem)) from problem

    async def ask_anchor(self, number: int) -> bool:
        del number
        return False

    async def close(self) -> None:
        # Not released: a stream that is still open cannot be reused.
        self._response.close()


class _Socket:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def read(self, take: Take, silence: Silence) -> None:
        try:
            async with silence.watch():
                async for message in self._socket:
                    silence.heard()
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        msg = "the feed sends text messages only"
                        raise ProtocolBroken(msg)
                    if not take(read_message(message.data)):
                        return
        except _LOST as problem:
            raise HubUnavailable(_named(problem)) from problem

    async def ask_anchor(self, number: int) -> bool:
        try:
            await self._socket.send_str(anchor_request(number))
        except (aiohttp.ClientError, OSError) as problem:
            raise HubUnavailable(_named(problem)) from problem
        return True

    async def close(self) -> None:
        await self._socket.close()


def anchor_request(number: int) -> str:
    """Write the message by which a WebSocket asks for the hub's time; the answer repeats the number."""
    return orjson.dumps({"anchor": number}).decode()


async def _body(response: aiohttp.ClientResponse, most: int) -> bytes:
    body = await response.content.read(most + 1)
    while len(body) <= most and (piece := await response.content.read(most)):
        body += piece
    if len(body) > most:
        msg = f"an answer has more than {most} bytes"
        raise ProtocolBroken(msg)
    return body


async def _problem(response: aiohttp.ClientResponse) -> HubRefused | HubUnavailable:
    """Read a problem document, as far as there is one."""
    code, detail = "", ""
    try:
        async with asyncio.timeout(ANSWER_S):
            document = orjson.loads(await _body(response, PROBLEM_BYTES_MAX))
        if isinstance(document, dict):
            code, detail = str(document.get("code", "")), str(document.get("detail", ""))
    except (*_LOST, orjson.JSONDecodeError, ProtocolBroken):
        pass  # the status says enough
    finally:
        response.close()
    return _refusal(response.status, code, detail, response.headers.get("Retry-After"))


def _refusal(status: int, code: str, detail: str, retry_after: str | None) -> HubRefused | HubUnavailable:
    if status in _BUSY:
        after = float(retry_after) if retry_after is not None and retry_after.isdigit() else None
        return HubUnavailable(f"{status} {code}: {detail}", retry_after_s=after)
    return HubRefused(status, code or "refused", detail)


def _named(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
