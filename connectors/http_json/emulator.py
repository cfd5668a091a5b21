"""A warehouse with nothing but a JSON address, in each of the four ways such addresses come.

``/stock/sweep`` gives everything in numbered pages, ``/stock/updated?since=`` what changed since a
time, ``/stock/changes?after=`` events by number, ``/stock/delta?token=`` whatever came after a
token that expires. ``/stock?sku=`` gives single SKUs. Nothing is posted.
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Final

from aiohttp import web

from connectors.http_json.mapping import written_time
from connectors.http_json.settings import TimeForm
from synchub.connector_kit.emulated_faults import FaultKind
from synchub.connector_kit.emulation import (
    Bucket,
    Change,
    Emulator,
    Options,
    Outgoing,
    Tokens,
    name_call,
    page_of,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

EVENTS_MAX: Final = 20_000
"""Latest events kept; a position before them is gone."""

TOKEN_LIVES_S: Final = 30.0
PAGE_ROWS: Final = 100
PAGE_ROWS_MAX: Final = 1000
CALLS_AT_ONCE: Final = 20.0
CALLS_PER_S: Final = 10.0
"""More than a modest client ever asks for."""


class HttpJsonEmulator(Emulator):
    """Items and locations go by the merchant's own names."""

    platform: ClassVar[str] = "http_json"
    credentials_needed: ClassVar[tuple[str, ...]] = ()
    is_only_polled: ClassVar[bool] = True

    def __init__(self, options: Options, *, token_lives_s: float = TOKEN_LIVES_S) -> None:
        super().__init__(options)
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_MAX)
        self._changed: dict[tuple[str, str], dict[str, Any]] = {}
        self._tokens = Tokens(live_s=token_lives_s)
        # Numbers must grow over restarts too.
        self._next_id = time.time_ns() // 1000
        self.bucket = Bucket(capacity=CALLS_AT_ONCE, restored_per_s=CALLS_PER_S)
        for item, held in self.levels.items():
            for location, quantity in held.items():
                self._note(item, location, quantity, time.time_ns() // 1000)

    def level_deliveries(self, change: Change) -> list[Outgoing]:
        """Remember the change; nobody is told of it before he asks."""
        self._note(change.item, change.location, change.quantity, change.at_us)
        return []

    def add_routes(self, app: web.Application) -> None:
        """Add the endpoint in its four forms, and one for single SKUs."""
        for path, kind, answer in (
            ("/stock", "items", self._items),
            ("/stock/sweep", "sweep", self._sweep),
            ("/stock/updated", "updated_since", self._updated),
            ("/stock/changes", "event_id", self._changes),
            ("/stock/delta", "opaque", self._delta),
        ):
            app.router.add_get(path, self._guarded(kind, answer))

    def _note(self, item: str, location: str, quantity: int, at_us: int) -> None:
        self._next_id += 1
        row = {
            "id": self._next_id,
            "sku": self.skus[item],
            "warehouse": location,
            "stock": {"available": quantity},
            "updated_at": written_time(at_us, TimeForm.RFC3339),
        }
        self._events.append(row)
        # The newest change stands last, so the table is ordered by time and number.
        self._changed.pop((item, location), None)
        self._changed[item, location] = row

    def _guarded(
        self, kind: str, answer: Callable[[web.Request], dict[str, Any]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            name_call(request, kind)
            wanted = self.options.credentials.get("auth_header", "")
            if wanted and request.headers.get("Authorization") != wanted:
                return web.json_response({"error": "who are you?"}, status=401)
            wait_s = self.bucket.take()
            limits = {
                "RateLimit-Limit": str(int(self.bucket.capacity)),
                "RateLimit-Remaining": str(int(self.bucket.remaining)),
            }
            if wait_s:
                return web.Response(status=429, headers={**limits, "Retry-After": str(math.ceil(wait_s))})
            return web.json_response(answer(request), headers=limits)

        return handle

    def _items(self, request: web.Request) -> dict[str, Any]:
        wanted = set(request.query.getall("sku", []))
        return {"data": {"rows": [row for row in self._changed.values() if row["sku"] in wanted]}}

    def _sweep(self, request: web.Request) -> dict[str, Any]:
        page = int(request.query.get("page", "1"))
        # In a fixed order, so that pages neither repeat nor leave out what changes meanwhile.
        rows = [self._changed[key] for key in sorted(self._changed)]
        limit = _limit(request)
        return {"data": {"rows": page_of(rows, (page - 1) * limit, limit)[0]}}

    def _updated(self, request: web.Request) -> dict[str, Any]:
        since, after = request.query.get("since", ""), int(request.query.get("after_id", "0"))
        rows = [
            row
            for row in self._changed.values()
            if row["updated_at"] > since or (row["updated_at"] == since and row["id"] > after)
        ]
        if self.shows(FaultKind.GAP):
            rows = []
        return {"data": {"rows": page_of(rows, 0, _limit(request))[0]}}

    def _changes(self, request: web.Request) -> dict[str, Any]:
        after = int(request.query.get("after", "0"))
        if after and after < self._events[0]["id"] - 1:
            raise web.HTTPGone(text='{"error": "these events are no longer kept"}')
        rows = [row for row in self._events if row["id"] > after]
        return {"data": {"rows": page_of(rows, 0, _limit(request))[0]}}

    def _delta(self, request: web.Request) -> dict[str, Any]:
        token = request.query.get("token", "")
        after = self._tokens.read(token) if token else 0
        if after is None:
            raise web.HTTPGone(text='{"error": "token_expired"}')
        rows = [row for row in self._changed.values() if row["id"] > after]
        page, more = page_of(rows, 0, _limit(request))
        reached = _reached(page, after)
        next_page = self._tokens.issue(reached) if more is not None else None
        ends = {"next": next_page} if next_page else {"token": self._tokens.issue(reached)}
        return {"data": {"rows": page}, **ends}


def _limit(request: web.Request) -> int:
    return min(PAGE_ROWS_MAX, int(request.query.get("limit", str(PAGE_ROWS))))


def _reached(rows: Sequence[dict[str, Any]], before: int) -> int:
    return max(before, *(int(row["id"]) for row in rows), before)


if __name__ == "__main__":
    run(HttpJsonEmulator)
