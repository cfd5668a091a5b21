"""Where platforms post their deliveries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from synchub import metrics
from synchub.connector_kit.manifest import DEFAULT_MAX_BODY_BYTES
from synchub.errors import SynchubError
from synchub.pipeline import accept_delivery
from synchub.web.bodies import read_bytes
from synchub.web.keys import HUB

if TYPE_CHECKING:
    from synchub.hub import Hub


def add_hook_routes(app: web.Application) -> None:
    """Add the platforms' routes; directly, since a sub-application costs the hot path 4 % of its requests."""
    app.router.add_post("/hooks/{account}", receive, name="hooks")
    app.router.add_get("/hooks/{account}", greet, name="hooks_greeting")


async def receive(request: web.Request) -> web.Response:
    """Accept one delivery: 2xx only after it is durable."""
    hub = request.app[HUB]
    name = request.match_info["account"]
    platform = _platform(hub, name)
    try:
        body = await read_bytes(request, _limit(hub, name), timeout_ms=hub.settings.server.body_timeout_ms)
        answer = await accept_delivery(hub, name, request.headers, body, _public_url(hub, request))
    except SynchubError as error:
        metrics.delivery_answered(platform, error.code).inc()
        raise
    metrics.delivery_answered(platform, "accepted").inc()
    if not answer.body:
        return web.Response(status=answer.status)
    return web.Response(status=answer.status, text=answer.body, content_type=answer.content_type)


async def greet(request: web.Request) -> web.Response:  # noqa: ARG001 - the same for every account, known or not
    """Answer a platform that looks whether anybody is there, without saying who."""
    return web.Response(text="This address takes signed deliveries by POST.\n")


def _platform(hub: Hub, account: str) -> str:
    found = hub.directory.find_account(account)
    return found.platform if found else "unknown"


def _limit(hub: Hub, account: str) -> int:
    """Return the connector's limit; the usual one where there is no account, so that none can be found."""
    found = hub.directory.find_account(account)
    connector = hub.connectors.get(found.platform) if found else None
    own = connector.manifest.receive.max_body_bytes if connector else DEFAULT_MAX_BODY_BYTES
    return min(hub.settings.ingress.max_body_bytes, own)


def _public_url(hub: Hub, request: web.Request) -> str:
    base = hub.settings.server.public_url or f"{request.scheme}://{request.host}"
    return base.rstrip("/") + request.raw_path
