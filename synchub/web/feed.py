"""The feed as it is served: ``GET /v1/feed`` as Server-Sent Events, and the addresses beside it.

aiohttp checks the request and writes the head; from then on frames go straight to
the transport with their chunk marks already around them, which aiohttp does not
notice: each is a whole chunk, and the last one, of length 0, is aiohttp's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion11, web

from synchub.feed.model import Framing
from synchub.kit.clock import monotonic_ms
from synchub.web.auth import agent_of
from synchub.web.changes import ChangesFace
from synchub.web.deadline import Effect, in_time
from synchub.web.feed_callers import Callers, Identifies, redeeming, transport_of
from synchub.web.feed_query import QueryReader
from synchub.web.feed_tickets import TicketFace
from synchub.web.feed_ws import SocketFace
from synchub.web.keys import HUB

if TYPE_CHECKING:
    from synchub.feed.operations import Feed
    from synchub.hub import Hub
    from synchub.web.limits import Limits

_HEAD: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    # Frames must not wait in a proxy: the first keeps it from compressing, the second from buffering.
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
_FROM: Final = frozenset({"from"})


def feed_app(hub: Hub, limits: Limits) -> web.Application:
    """Build the application for those who follow."""
    reader = QueryReader(hub.feed, skus_max=hub.settings.feed.skus_max)
    app = _application(hub.feed, Callers(agent_of, redeeming(hub)), reader)
    app[HUB] = hub
    changes = ChangesFace(hub, limits, reader)
    app.router.add_get("/changes", in_time(Effect.READ)(changes.poll), name="changes", allow_head=False)
    app.router.add_post("/feed/tickets", TicketFace(hub, limits, reader).issue, name="feed_tickets")
    return app


def feed_application(feed: Feed, identify: Identifies, *, skus_max: int) -> web.Application:
    """Build what streams, of its parts.

    The server must run with ``handler_cancellation=True``: a handler waits without
    reading, so nothing else would tell it that its client has gone.
    """
    return _application(feed, Callers(identify, None), QueryReader(feed, skus_max=skus_max))


def _application(feed: Feed, callers: Callers, reader: QueryReader) -> web.Application:
    app = web.Application()
    app.router.add_get("/feed", _StreamFace(feed, callers, reader).stream, name="feed", allow_head=False)
    socket = SocketFace(feed, callers, reader)
    app.router.add_get("/feed/ws", socket.converse, name="feed_ws", allow_head=False)
    return app


class _StreamFace:
    def __init__(self, feed: Feed, callers: Callers, reader: QueryReader) -> None:
        self._feed = feed
        self._callers = callers
        self._reader = reader

    async def stream(self, request: web.Request) -> web.StreamResponse:
        started_ms = monotonic_ms()
        # Kept now because the request forgets it as soon as the client has gone.
        transport = transport_of(request)
        caller = await self._callers.admit(request)
        agent = caller.agent
        # The header is what an EventSource has reached since it was given the address.
        cursor = request.headers.get("Last-Event-ID") or caller.params.get("from", "")
        query = self._reader.read(caller.params, agent, cursor=cursor, others=_FROM)
        framing = Framing.SSE_CHUNKED if request.version >= HttpVersion11 else Framing.SSE_PLAIN
        response = web.StreamResponse(headers=_HEAD)
        if caller.origin:
            response.headers["Access-Control-Allow-Origin"] = caller.origin
            response.headers["Vary"] = "Origin"
        # The hub ends a feed only to have its reader connect anew, perhaps to another process.
        response.force_close()
        with self._feed.seat(agent.merchant, agent.name):
            async with self._feed.registered(
                agent.merchant, agent.name, query, transport=transport, framing=framing
            ) as reader:
                caller.confirm()
                greeting = await self._feed.greet(reader, query, started_ms=started_ms)
                await response.prepare(request)
                following = self._feed.follow(reader, greeting, request.writer.drain)
                # Thousands last for an hour: what only their beginning needs is let go.
                del caller, query, greeting
                await following
        return response
