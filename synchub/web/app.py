"""The whole HTTP face: one application for each kind of caller, and the probes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from synchub.web.feed import feed_app
from synchub.web.health import add_health_routes
from synchub.web.hooks import add_hook_routes
from synchub.web.keys import HUB
from synchub.web.limits import Limits, limit_reads
from synchub.web.merchants import merchants_app
from synchub.web.problems import problems
from synchub.web.reservations import reservations_app
from synchub.web.restoring import add_restore_route
from synchub.web.stock import stock_app

if TYPE_CHECKING:
    from synchub.hub import Hub


def build_app(hub: Hub) -> web.Application:
    """Mount everything that the api process serves."""
    app = web.Application(middlewares=[problems])
    app[HUB] = hub
    add_hook_routes(app)
    limits = Limits(hub)
    app.add_subapp("/v1/stock/", limit_reads(stock_app(hub), limits))
    reservations = reservations_app(hub, limits)
    add_restore_route(reservations)
    app.add_subapp("/v1/reservations", reservations)
    app.add_subapp("/v1/merchant/", merchants_app(hub))
    app.add_subapp("/v1/", feed_app(hub))
    add_health_routes(app)
    return app


def build_probes(hub: Hub) -> web.Application:
    """Mount only the probes and numbers, for processes that serve nobody."""
    app = web.Application(middlewares=[problems])
    app[HUB] = hub
    add_health_routes(app)
    return app
