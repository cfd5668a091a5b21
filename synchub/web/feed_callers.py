"""Who opens a connection to the feed: whoever has a key, or a ticket that was given for one.

A key stands in a header and is looked up in memory. A ticket stands in the address, because
browsers can send no header with an ``EventSource`` or a ``WebSocket``; it is taken out of the
store, so the same address never opens a second connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from multidict import MultiDict

from synchub.agents.model import Scope
from synchub.errors import InvalidRequest, KeyUnknown, NotAllowed, StoreUnavailable
from synchub.feed import tickets

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from aiohttp import web
    from multidict import MultiMapping

    from synchub.hub import Hub
    from synchub.web.feed_query import Follows

_BESIDE_TICKET: Final = frozenset({"ticket", "from"})


class Identifies(Protocol):
    """Finds out who asks, from the request's key alone."""

    def __call__(self, request: web.Request, *scopes: Scope) -> Follows:
        """Return the caller.

        Raises:
            KeyUnknown, NotAllowed: no caller with these scopes.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeemed:
    """What a ticket was good for."""

    ticket: tickets.Ticket
    find: Callable[[], Follows]
    """Return the agent that asked for it, if its key still allows to follow."""


class Redeems(Protocol):
    """Takes tickets."""

    async def __call__(self, text: str) -> Redeemed:
        """Take one, once.

        Raises:
            KeyUnknown: there is no such ticket any more.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who opens a connection, and what for."""

    agent: Follows
    params: MultiMapping[str]
    find: Callable[[], Follows]
    """Look the agent up again."""
    origin: str = ""
    """The page that may read the answer, if it is another site's."""

    def confirm(self) -> None:
        """Return when nothing has changed about the agent since it was looked up, some awaits ago.

        A change after a connection is registered ends it; one before has found nothing to end.

        Raises:
            KeyUnknown, NotAllowed: it may not follow any more.
            StoreUnavailable: it may follow, and see something else.
        """
        if self.find() != self.agent:
            msg = "What this key may see has just changed; connect again."
            raise StoreUnavailable(msg, retry_after_s=1)


class Callers:
    """Lets those in who may follow."""

    def __init__(self, identify: Identifies, redeem: Redeems | None) -> None:
        self._identify = identify
        self._redeem = redeem

    async def admit(self, request: web.Request) -> Caller:
        """Return who asks and with which parameters.

        Raises:
            KeyUnknown: neither a known key nor a ticket that can be used.
            NotAllowed: the key lacks the scope, or the ticket is another page's.
            InvalidRequest: a ticket beside parameters that it has of its own.
            StoreUnavailable, OutcomeUnknown: the ticket could not be looked up.
        """
        text = request.query.get("ticket")
        if text is None or self._redeem is None or "Authorization" in request.headers:
            return self.by_key(request)
        if set(request.query) - _BESIDE_TICKET or len(request.query) > len(set(request.query)):
            msg = "A ticket brings its own parameters; only from may stand beside it."
            raise InvalidRequest(msg)
        redeemed = await self._redeem(text)
        params = MultiDict(redeemed.ticket.query)
        if "from" in request.query:
            params["from"] = request.query["from"]
        agent = redeemed.find()
        origin = redeemed.ticket.origin
        check_origin(request, origin)
        return Caller(agent=agent, params=params, find=redeemed.find, origin=origin)

    def by_key(self, request: web.Request) -> Caller:
        """Return who asks by key.

        Raises:
            KeyUnknown, NotAllowed: as :meth:`admit` says.
        """
        agent = self._identify(request, Scope.FEED_READ)
        return Caller(
            agent=agent, params=request.query, find=lambda: self._identify(request, Scope.FEED_READ)
        )


def check_origin(request: web.Request, bound: str) -> None:
    """Return when the page that asks may use a ticket that is bound to an origin.

    A browser names the origin of the page unless it is the hub's own.

    Raises:
        NotAllowed: another page asks, or nobody says which.
    """
    if not bound or request.headers.get("Origin") == bound:
        return
    if "Origin" not in request.headers and urlsplit(bound).netloc == request.host:
        return
    msg = "This ticket is for another page."
    raise NotAllowed(msg)


def transport_of(request: web.Request) -> asyncio.Transport:
    """Return the connection that a request came on.

    Raises:
        ConnectionResetError: it is gone.
    """
    transport = request.transport
    if transport is None:
        msg = "The client has gone."
        raise ConnectionResetError(msg)
    return transport


def redeeming(hub: Hub) -> Redeems:
    """Return what takes the hub's tickets."""

    async def redeem(text: str) -> Redeemed:
        ticket = await tickets.use(hub.redis, text)

        def find() -> Follows:
            agent = hub.directory.find_by_hash(ticket.key_hash)
            if agent is None:
                msg = "The key that this ticket was given for is not known any more."
                raise KeyUnknown(msg)
            if Scope.FEED_READ not in agent.scopes:
                msg = f"The key of this ticket does not have the scope {Scope.FEED_READ}."
                raise NotAllowed(msg)
            return agent

        return Redeemed(ticket=ticket, find=find)

    return redeem
