"""``/v1/feed/sets``: lists of SKUs too long for a query, which readers follow by their id.

A long list is checked in pieces, so that nobody else waits for it.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from pydantic import ValidationError

from synchub.agents.model import Scope
from synchub.connector_kit.payloads import read_json
from synchub.errors import InvalidRequest, PayloadRefused
from synchub.feed import sets
from synchub.keyspace import MerchantKeys
from synchub.web.answers import answer_json
from synchub.web.auth import agent_of
from synchub.web.bodies import Body, Rows, read_bytes, sku_of
from synchub.web.keys import HUB
from synchub.web.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import TypeVar

    from aiohttp.typedefs import Handler, Middleware

    from synchub.feed.sets import SetState
    from synchub.hub import Hub
    from synchub.lua import Executes
    from synchub.settings import Settings
    from synchub.web.feed_callers import Identifies

    _BodyT = TypeVar("_BodyT", bound=Body)
    Counts = Callable[[web.Request], Awaitable[None]]

BODY_MAX_BYTES: Final = 8_388_608
"""Largest body: 50,000 of the longest SKUs there are."""
CHECKED_AT_ONCE: Final = 500
"""SKUs that are checked before others get their turn."""


class NewSet(Body):
    """Body of ``POST /v1/feed/sets``."""

    skus: Rows[str]


class SetChange(Body):
    """Body of ``PATCH /v1/feed/sets/{id}``."""

    add: Rows[str] = ()
    remove: Rows[str] = ()


def sets_app(hub: Hub) -> web.Application:
    """Build the application for those who follow long lists."""
    app = sets_application(hub.redis, hub.settings, agent_of, _counted)
    app[HUB] = hub
    return app


def sets_application(
    redis: Executes, settings: Settings, identify: Identifies, count: Counts | None = None
) -> web.Application:
    """Build it of its parts; ``count`` takes a token for each request."""
    app = web.Application(middlewares=[_counting(count)] if count else [])
    face = _SetsFace(redis, settings, identify)
    app.router.add_post("", face.create)
    app.router.add_get("/{id}", face.show, allow_head=False)
    app.router.add_patch("/{id}", face.change)
    app.router.add_delete("/{id}", face.delete)
    return app


class _SetsFace:
    def __init__(self, redis: Executes, settings: Settings, identify: Identifies) -> None:
        self._redis = redis
        self._limits = settings.feed
        self._timeout_ms = settings.server.body_timeout_ms
        self._identify = identify

    async def create(self, request: web.Request) -> web.Response:
        """Make a set."""
        keys, agent = self._whose(request)
        body = await self._body(request, NewSet)
        state = await sets.create(
            self._redis, keys, agent, await self._checked(body.skus), limits=self._limits
        )
        return answer_json(_told(state), status=HTTPStatus.CREATED)

    async def show(self, request: web.Request) -> web.Response:
        """Answer with a set and its SKUs in order."""
        keys, agent = self._whose(request)
        found = await sets.read(self._redis, keys, agent, request.match_info["id"], limits=self._limits)
        return answer_json(
            {"set": found.set_id, "rev": found.rev, "count": len(found.skus), "skus": sorted(found.skus)}
        )

    async def change(self, request: web.Request) -> web.Response:
        """Add SKUs to a set and remove others."""
        keys, agent = self._whose(request)
        body = await self._body(request, SetChange)
        state = await sets.change(
            self._redis,
            keys,
            agent,
            request.match_info["id"],
            add=await self._checked(body.add),
            remove=await self._checked(body.remove),
            limits=self._limits,
        )
        return answer_json(_told(state))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a set."""
        keys, agent = self._whose(request)
        await sets.delete(self._redis, keys, agent, request.match_info["id"], limits=self._limits)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    def _whose(self, request: web.Request) -> tuple[MerchantKeys, str]:
        agent = self._identify(request, Scope.FEED_READ)
        return MerchantKeys(agent.merchant), agent.name

    async def _body(self, request: web.Request, model: type[_BodyT]) -> _BodyT:
        data = await read_bytes(request, BODY_MAX_BYTES, timeout_ms=self._timeout_ms)
        try:
            return model.model_validate(await asyncio.to_thread(read_json, data))
        except PayloadRefused as refusal:
            raise InvalidRequest(refusal.detail) from None
        except ValidationError:
            fields = " and ".join(model.model_fields)
            msg = f"The body must be an object of {fields}, each a list of SKUs."
            raise InvalidRequest(msg) from None

    async def _checked(self, skus: Sequence[str]) -> list[str]:
        if len(skus) > self._limits.set_skus_max:
            msg = f"A set may have at most {self._limits.set_skus_max} SKUs."
            raise InvalidRequest(msg)
        checked: list[str] = []
        for start in range(0, len(skus), CHECKED_AT_ONCE):
            checked += map(sku_of, skus[start : start + CHECKED_AT_ONCE])
            await asyncio.sleep(0)
        return checked


async def _counted(request: web.Request) -> None:
    await request.config_dict[LIMITS].take(agent_of(request, Scope.FEED_READ))


def _counting(count: Counts) -> Middleware:
    @web.middleware
    async def counting(request: web.Request, handler: Handler) -> web.StreamResponse:
        await count(request)
        return await handler(request)

    return counting


def _told(state: SetState) -> dict[str, Any]:
    return {"set": state.id, "rev": state.rev, "count": state.count}
