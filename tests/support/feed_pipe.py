"""Connections without sockets, whose readers take as much as a test lets them, and a reader that checks.

A :class:`Pipe` behaves as an asyncio transport does: what is not taken piles up, and
``drain`` waits while more than the high-water mark has. :class:`CheckedReader` keeps
the state that a correct client would have and writes down every broken promise.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from synchub.errors import Fault
from synchub.feed.model import Filter, Framing, Mode
from synchub.kit.clock import monotonic_ms

if TYPE_CHECKING:
    from synchub.feed.operations import Feed


class Pipe(asyncio.Transport):
    """A connection in memory."""

    def __init__(self, *, flows: bool = True) -> None:
        super().__init__()
        self.flows = flows
        """Whether everything is taken as soon as it is written."""
        self.taken = bytearray()
        self.most_unsent = 0
        self._unsent = bytearray()
        self._high = 65_536
        self._closed = False
        self._moved = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take it over."""
        if self._closed:
            return
        self._unsent += data
        if self.flows:
            self.take()
        self.most_unsent = max(self.most_unsent, len(self._unsent))

    def take(self, size: int | None = None) -> None:
        """Let the peer read so many bytes, or everything."""
        size = len(self._unsent) if size is None else size
        self.taken += self._unsent[:size]
        del self._unsent[:size]
        self._moved.set()

    def get_write_buffer_size(self) -> int:
        """What has not been taken."""
        return len(self._unsent)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Only the upper one is known here."""
        assert low is None
        self._high = 65_536 if high is None else high

    def is_closing(self) -> bool:
        """Whether it has ended."""
        return self._closed

    def abort(self) -> None:
        """End it."""
        self._closed = True
        self._moved.set()

    def close(self) -> None:
        """End it."""
        self.abort()

    async def drain(self) -> None:
        """Wait until there is room.

        Raises:
            ConnectionResetError: the peer has gone.
        """
        while len(self._unsent) > self._high:
            if self._closed:
                raise ConnectionResetError
            self._moved.clear()
            await self._moved.wait()

    def frames(self) -> list[tuple[str, str | None, dict[str, Any]]]:
        """Cut the whole frames off what was taken: name, position, data."""
        whole, found, rest = bytes(self.taken).rpartition(b"\n\n")
        if not found:
            return []
        self.taken = bytearray(rest)
        frames = []
        for block in whole.decode().split("\n\n"):
            fields = dict(line.split(":", 1) for line in block.split("\n"))
            told = {name: value.removeprefix(" ") for name, value in fields.items()}
            frames.append((told["event"], told.get("id"), json.loads(told["data"])))
        return frames


class CheckedReader:
    """A client that does what ``docs/feed.md`` says, over a :class:`Pipe`, and comes back on demand."""

    def __init__(self, feed: Feed, chosen: Filter, *, mode: Mode = Mode.UPD, agent: str = "shopper") -> None:
        self.feed = feed
        self.chosen = chosen
        self.mode = mode
        self.agent = agent
        self.pipe = Pipe()
        self.items: dict[str, dict[str, Any]] = {}
        self.confirmed: set[str] = set()
        """SKUs of which it may say that they are as old as ``asof`` says."""
        self.seq: int | None = None
        self.rev = 0
        self.settled_rev = 0
        """The revision whose SKUs are all confirmed."""
        self.cursor = ""
        self.broken: list[str] = []
        self.events: list[str] = []
        self._shadow: dict[str, dict[str, Any]] = {}
        self._task: asyncio.Task[None] | None = None

    def connect(self, *, flows: bool = True) -> None:
        """Connect from the last position."""
        self.pipe = Pipe(flows=flows)
        self._task = asyncio.create_task(self._serve(self.pipe, self.cursor))

    async def leave(self) -> None:
        """Cut the connection off."""
        self.read()
        self.pipe.abort()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def is_connected(self) -> bool:
        """Whether the hub still serves it."""
        return self._task is not None and not self._task.done()

    def read(self) -> None:
        """Take in what has arrived."""
        for event, cursor, data in self.pipe.frames():
            self.events.append(event)
            self._take(event, data)
            if cursor is not None:
                self.cursor = cursor

    async def _serve(self, pipe: Pipe, cursor: str) -> None:
        query = self.feed.query(
            self.chosen, bound_ms=500, cursor=cursor, tier="standard", channel=None, mode=self.mode
        )
        with contextlib.suppress(Fault, ConnectionError):
            async with self.feed.registered(
                "acme", self.agent, query, transport=pipe, framing=Framing.SSE_PLAIN
            ) as reader:
                greeting = await self.feed.greet(reader, query, started_ms=monotonic_ms())
                await self.feed.follow(reader, greeting, pipe.drain)

    def _take(self, event: str, data: dict[str, Any]) -> None:
        if event == "hello" and data["resume"] != "replay":
            if data["resume"] == "snapshot" and self.cursor:
                self.broken.append("a snapshot instead of a reset, although a position was given")
            self._drop()
        elif event == "reset":
            self._drop()
        elif event == "snap":
            self._shadow |= {item["sku"]: item for item in data["items"]}
        elif event == "snap_end":
            self._end_snapshot(data)
        elif event == "set":
            self.rev = data["rev"]
            for sku in data["removed"]:
                self.items.pop(sku, None)
                self.confirmed.discard(sku)
        elif event in {"upd", "hb"}:
            self._cover(data)

    def _drop(self) -> None:
        self.items, self.confirmed, self.seq, self._shadow = {}, set(), None, {}

    def _end_snapshot(self, data: dict[str, Any]) -> None:
        shadow, self._shadow = self._shadow, {}
        self.settled_rev = data["rev"]
        if data["scope"] == "all":
            self.items, self.seq, self.rev = shadow, data["seq"], data["rev"]
            self.confirmed = set(shadow)
            return
        if data["rev"] != self.rev:
            self.broken.append(f"the end of revision {data['rev']} in revision {self.rev}")
        for sku, item in shadow.items():
            self._keep(item)
            self.confirmed.add(sku)

    def _cover(self, data: dict[str, Any]) -> None:
        if self.seq is None:
            self.broken.append(f"an update from {data['prev']} before there is a state")
        elif data["prev"] > self.seq:
            self.broken.append(f"an update from {data['prev']} where {self.seq} had been reached")
        if data["rev"] != self.rev:
            self.broken.append(f"an update of revision {data['rev']} in revision {self.rev}")
        self.seq = max(self.seq or 0, data["seq"])
        for item in data.get("items", ()):
            self._keep(item)
        for sku, ver in data.get("inv", ()) if self.mode is Mode.INV else ():
            if sku in self.items and self.items[sku]["ver"] <= ver:
                del self.items[sku]

    def _keep(self, item: dict[str, Any]) -> None:
        known = self.items.get(item["sku"], item)
        if item["ver"] >= known["ver"]:
            self.items[item["sku"]] = item
