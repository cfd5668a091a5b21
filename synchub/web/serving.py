"""Running an application on a socket: limits on slow callers, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web

from synchub import metrics
from synchub.errors import Misconfigured
from synchub.kit.clock import monotonic_ms
from synchub.web.problems import problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.settings import ServerSettings

_BACKLOG: Final = 4096
_HEAD_ENDS: Final = (b"\r\n\r\n", b"\n\n")
_TAIL: Final = 3
_LAG_EVERY_S: Final = 0.5


class HeadTimeout(asyncio.Protocol):
    """Closes a connection whose first request head does not arrive in time.

    aiohttp would wait for ever. Once the head is complete this protocol steps
    aside and costs nothing more; later heads on the connection are covered by
    the keep-alive time.
    """

    def __init__(self, inner: asyncio.Protocol, timeout_s: float) -> None:
        self._inner = inner
        self._timeout_s = timeout_s
        self._tail = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock."""
        # A stream server gives no other kind; uvloop's is none by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._cut_off)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass the bytes on and look for the end of the head."""
        seen = self._tail + data
        if any(end in seen for end in _HEAD_ENDS):
            self._stop()
            if self._transport is not None:
                self._transport.set_protocol(self._inner)
        else:
            self._tail = seen[-_TAIL:]
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._stop()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()

    def _cut_off(self) -> None:
        metrics.header_timeouts.inc()
        if self._transport is not None:
            self._transport.abort()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class ProblemHandler(web.RequestHandler):
    """Answers requests that are no HTTP with a problem document too, repeating nothing of them."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the signature is aiohttp's
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - the signature is aiohttp's
        message: str | None = None,  # noqa: ARG002 - the signature is aiohttp's
    ) -> web.StreamResponse:
        """Return the answer and let the connection end."""
        detail = "The request is not well-formed HTTP." if status < HTTPStatus.INTERNAL_SERVER_ERROR else ""
        answer = problem("invalid_request" if detail else "internal", status, detail)
        answer.force_close()
        return answer


@contextlib.asynccontextmanager
async def serving(app: web.Application, settings: ServerSettings) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port. Several processes may share one port.

    Raises:
        Misconfigured: the address cannot be listened on.
    """
    options: dict[str, Any] = {
        "access_log": None,
        "keepalive_timeout": settings.keepalive_ms / 1000,
        "auto_decompress": False,
    }
    runner = web.AppRunner(
        app, handler_cancellation=True, shutdown_timeout=settings.drain_ms / 1000, **options
    )
    await runner.setup()
    listener = _listen(settings.host, settings.port)
    manager = runner.server
    assert manager is not None  # noqa: S101 - set up just above
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: HeadTimeout(ProblemHandler(manager, loop=loop, **options), settings.header_timeout_ms / 1000),
        sock=listener,
        backlog=_BACKLOG,
    )
    watch = asyncio.create_task(_watch_loop(), name="event-loop-lag")
    try:
        yield listener.getsockname()[1]
    finally:
        watch.cancel()
        server.close()
        await runner.cleanup()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError as problem:
        msg = f"Cannot listen on {host}:{port}: {problem.strerror}."
        raise Misconfigured(msg) from problem
    listener.settimeout(0)
    return listener


async def _watch_loop() -> None:
    while True:
        due = monotonic_ms() + _LAG_EVERY_S * 1000
        await asyncio.sleep(_LAG_EVERY_S)
        metrics.event_loop_lag.observe(max(0, monotonic_ms() - due) / 1000)
