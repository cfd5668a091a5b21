"""``GET /v1/feed``: the feed as Server-Sent Events.

aiohttp checks the request and writes the head; from then on frames go straight to
the transport with their chunk marks already around them, which aiohttp does not
notice: each is a whole chunk, and the last one, of length 0, is aiohttp's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import HttpVersion11, web

from synchub.agents.model import Scope
from synchub.connector_kit.payloads import identifier
from synchub.errors import InvalidRequest, PayloadRefused
from synchub.feed.model import Filter, Framing
from synchub.kit.clock import monotonic_ms
from synchub.web.auth import agent_of
from synchub.web.keys import HUB
from synchub.web.terms import channel_of

if TYPE_CHECKING:
    import asyncio

    from synchub.feed.model import FeedQuery
    from synchub.feed.operations import Feed
    from synchub.hub import Hub

_HEAD: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    # Frames must not wait in a proxy: the first keeps it from compressing, the second from buffering.
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
_KNOWN: Final = frozenset({"sku", "prefix", "mode", "bound_ms", "from"})
_DIGITS_MAX: Final = 9
_CURSOR_MAX: Final = 200


class Follows(Protocol):
    """Whose connection it is; the key tells both."""

    @property
    def merchant(self) -> str:
        """The merchant whose stock the agent may follow."""

    @property
    def name(self) -> str:
        """The agent."""

    @property
    def tier(self) -> str:
        """What kind of agent it is."""

    @property
    def channels(self) -> frozenset[str]:
        """Channels it may ask for; empty: any."""


class Identifies(Protocol):
    """Finds out who asks, from the request's key alone."""

    def __call__(self, request: web.Request, *scopes: Scope) -> Follows:
        """Return the caller.

        Raises:
            KeyUnknown, NotAllowed: no caller with these scopes.
        """


def feed_app(hub: Hub) -> web.Application:
    """Build the application for those who follow."""
    app = feed_application(hub.feed, agent_of, skus_max=hub.settings.feed.skus_max)
    app[HUB] = hub
    return app


def feed_application(feed: Feed, identify: Identifies, *, skus_max: int) -> web.Application:
    """Build it of its parts.

    The server must run with ``handler_cancellation=True``: a handler waits without
    reading, so nothing else would tell it that its client has gone.
    """
    app = web.Application()
    face = _FeedFace(feed, identify, skus_max)
    app.router.add_get("/feed", face.stream, name="feed", allow_head=False)
    return app


class _FeedFace:
    def __init__(self, feed: Feed, identify: Identifies, skus_max: int) -> None:
        self._feed = feed
        self._identify = identify
        self._skus_max = skus_max

    async def stream(self, request: web.Request) -> web.StreamResponse:
        started_ms = monotonic_ms()
        agent = self._identify(request, Scope.FEED_READ)
        query = self._query(request, agent)
        # Kept now because the request forgets it as soon as the client has gone.
        transport = _transport(request)
        framing = Framing.SSE_CHUNKED if request.version >= HttpVersion11 else Framing.SSE_PLAIN
        response = web.StreamResponse(headers=_HEAD)
        # The hub ends a feed only to have its reader connect anew, perhaps to another process.
        response.force_close()
        with self._feed.seat(agent.merchant, agent.name):
            async with self._feed.registered(
                agent.merchant, agent.name, query, transport=transport, framing=framing
            ) as reader:
                greeting = await self._feed.greet(reader, query, started_ms=started_ms)
                await response.prepare(request)
                await self._feed.follow(reader, greeting, request.writer.drain)
        return response

    def _query(self, request: web.Request, agent: Follows) -> FeedQuery:
        unknown = sorted(set(request.query) - _KNOWN)
        if unknown:
            msg = f"The feed takes {', '.join(sorted(_KNOWN))}, not {', '.join(unknown)[:100]}."
            raise InvalidRequest(msg)
        if request.query.get("mode", "upd") != "upd":
            msg = "mode must be upd."
            raise InvalidRequest(msg)
        skus = [_name(sku, "sku") for sku in request.query.getall("sku", [])]
        prefix = request.query.get("prefix", "")
        if len(skus) > self._skus_max:
            msg = f"A feed may name at most {self._skus_max} SKUs."
            raise InvalidRequest(msg)
        if skus and prefix:
            msg = "Name SKUs or a prefix, not both."
            raise InvalidRequest(msg)
        # The header is what an EventSource has reached since it was given the address.
        cursor = request.headers.get("Last-Event-ID") or request.query.get("from", "")
        return self._feed.query(
            Filter(skus=frozenset(skus), prefix=_name(prefix, "prefix") if prefix else ""),
            bound_ms=_bound(request),
            cursor=cursor[:_CURSOR_MAX],
            tier=agent.tier,
            channel=channel_of(agent.channels, None),
        )


def _bound(request: web.Request) -> int | None:
    text = request.query.get("bound_ms")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > _DIGITS_MAX:
        msg = "bound_ms must be a whole number of milliseconds."
        raise InvalidRequest(msg)
    return int(text)


def _name(value: str, what: str) -> str:
    try:
        return identifier(value, what)
    except PayloadRefused as problem:
        raise InvalidRequest(problem.detail) from None


def _transport(request: web.Request) -> asyncio.Transport:
    transport = request.transport
    if transport is None:
        msg = "The client has gone."
        raise ConnectionResetError(msg)
    return transport
