"""One connection to the feed on a bare socket: a request goes out, frames come in.

Written from ``docs/feed.md``, HTTP/1.1 and RFC 6455 alone, so that nothing of the hub's
own client can hide a fault of the hub. What the hub sends to many readers alike is
understood once for all of them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD_END: Final = b"\r\n\r\n"
_TEXT: Final = 0x81
_CLOSE: Final = 0x88
_MEDIUM: Final = 126
_LARGE: Final = 127
_REMEMBERED: Final = 4096


class Frame(NamedTuple):
    """One frame, however it was carried."""

    event: str
    id: str | None
    data: dict[str, Any]


class Line(asyncio.Protocol):
    """A connection from its request to its end; ``told`` gets every frame."""

    def __init__(self, request: bytes, told: Callable[[Frame], None], *, is_socket: bool) -> None:
        self.lost = asyncio.Event()
        self.status = 0
        """Of the answer; 0: none came."""
        self.fault = ""
        """What was no answer, no chunk or no frame."""
        self.asked_ms = 0
        """The machine's monotonic clock just before the request was sent."""
        self.heard_at = time.monotonic()
        self._request = request
        self._told = told
        self._taken = self._take_messages if is_socket else self._take_chunks
        self._expected = 101 if is_socket else 200
        self._unread = bytearray()
        self._text = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = cast("asyncio.Transport", transport)
        self.heard_at = time.monotonic()
        self.asked_ms = time.monotonic_ns() // 1_000_000
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Cut whole frames off and tell them."""
        self.heard_at = time.monotonic()
        self._unread += data
        try:
            if self.status or self._has_head():
                self._taken()
        except (ValueError, KeyError, IndexError) as problem:
            self.fault = f"{type(problem).__name__}: {problem}"
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let whoever waits go on."""
        del exc
        self.lost.set()

    def cut(self) -> None:
        """End it without a word; nothing is told any more."""
        self._told = _deaf
        if self._transport is not None:
            self._transport.abort()

    def _has_head(self) -> bool:
        head, found, rest = bytes(self._unread).partition(_HEAD_END)
        if not found:
            return False
        self.status = int(head.split(b" ", 2)[1])
        self._unread = bytearray(rest)
        if self.status != self._expected:
            self.cut()
        return self.status == self._expected

    def _take_chunks(self) -> None:
        unread, start = self._unread, 0
        while (end := unread.find(b"\r\n", start)) >= 0:
            size = int(unread[start:end], 16)
            if len(unread) < end + 2 + size + 2:
                break
            self._text += unread[end + 2 : end + 2 + size]
            start = end + 2 + size + 2
        del unread[:start]
        while (end := self._text.find(b"\n\n")) >= 0:
            block = bytes(self._text[:end])
            del self._text[: end + 2]
            self._told(event_of(block))

    def _take_messages(self) -> None:
        unread = self._unread
        while len(unread) >= 2:
            size, start = unread[1], 2
            if size in {_MEDIUM, _LARGE}:
                start = 4 if size == _MEDIUM else 10
                if len(unread) < start:
                    return
                size = int.from_bytes(unread[2:start])
            if len(unread) < start + size:
                return
            kind, message = unread[0], bytes(unread[start : start + size])
            del unread[: start + size]
            if kind == _TEXT:
                self._told(message_of(message))
            elif kind == _CLOSE:
                self.cut()
                return
            else:
                msg = f"a WebSocket frame that begins with {kind:#x}"
                raise ValueError(msg)


def request_of(port: int, query: str, key: str, cursor: str, *, is_socket: bool) -> bytes:
    """Ask for the feed, from a position if there is one."""
    lines = [f"Host: 127.0.0.1:{port}", f"Authorization: Bearer {key}"]
    path = "/v1/feed"
    if is_socket:
        path += "/ws"
        query += f"&from={quote(cursor, safe='')}" if cursor else ""
        secret = base64.b64encode(os.urandom(16)).decode()
        lines += [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {secret}",
        ]
    elif cursor:
        lines.append(f"Last-Event-ID: {cursor}")
    return "\r\n".join([f"GET {path}?{query} HTTP/1.1", *lines, "", ""]).encode()


@lru_cache(_REMEMBERED)
def event_of(block: bytes) -> Frame:
    """Read one server-sent event; its data belongs to all who got it and must not be changed."""
    fields = {}
    for line in block.decode().split("\n"):
        name, _, value = line.partition(":")
        fields[name] = value.removeprefix(" ")
    return Frame(fields["event"], fields.get("id"), json.loads(fields["data"]))


@lru_cache(_REMEMBERED)
def message_of(message: bytes) -> Frame:
    """Read one WebSocket message."""
    data = json.loads(message)
    return Frame(data.pop("event"), data.pop("id", None), data)


def _deaf(frame: Frame) -> None:
    """Tell nobody."""
