"""A TCP proxy with the usual toxics: latency, bandwidth, a black hole, resets, slow closes, another server.

Each direction has toxics of its own, which can be changed while connections last. A
black hole loses nothing, as TCP would not: what was sent arrives once it is mended.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable

_CHUNK: Final = 65_536
_SLICES_PER_S: Final = 50
"""Pieces into which a second's worth of a limited bandwidth is cut."""
_LINGER_NONE: Final = struct.pack("ii", 1, 0)
"""With it, closing sends a reset."""


@dataclass
class Toxics:
    """What is done to one direction."""

    latency_s: float = 0.0
    """Added to every piece."""
    bytes_per_s: int = 0
    """0: as fast as it goes."""
    close_after_s: float = 0.0
    """How much later the end of a stream is passed on."""
    passes: asyncio.Event = field(default_factory=asyncio.Event)
    """Not set: nothing passes."""

    def __post_init__(self) -> None:
        self.passes.set()


class FaultProxy:
    """Listens on a loopback port of its own and passes on to another, which may change."""

    def __init__(self, to_port: int) -> None:
        self.port = 0
        self.requests = Toxics()
        """What goes to the server."""
        self.replies = Toxics()
        self.accepted = 0
        self._to_port = to_port
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """What a client of the store is given."""
        return f"redis://127.0.0.1:{self.port}/0"

    def hole(self) -> None:
        """Let nothing pass in either direction, and say nothing of it."""
        for direction in (self.requests, self.replies):
            direction.passes.clear()

    def mend(self) -> None:
        """Let everything pass again, what was sent meanwhile first."""
        for direction in (self.requests, self.replies):
            direction.passes.set()

    def reset(self) -> None:
        """Cut every connection off with a reset."""
        for writer in tuple(self._open):
            self._cut(writer)

    def turn_to(self, port: int) -> None:
        """Send everybody to another server, as a fail-over does."""
        self._to_port = port
        self.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            self._cut(writer)
            return
        self._open |= {writer, to_writer}
        link = asyncio.gather(
            self._pump(reader, to_writer, self.requests), self._pump(to_reader, writer, self.replies)
        )
        task = asyncio.ensure_future(self._close_after(link, writer, to_writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close_after(self, link: Awaitable[object], *writers: asyncio.StreamWriter) -> None:
        try:
            await link
        finally:
            for writer in writers:
                self._open.discard(writer)
                writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, toxics: Toxics) -> None:
        try:
            while piece := await reader.read(_CHUNK):
                await toxics.passes.wait()
                await asyncio.sleep(toxics.latency_s)
                await _write(writer, piece, toxics)
            await asyncio.sleep(toxics.close_after_s)
            await toxics.passes.wait()
            if not writer.is_closing():  # uvloop has an error for that
                writer.write_eof()
        except OSError:
            self._cut(writer)

    def _cut(self, writer: asyncio.StreamWriter) -> None:
        self._open.discard(writer)
        sock = writer.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        writer.transport.abort()


async def _write(writer: asyncio.StreamWriter, piece: bytes, toxics: Toxics) -> None:
    while piece:
        size = max(1, toxics.bytes_per_s // _SLICES_PER_S) if toxics.bytes_per_s else len(piece)
        writer.write(piece[:size])
        await writer.drain()
        piece = piece[size:]
        if toxics.bytes_per_s:
            await asyncio.sleep(1 / _SLICES_PER_S)
