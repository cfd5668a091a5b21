"""A hub that says what a test tells it to, connection by connection."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.support.wait import lasting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Act = Callable[["Wire"], Awaitable[None]]


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Refusal(Exception):
    """Says no in place of a stream."""

    def __init__(self, answer: web.Response) -> None:
        super().__init__()
        self.answer = answer


@dataclass
class Wire:
    """One connection of a client, which may be told anything."""

    request: web.Request
    response: web.StreamResponse

    async def say(self, event: str, position: str | None = None, /, **fields: Any) -> None:
        """Send a frame."""
        head = f"event: {event}\n" + ("" if position is None else f"id: {position}\n")
        await self.write(f"{head}data: {json.dumps(fields)}\n\n".encode())

    async def write(self, data: bytes) -> None:
        """Send bytes."""
        with contextlib.suppress(ConnectionError):
            await self.response.write(data)

    async def hello(self, resume: str = "snapshot", *, retry_ms: int = 20) -> None:
        """Greet."""
        granted = {"hb_ms": 200, "bound_ms": 500}
        await self.say("hello", epoch="e", head=9, st=now_ms(), resume=resume, retry_ms=retry_ms, **granted)

    async def snapshot(self, *items: dict[str, Any], seq: int = 1) -> None:
        """Send everything."""
        await self.say("snap", part=0, items=items)
        await self.say("snap_end", f"e:{seq}:m", seq=seq, asof=now_ms(), scope="all", rev=1)

    async def tell(self, prev: int, seq: int, *items: dict[str, Any]) -> None:
        """Send changes."""
        await self.say("upd", f"e:{seq}:m", prev=prev, seq=seq, asof=now_ms(), rev=1, items=items)

    async def beat(self, seq: int, times: int = 10_000) -> None:
        """Send heartbeats until the client leaves."""
        for _ in range(times):
            await self.tell(seq, seq)
            await lasting(0.1)


@dataclass
class ScriptedHub:
    """What happens on the first connection, on the second, and so on; the last repeats."""

    acts: list[Act]
    cursors: list[str] = field(default_factory=list)
    """With which position each connection came."""
    asked: list[str] = field(default_factory=list)
    """Which SKUs were asked for."""
    answers: list[web.Response] = field(default_factory=list)
    """Told to questions, in order; the last repeats."""
    came_at: list[float] = field(default_factory=list)
    url: str = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedHub]:
        """Serve."""
        app = web.Application()
        app.router.add_get("/v1/feed", self._feed)
        app.router.add_get("/v1/stock/{sku:.+}", self._stock)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()

    async def _feed(self, request: web.Request) -> web.StreamResponse:
        self.came_at.append(time.monotonic())
        self.cursors.append(request.headers.get("Last-Event-ID", ""))
        act = self.acts[min(len(self.cursors), len(self.acts)) - 1]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.force_close()
        wire = Wire(request, response)
        try:
            await act(wire)
        except Refusal as refusal:
            return refusal.answer
        return response

    async def _stock(self, request: web.Request) -> web.Response:
        self.asked.append(request.match_info["sku"])
        told = self.answers[min(len(self.asked), len(self.answers)) - 1]
        return web.Response(status=told.status, body=told.body, headers=told.headers)


def item(sku: str = "TEE", ver: int = 1, available: int = 5) -> dict[str, Any]:
    """An item as the hub writes it."""
    about = {"as_of": None, "source": None, "degraded": False}
    return {"sku": sku, "ver": ver, "state": "IN_STOCK", "available": available, **about}


def starting(act: Act) -> Act:
    """Begin the stream before the act."""

    async def whole(wire: Wire) -> None:
        await wire.response.prepare(wire.request)
        await act(wire)

    return whole
