"""A keep-alive HTTP/1.1 connection that writes ready-made requests and reads only status and length.

A full client costs several times what the hub spends on a request and would be the first thing to saturate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

OnAnswer = Callable[["Connection", int], None]
"""Called with the status of a whole answer, or 0 when the connection broke before it came."""

_BODILESS = (204, 304)


class Connection(asyncio.Protocol):
    """One request in flight at a time; ``number`` is the sender's mark for that request."""

    __slots__ = ("_buffer", "_busy", "_on_answer", "_transport", "number")

    def __init__(self, on_answer: OnAnswer) -> None:
        self.number = -1
        self._on_answer = on_answer
        self._buffer = b""
        self._busy = False
        self._transport: asyncio.Transport | None = None

    def send(self, number: int, request: bytes) -> None:
        """Write the request and remember its mark."""
        self.number = number
        self._busy = True
        assert self._transport is not None
        self._transport.write(request)

    def close(self) -> None:
        """Hang up; an answer that is owed will not be reported."""
        self._busy = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Collect until the answer is whole."""
        self._buffer = self._buffer + data if self._buffer else data
        if not answer_is_whole(self._buffer):
            return
        status = int(self._buffer[9:12])
        self._buffer = b""
        self._busy = False
        self._on_answer(self, status)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Report the request that will get no answer."""
        self._transport = None
        if self._busy:
            self._busy = False
            self._on_answer(self, 0)

    @property
    def is_open(self) -> bool:
        """Whether a request can be written."""
        return self._transport is not None and not self._transport.is_closing()


async def connect(host: str, port: int, count: int, on_answer: OnAnswer) -> list[Connection]:
    """Open ``count`` connections."""
    loop = asyncio.get_running_loop()
    connections = []
    for _ in range(count):
        _, connection = await loop.create_connection(lambda: Connection(on_answer), host, port)
        connections.append(connection)
    return connections


def answer_is_whole(buffer: bytes) -> bool:
    """Whether the buffer holds a complete answer (with a length, chunked, or without a body)."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = buffer[:end].lower()
    start = head.find(b"content-length:")
    if start >= 0:
        length = int(head[start + 15 :].partition(b"\r\n")[0])
        return len(buffer) >= end + 4 + length
    if b"transfer-encoding: chunked" in head:
        return buffer.endswith(b"0\r\n\r\n")
    return int(buffer[9:12]) in _BODILESS
