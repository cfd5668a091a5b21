"""Stands in for a hub where a benchmark's own honesty is tested: it can lose a change and hold one back."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.abc import AbstractStreamWriter


@dataclass
class FakeHub:
    """Tells every reader what was posted, except the quantities in ``loses``; refuses ``refuses``."""

    loses: frozenset[tuple[str, int]] = frozenset()
    refuses: frozenset[tuple[str, int]] = frozenset()
    base_url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    _levels: dict[str, int] = field(default_factory=dict)
    _seq: int = 0
    _readers: list[web.StreamResponse] = field(default_factory=list)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeHub]:
        app = web.Application()
        app.router.add_post("/hooks/{account}", self._take)
        app.router.add_get("/v1/feed", self._follow)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self._ended.set()
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        change = json.loads(body)["data"]["changes"][0]
        item = change["sku"], int(change["quantity"])
        if item in self.refuses:
            return web.Response(status=503)
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if item not in self.loses:
            await self._tell(*item)
        return web.Response(status=202)

    async def _tell(self, sku: str, quantity: int) -> None:
        self._levels[sku] = quantity
        prev, self._seq = self._seq, self._seq + 1
        frame = _frame("upd", prev=prev, seq=self._seq, items=[{"sku": sku, "available": quantity}])
        for reader in self._readers:
            await reader.write(frame)

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        writer: AbstractStreamWriter | None = await answer.prepare(request)
        assert writer is not None
        items = [{"sku": sku, "available": quantity} for sku, quantity in self._levels.items()]
        seq = self._seq
        self._readers.append(answer)
        await answer.write(_frame("snap", items=items) + _frame("snap_end", seq=seq))
        await self._ended.wait()
        return answer


def _frame(event: str, **data: object) -> bytes:
    return f"event: {event}\nid: e:{data.get('seq', 0)}\ndata: {json.dumps(data)}\n\n".encode()
