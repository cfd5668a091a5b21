"""A TCP proxy that loses, delays and cuts what passes, on command.

It stands between the hub and its store in one event loop. ``drop_reply_once`` is the
case that matters most: the server has done it, and nobody is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Coroutine

_CHUNK: Final = 65_536
_ABORT: Final = struct.pack("ii", 1, 0)
"""A linger time of zero: closing sends a reset."""


class Proxy:
    """Listens on a loopback port of its own and passes on to another."""

    def __init__(self, to_port: int) -> None:
        self.port = 0
        self.latency_s = 0.0
        """Added to every piece in both directions."""
        self.connections = 0
        """Accepted so far."""
        self._to_port = to_port
        self._listener: asyncio.Server | None = None
        self._sockets: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._dropping = b""
        self._passes = asyncio.Event()
        self._passes.set()

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """What a client of the store is given."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def up(self) -> None:
        """Accept connections, on the same port as before."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Accept nothing and reset what is open."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.reset()

    def reset(self) -> None:
        """Cut every open connection off."""
        for writer in tuple(self._sockets):
            _cut(writer)

    def hole(self) -> None:
        """Swallow everything and say nothing, until ``mend``."""
        self._passes.clear()

    def mend(self) -> None:
        """Pass on again what has arrived meanwhile."""
        self._passes.set()

    def drop_reply_once(self, command: bytes) -> None:
        """Pass the next piece that holds ``command`` on, and cut the connection before its answer."""
        self._dropping = command.lower()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            _cut(writer)
            return
        link = _Link(client=writer, server=to_writer)
        self._sockets |= {writer, to_writer}
        self._run(self._requests(reader, link))
        self._run(self._replies(to_reader, link))

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _requests(self, reader: asyncio.StreamReader, link: _Link) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_CHUNK):
                await self._delay()
                if self._dropping and self._dropping in piece.lower():
                    self._dropping = b""
                    link.is_dropping = True
                link.server.write(piece)
                await link.server.drain()
        self._close(link)

    async def _replies(self, reader: asyncio.StreamReader, link: _Link) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_CHUNK):
                await self._delay()
                if link.is_dropping:
                    break
                link.client.write(piece)
                await link.client.drain()
        self._close(link)

    async def _delay(self) -> None:
        await self._passes.wait()
        if self.latency_s:
            await asyncio.sleep(self.latency_s)

    def _close(self, link: _Link) -> None:
        for writer in (link.client, link.server):
            self._sockets.discard(writer)
            _cut(writer)


class _Link:
    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.is_dropping = False


def _cut(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    writer.transport.abort()
