"""How much agents may ask: every request takes a token, and the store counts them for all processes.

Mostly in the same step in which it answers the request. A refusal is remembered until there can be room
again: until then further requests of the agent are refused here, and the store is not asked. When it cannot
be asked, there is no answer either: nobody is let through uncounted. Questions that go to sources because the
store has been away for long are counted by each process for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from synchub import metrics
from synchub.agents import operations as agents
from synchub.agents.model import Kind
from synchub.agents.rules import rate_of
from synchub.errors import RateLimited
from synchub.kit.clock import monotonic_ms
from synchub.web.auth import find_holder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from synchub.agents.model import Agent, Rate
    from synchub.hub import Hub

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REFUSED_MAX: Final = 10_000
"""Agents whose refusal is remembered; when there are more, remembering begins anew."""

_SECOND_US: Final = 1_000_000
_MILLISECOND_US: Final = 1000


class Limits:
    """Lets requests of agents through as often as they may come."""

    def __init__(self, hub: Hub) -> None:
        self._redis = hub.redis
        self._settings = hub.settings.limits
        self._refused: dict[str, tuple[Rate, float]] = {}
        """Of each agent, under which rate it was refused and when there can be room again."""
        self._here: dict[str, float] = {}
        """Of each agent, up to when its requests are paid for, in µs: only while the store is away."""

    def rate(self, agent: Agent) -> Rate:
        """Return what the agent may ask, for a step of the store that counts the request itself."""
        return rate_of(agent, self._settings)

    async def take(self, agent: Agent) -> None:
        """Count one request, and return when the agent may ask it.

        Raises:
            RateLimited: it may not, and was not counted.
            OutcomeUnknown, StoreUnavailable: the store cannot say.
        """
        self.check(agent)
        wait_us = await agents.take_token(self._redis, agent, self.rate(agent))
        if wait_us:
            raise self.refusal(agent, wait_us)

    def take_here(self, agent: Agent) -> None:
        """Count one request in this process alone, for as long as the store cannot count for all.

        Raises:
            RateLimited: the agent may not ask now, and was not counted.
        """
        self.check(agent)
        rate, now_us = self.rate(agent), monotonic_ms() * _MILLISECOND_US
        paid_us = max(self._here.get(agent.name, 0), now_us)
        wait_us = paid_us - now_us - (rate.burst - 1) * rate.interval_us
        if wait_us > 0:
            raise self.refusal(agent, int(wait_us) + 1)
        if len(self._here) >= REFUSED_MAX:
            self._here.clear()
        self._here[agent.name] = paid_us + rate.interval_us

    def check(self, agent: Agent) -> None:
        """Return unless it is known already that there is no room for a request.

        Raises:
            RateLimited: there is none yet.
        """
        refused = self._refused.get(agent.name)
        if refused is None:
            return
        rate, until_ms = refused
        left_us = int((until_ms - monotonic_ms()) * _MILLISECOND_US)
        if left_us > 0 and rate == self.rate(agent):
            raise _limited(left_us)
        del self._refused[agent.name]

    def refusal(self, agent: Agent, wait_us: int) -> RateLimited:
        """Return the refusal of a request for which there is room in so many µs, and remember it."""
        if len(self._refused) >= REFUSED_MAX:
            self._refused.clear()
        self._refused[agent.name] = (self.rate(agent), monotonic_ms() + wait_us / _MILLISECOND_US)
        return _limited(wait_us)


LIMITS: Final = web.AppKey("limits", Limits)


def limit_writes(app: web.Application, limits: Limits) -> web.Application:
    """Have every request of an agent to this application take a token before anything is done."""
    app[LIMITS] = limits
    app.middlewares.append(_before)
    return app


@web.middleware
async def _before(request: web.Request, handler: Handler) -> web.StreamResponse:
    agent = _agent(request)
    if agent is not None:
        await request.app[LIMITS].take(agent)
    return await handler(request)


def _agent(request: web.Request) -> Agent | None:
    """Whoever else asks is refused by the handler, without touching the store."""
    holder = find_holder(request)
    return holder if holder is not None and holder.kind is Kind.AGENT else None


def _limited(wait_us: int) -> RateLimited:
    metrics.requests_limited.inc()
    msg = "This key has asked as often as it may; wait, and ask for several SKUs at once."
    return RateLimited(msg, retry_after_s=-(-wait_us // _SECOND_US))
