"""Reads a stream of server-sent events from raw bytes, however they were cut.

The readers of a run keep what arrived with the moment of its arrival and decode it afterwards, so that
parsing 50 streams does not compete with the hub for the processor while latency is being measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import orjson

MAX_HEAD_BYTES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One event of the feed: its name, its position and the data line as sent."""

    event: str
    id: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a frame says: it covers (prev, seq] and shows these (SKU, available) pairs."""

    prev: int
    seq: int
    items: tuple[tuple[str, int], ...]


class StreamRefusedError(Exception):
    """The answer is not a stream of events."""


class FrameDecoder:
    """One HTTP answer, fed in pieces; gives the events that each piece completes."""

    def __init__(self) -> None:
        self._raw = bytearray()
        self._text = bytearray()
        self._in_body = False
        self._chunked = False
        self._chunk_left = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes.

        Raises:
            StreamRefusedError: the answer's status is not 200, or its head has no end.
        """
        self._raw += data
        if not self._in_body and not self._read_head():
            return []
        self._read_body()
        return self._take_frames()

    def _read_head(self) -> bool:
        end = self._raw.find(b"\r\n\r\n")
        if end < 0:
            if len(self._raw) > MAX_HEAD_BYTES:
                msg = "the answer's head has no end"
                raise StreamRefusedError(msg)
            return False
        head = bytes(self._raw[:end])
        if head[9:12] != b"200":
            raise StreamRefusedError(head.partition(b"\r\n")[0].decode("latin-1"))
        self._chunked = b"transfer-encoding: chunked" in head.lower()
        self._in_body = True
        del self._raw[: end + 4]
        return True

    def _read_body(self) -> None:
        if not self._chunked:
            self._text += self._raw
            self._raw.clear()
            return
        while self._raw:
            if not self._chunk_left and not self._read_chunk_size():
                return
            # The two bytes after a chunk's data are its line end; they are counted in and cut off again.
            take = min(self._chunk_left, len(self._raw))
            data_left = max(0, self._chunk_left - 2)
            self._text += self._raw[: min(take, data_left)]
            self._chunk_left -= take
            del self._raw[:take]

    def _read_chunk_size(self) -> bool:
        end = self._raw.find(b"\r\n")
        if end < 0:
            return False
        self._chunk_left = int(self._raw[:end].partition(b";")[0], 16) + 2
        del self._raw[: end + 2]
        return True

    def _take_frames(self) -> list[Frame]:
        frames = []
        *complete, rest = self._text.split(b"\n\n")
        if complete:
            frames = [frame for block in complete if (frame := parse_frame(bytes(block))) is not None]
            self._text = bytearray(rest)
        return frames


def parse_frame(block: bytes) -> Frame | None:
    """Read one block of ``field: value`` lines; None for a comment or a block without data."""
    event, position, data = "message", "", []
    for line in block.split(b"\n"):
        name, _, value = line.rstrip(b"\r").partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            event = value.decode()
        elif name == b"id":
            position = value.decode()
        elif name == b"data":
            data.append(value)
    return Frame(event=event, id=position, data=b"\n".join(data)) if data else None


@lru_cache(maxsize=65_536)
def read_state(data: bytes) -> State:
    """Read a frame's data. All readers of one filter get the same bytes, so most are read once."""
    body = orjson.loads(data)
    items = tuple((item["sku"], item["available"]) for item in body.get("items", ()))
    return State(prev=body.get("prev", -1), seq=body.get("seq", -1), items=items)
