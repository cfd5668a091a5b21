"""``GET /v1/changes``: the feed for those who ask again and again, each answer complete in itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.agents.model import Scope
from synchub.errors import CursorTooOld, InvalidRequest
from synchub.feed import changes
from synchub.feed.rules import heartbeat_ms
from synchub.kit.clock import monotonic_ms
from synchub.web.answers import answer_json
from synchub.web.auth import agent_of
from synchub.web.deadline import HEADER, time_given_ms
from synchub.web.feed_query import number

if TYPE_CHECKING:
    from aiohttp import web

    from synchub.feed.changes import Page
    from synchub.hub import Hub
    from synchub.web.feed_query import QueryReader
    from synchub.web.limits import Limits

_OWN: Final = frozenset({"since", "limit", "wait_ms"})
_SINCE_MAX: Final = 2000
_ANSWER_MS: Final = 200
"""Kept of a caller's time for reading and writing when the wait is over; at most half of it."""


class ChangesFace:
    """Answers polls."""

    def __init__(self, hub: Hub, limits: Limits, reader: QueryReader) -> None:
        self._feed = hub.feed
        self._settings = hub.settings.feed
        self._limits = limits
        self._reader = reader

    async def poll(self, request: web.Request) -> web.Response:
        """Tell what has changed after ``since``, or without it the first page of everything."""
        started_ms = monotonic_ms()
        agent = agent_of(request, Scope.FEED_READ)
        await self._limits.take(agent)
        query = self._reader.read(request.query, agent, cursor="", others=_OWN)
        limit = self._limit(request)
        until_ms = started_ms + self._wait_ms(request, query.bound_ms)
        since = request.query.get("since", "")[:_SINCE_MAX]
        with self._feed.seat(agent.merchant, agent.name):
            async with self._feed.waiting(agent.merchant, agent.name, query) as waiter:
                try:
                    page = await self._feed.poll(waiter, since, limit=limit, until_ms=until_ms)
                except CursorTooOld:
                    metrics.feed_polls.labels("too_old").inc()
                    raise
                # The key may have been revoked, or show something else by now.
                if agent_of(request, Scope.FEED_READ) != agent:
                    msg = "What this key may see has changed; begin anew without since."
                    raise CursorTooOld(msg)
                body = changes.body(page, waiter.lens, started_ms=started_ms, bound_ms=query.bound_ms)
        metrics.feed_polls.labels(_outcome(page)).inc()
        return answer_json(body)

    def _limit(self, request: web.Request) -> int:
        most = self._settings.snapshot_part
        limit = number(request.query, "limit")
        if limit is not None and not 1 <= limit <= most:
            msg = f"limit is 1 to {most}."
            raise InvalidRequest(msg)
        return limit or most

    def _wait_ms(self, request: web.Request, bound_ms: int) -> int:
        """Return how long to wait: what is asked, within what is granted, in the caller's time."""
        waits = [number(request.query, "wait_ms") or 0, self._settings.wait_max_ms]
        if "bound_ms" in request.query:
            waits.append(heartbeat_ms(bound_ms))
        given_ms = time_given_ms(request.headers.getall(HEADER, ()))
        if given_ms is not None:
            waits.append(given_ms - min(_ANSWER_MS, given_ms // 2))
        return min(waits)


def _outcome(page: Page) -> str:
    if page.part is not None:
        return "snapshot"
    return "changed" if page.changed or page.has_more else "unchanged"
