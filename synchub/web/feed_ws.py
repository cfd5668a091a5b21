"""``GET /v1/feed/ws``: the feed as WebSocket messages, one JSON object each.

aiohttp shakes hands, reads what the client sends and closes; the feed's own frames go
straight to the transport, as they do for Server-Sent Events. A whole message is one
write, so the two never mix.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from aiohttp import WSCloseCode, WSMsgType, web

from synchub.connector_kit.payloads import read_json
from synchub.errors import InvalidRequest, PayloadRefused
from synchub.feed import frames
from synchub.feed.model import ByeReason, Framing
from synchub.feed.readers import count
from synchub.kit.clock import monotonic_ms
from synchub.kit.tasks import end
from synchub.web.feed_callers import transport_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp import WSMessage

    from synchub.feed.operations import Feed
    from synchub.feed.readers import Reader
    from synchub.web.feed_callers import Callers
    from synchub.web.feed_query import QueryReader

MESSAGE_MAX_BYTES: Final = 65_536
"""Largest message of a client; a longer one ends the connection with 1009."""
MESSAGES_PER_S: Final = 5
MESSAGES_AT_ONCE: Final = 20
"""A client that sends more, pings included, is let go with 1008."""
CLOSE_WITHIN_S: Final = 2.0
"""How long the other side has to answer a close."""
ANCHOR_MAX: Final = 2**53
_REASON_MAX: Final = 120
"""Bytes of a reason beside a close code; the protocol has room for 123."""
_FROM: Final = frozenset({"from"})

_CLOSE_CODES: Final = {
    ByeReason.DRAIN: WSCloseCode.SERVICE_RESTART,
    ByeReason.LIMIT: WSCloseCode.GOING_AWAY,
    ByeReason.SLOW: WSCloseCode.TRY_AGAIN_LATER,
    ByeReason.AUTH: WSCloseCode.POLICY_VIOLATION,
}


class SocketFace:
    """Serves those who follow over a WebSocket."""

    def __init__(self, feed: Feed, callers: Callers, reader: QueryReader) -> None:
        self._feed = feed
        self._callers = callers
        self._reader = reader

    async def converse(self, request: web.Request) -> web.StreamResponse:
        """Send frames and answer requests until either side closes.

        Nobody is refused after the upgrade: what speaks against a connection is a problem document.
        """
        started_ms = monotonic_ms()
        transport = transport_of(request)
        caller = await self._callers.admit(request)
        agent = caller.agent
        query = self._reader.read(caller.params, agent, cursor=caller.params.get("from", ""), others=_FROM)
        socket = _Socket()
        _check_upgrade(request, socket)
        with self._feed.seat(agent.merchant, agent.name):
            async with self._feed.registered(
                agent.merchant, agent.name, query, transport=transport, framing=Framing.WEBSOCKET
            ) as reader:
                caller.confirm()
                greeting = await self._feed.greet(reader, query, started_ms=started_ms)
                socket.before_close = lambda: reader.tail.drop(reader)
                await socket.prepare(request)
                listening = asyncio.create_task(_listen(socket, reader), name="feed-ws")
                try:
                    await self._feed.follow(reader, greeting, request.writer.drain)
                    # Whoever is sent away for taking nothing would not take the close either.
                    await socket.close(code=_close_code(reader), drain=False)
                    await listening
                finally:
                    await end(listening)
        return socket


class _Socket(web.WebSocketResponse):
    """A WebSocket to which nothing is written once its close is under way."""

    def __init__(self) -> None:
        # No compression: the bytes are made once for all readers. Pings are counted before they are answered.
        super().__init__(
            compress=False,
            autoping=False,
            autoclose=True,
            max_msg_size=MESSAGE_MAX_BYTES,
            timeout=CLOSE_WITHIN_S,
        )
        self.before_close: Callable[[], object] = lambda: None

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Have the feed write nothing more, then close."""
        self.before_close()
        return await super().close(code=code, message=message, drain=drain)


class _Allowance:
    """So many messages at once, and then so many a second."""

    def __init__(self) -> None:
        self._left = float(MESSAGES_AT_ONCE)
        self._at_ms = monotonic_ms()

    def take(self) -> bool:
        """Take one; False when there is none."""
        now = monotonic_ms()
        self._left = min(MESSAGES_AT_ONCE, self._left + (now - self._at_ms) * MESSAGES_PER_S / 1000)
        self._at_ms = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


async def _listen(socket: _Socket, reader: Reader) -> None:
    """Read what the client sends until one side closes."""
    allowance = _Allowance()
    try:
        while True:
            message = await socket.receive()
            if message.type in {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR}:
                return
            if not allowance.take():
                await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"too many messages")
                return
            if message.type is WSMsgType.PING:
                await socket.pong(message.data)
            elif message.type is not WSMsgType.PONG and not await _hear(socket, reader, message):
                return
    except ConnectionError:
        return
    finally:
        reader.tail.drop(reader)


async def _hear(socket: _Socket, reader: Reader, message: WSMessage) -> bool:
    """Act on one message; False when it was none that can be understood, and the connection ends."""
    if message.type is not WSMsgType.TEXT:
        await socket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b"messages are JSON text")
        return False
    try:
        request = read_json(message.data.encode())
        _answer(reader, request)
    except PayloadRefused:
        await socket.close(code=WSCloseCode.INVALID_TEXT, message=b"not a JSON object")
    except InvalidRequest as refusal:
        await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=refusal.detail.encode()[:_REASON_MAX])
    else:
        return True
    return False


def _answer(reader: Reader, request: Mapping[str, Any]) -> None:
    """Do what a client asks for; the one place where requests are told apart.

    Raises:
        InvalidRequest: it asks for nothing that there is.
    """
    match request:
        case {"anchor": int(number), **others} if not others and number is not True and number is not False:
            if not 0 <= number <= ANCHOR_MAX:
                msg = "anchor is a number from 0 to 2^53."
                raise InvalidRequest(msg)
            reader.write(frames.anchor(reader.lens, number, monotonic_ms()))
            count("anchor", 1)
        case _:
            msg = 'The only request there is: {"anchor": number}.'
            raise InvalidRequest(msg)


def _check_upgrade(request: web.Request, socket: _Socket) -> None:
    if "Sec-WebSocket-Protocol" in request.headers:
        msg = "There are no subprotocols; leave Sec-WebSocket-Protocol out."
        raise InvalidRequest(msg)
    if not socket.can_prepare(request):
        msg = "This address speaks WebSocket, version 13: send an upgrade request."
        raise InvalidRequest(msg)


def _close_code(reader: Reader) -> WSCloseCode:
    return WSCloseCode.OK if reader.farewell is None else _CLOSE_CODES[reader.farewell]
