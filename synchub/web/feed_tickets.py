"""``POST /v1/feed/tickets``: tickets for browsers, which cannot send a key."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Final

from multidict import MultiDict
from pydantic import Field

from synchub.agents.model import Scope
from synchub.errors import InvalidRequest
from synchub.feed import tickets
from synchub.web.answers import answer_json
from synchub.web.auth import agent_of
from synchub.web.bodies import Body, Rows, read_body
from synchub.web.keys import HUB

if TYPE_CHECKING:
    from aiohttp import web

    from synchub.hub import Hub
    from synchub.web.feed_query import QueryReader
    from synchub.web.limits import Limits

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]{0,20}://[a-z0-9.\-:\[\]]{1,260}")
_FROM: Final = frozenset({"from"})


class WantedTicket(Body):
    """What the connection shall be for: the parameters of the feed, and which page may open it."""

    sku: Rows[str] = ()
    prefix: str | None = None
    set: str | None = None
    mode: str | None = None
    bound_ms: Annotated[int, Field(ge=0)] | None = None
    from_: Annotated[str | None, Field(alias="from")] = None
    origin: str = ""

    def query(self) -> MultiDict[str]:
        """Return the parameters as they would stand in an address."""
        query = MultiDict([("sku", sku) for sku in self.sku])
        single = {
            "prefix": self.prefix,
            "set": self.set,
            "mode": self.mode,
            "bound_ms": self.bound_ms,
            "from": self.from_,
        }
        for name, value in single.items():
            if value is not None:
                query[name] = str(value)
        return query


class TicketFace:
    """Gives tickets to agents."""

    def __init__(self, hub: Hub, limits: Limits, reader: QueryReader) -> None:
        self._hub = hub
        self._limits = limits
        self._reader = reader

    async def issue(self, request: web.Request) -> web.Response:
        """Check what is asked for as the feed itself would, and give a ticket for it."""
        agent = agent_of(request, Scope.FEED_READ)
        await self._limits.take(agent)
        wanted = await read_body(request, WantedTicket)
        query = wanted.query()
        self._reader.read(query, agent, cursor="", others=_FROM)
        if wanted.origin and not _ORIGIN.fullmatch(wanted.origin):
            msg = "origin must be what a browser calls the page: scheme, host and, if it is special, port."
            raise InvalidRequest(msg)
        ticket = tickets.Ticket(
            merchant=agent.merchant,
            agent=agent.name,
            key_hash=agent.key_hash,
            query=tuple(query.items()),
            origin=wanted.origin,
        )
        hub = request.config_dict[HUB]
        text = await tickets.issue(hub.redis, ticket, hub.settings.feed)
        body = {"ticket": text, "expires_in_ms": hub.settings.feed.ticket_ttl_ms}
        return answer_json(body, status=HTTPStatus.CREATED)
