"""The whole HTTP face: what is asked most, an application for each other kind of caller, and probes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from synchub.web.feed import feed_app
from synchub.web.feed_sets import sets_app
from synchub.web.health import add_health_routes
from synchub.web.hooks import add_hook_routes
from synchub.web.keys import HUB
from synchub.web.limits import LIMITS, Limits
from synchub.web.merchants import merchants_app
from synchub.web.ops import ops_app
from synchub.web.problems import problems
from synchub.web.reservations import add_reservation_routes
from synchub.web.restoring import add_restore_route
from synchub.web.stock import add_stock_routes
from synchub.web.subscriptions import subscriptions_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.hub import Hub


def build_app(hub: Hub) -> web.Application:
    """Mount everything that the api process serves."""
    app = web.Application(middlewares=[problems])
    app[HUB] = hub
    hub.arrivals.receives = True
    add_hook_routes(app)
    app[LIMITS] = Limits(hub)
    add_stock_routes(app)
    add_restore_route(app)
    add_reservation_routes(app)
    app.add_subapp("/v1/merchant/", merchants_app(hub))
    app.add_subapp("/v1/ops/", ops_app(hub))
    app.add_subapp("/v1/feed/sets", sets_app(hub))
    app.add_subapp("/v1/subscriptions", subscriptions_app(hub))
    app.add_subapp("/v1/", feed_app(hub, app[LIMITS]))
    add_health_routes(app, serves_without_store=True)
    app.cleanup_ctx.append(_ready_for_absence)
    return app


async def _ready_for_absence(app: web.Application) -> AsyncIterator[None]:
    """Keep what is needed to answer while the store is away, for as long as the application is served."""
    async with app[HUB].authority.ready():
        yield


def build_probes(hub: Hub) -> web.Application:
    """Mount only the probes and numbers, for processes that serve nobody."""
    app = web.Application(middlewares=[problems])
    app[HUB] = hub
    add_health_routes(app)
    return app
