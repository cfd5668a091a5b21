"""Reads Server-Sent Events from bytes that arrive in pieces of any size.

The pieces' borders mean nothing: a line end of two bytes may be torn apart. What has
not been ended is bounded, so a hub gone wrong cannot fill the memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synchub_client.errors import ProtocolBroken

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENT_BYTES_MAX: Final = 64 * 1024 * 1024
"""More than a replay of 50,000 SKUs needs, which is one frame."""
_END: Final = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """One event."""

    name: str
    data: bytes
    id: str
    """The position, where this very event brings one; an earlier event's is not repeated."""


class SseParser:
    """Turns pieces into events, after the WHATWG's "interpreting an event stream"."""

    def __init__(self, *, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._max = event_bytes_max
        self._unended = bytearray()
        self._looked = 0
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._id = ""
        self._is_start = True

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that this piece completes.

        Raises:
            ProtocolBroken: an event, or a line of it, is longer than any may be.
        """
        self._unended += piece
        for line in self._lines():
            event = self._take(line)
            if event is not None:
                yield event
        if len(self._unended) + self._size > self._max:
            msg = f"an event has more than {self._max} bytes"
            raise ProtocolBroken(msg)

    def _lines(self) -> Iterator[bytes]:
        """Take whole lines off the buffer; a carriage return at its very end may be half a line end."""
        start, text = 0, self._unended
        while (found := _END.search(text, max(start, self._looked))) is not None:
            if found.end() == len(text) and found.group() == b"\r":
                break
            line = bytes(text[start : found.start()])
            start = found.end()
            yield line
        del text[:start]
        self._looked = max(0, len(text) - 1)

    def _take(self, line: bytes) -> Event | None:
        if self._is_start:
            self._is_start = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._end()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value) + 1
        elif name == b"event":
            self._name = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
        return None

    def _end(self) -> Event | None:
        name, data, position = self._name, self._data, self._id
        self._name, self._data, self._id, self._size = "", [], "", 0
        return Event(name or "message", b"\n".join(data), position) if data else None
