"""Requests written byte by byte, for callers that no HTTP library would imitate."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATIENCE_S: Final = 5.0


class Caller:
    """One connection; the test decides what is sent and when."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def send(self, data: bytes) -> None:
        """Put bytes on the wire."""
        self._writer.write(data)

    async def end(self) -> None:
        """Say that no more will come."""
        await self._writer.drain()
        self._writer.write_eof()

    async def status(self) -> int:
        """Read the head of the answer and return its status; 0 when the connection is closed instead."""
        async with asyncio.timeout(_PATIENCE_S):
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                head = await self._reader.readuntil(b"\r\n\r\n")
                return int(head.split(b" ", 2)[1])
        return 0

    async def read_exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        async with asyncio.timeout(_PATIENCE_S):
            return await self._reader.readexactly(size)

    async def is_closed(self) -> bool:
        """Read to the end and say whether it came without a byte."""
        async with asyncio.timeout(_PATIENCE_S):
            try:
                return not await self._reader.read(1)
            except OSError:
                return True


def head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    """A request's head as it stands on the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a body sent in chunks; an empty one ends it."""
    return b"%x\r\n%s\r\n" % (len(data), data)
