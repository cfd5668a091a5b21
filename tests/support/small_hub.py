"""The smallest server of holds on one SKU: a dictionary behind HTTP that can lose answers.

It stands in for the hub only where the shoppers themselves are tested.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from tests.support.linearizability import Act, Effect
from tests.support.wait import lasting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_ENDS: Final = {"commit": ("committed", Act.COMMIT), "release": ("released", Act.RELEASE)}
_EVERY_S: Final = 0.01


class SmallHub:
    """``units`` of one SKU; a part of the calls, ``loss``, gets 503 before or no answer after its effect."""

    def __init__(self, *, units: int, loss: float = 0.0, seed: int = 0, oversells: bool = False) -> None:
        self.url = ""
        self.effects: list[Effect] = []
        self.keys: list[str] = []
        self._free = units
        self._live: dict[str, tuple[int, int]] = {}
        self._first: dict[str, tuple[int, dict[str, Any]]] = {}
        self._loss, self._oversells, self._chance = loss, oversells, random.Random(seed)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SmallHub]:
        app = web.Application()
        app.router.add_post("/v1/reservations", self._take)
        app.router.add_post("/v1/reservations/{id}/{verb}", self._take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        reaper = asyncio.create_task(self._reap())
        try:
            yield self
        finally:
            reaper.cancel()
            await asyncio.gather(reaper, return_exceptions=True)
            await runner.cleanup()

    @property
    def free(self) -> int:
        """Units that nobody has."""
        return self._free

    @property
    def live(self) -> int:
        """Holds that have not ended."""
        return len(self._live)

    async def _take(self, request: web.Request) -> web.Response:
        if self._chance.random() < self._loss / 2:
            return web.json_response({"code": "store_unavailable"}, status=503)
        key, body = request.headers["Idempotency-Key"], await request.json()
        self.keys.append(key)
        if key not in self._first:
            verb = request.match_info.get("verb")
            self._first[key] = self._grant(body) if verb is None else self._change(request, verb, body)
        if self._chance.random() < self._loss / 2 and request.transport is not None:
            request.transport.abort()
        status, answer = self._first[key]
        return web.json_response(answer, status=status)

    def _grant(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        units = body["lines"][0]["quantity"]
        if self._free < units and not self._oversells:
            return 200, {"status": "refused", "reason": "insufficient"}
        self._free -= units
        due = _now_ms() + body["ttl_ms"]
        hold = f"epoch.{len(self.effects) + 1}"
        self._live[hold] = units, due
        seq = self._write(Act.GRANT, hold, units)
        return 201, {"id": hold, "status": "held", "seq": seq, "expires_at": _text(due)}

    def _change(self, request: web.Request, verb: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        hold = request.match_info["id"]
        units, due = self._live.get(hold, (0, 0))
        if due <= _now_ms():
            return 410, {"code": "hold_expired"}
        if verb == "renew":
            due = max(due, _now_ms() + body["ttl_ms"])
            self._live[hold] = units, due
            return 200, {"id": hold, "status": "held", "expires_at": _text(due)}
        status, act = _ENDS[verb]
        self._end(hold, act)
        return 200, {"id": hold, "status": status}

    def _end(self, hold: str, act: Act) -> None:
        units, _ = self._live.pop(hold)
        self._free += 0 if act is Act.COMMIT else units
        self._write(act, hold)

    def _write(self, act: Act, hold: str, units: int = 0) -> int:
        seq = len(self.effects) + 1
        self.effects.append(Effect(seq=seq, act=act, hold=hold, units=units, at_ms=_now_ms()))
        return seq

    async def _reap(self) -> None:
        while True:
            for hold, (_, due) in list(self._live.items()):
                if due <= _now_ms():
                    self._end(hold, Act.EXPIRE)
            await lasting(_EVERY_S)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _text(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
