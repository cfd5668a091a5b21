"""Where platforms post their deliveries."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from synchub import metrics
from synchub.errors import BodyTooSlow, EncodingRefused, PayloadTooLarge, SynchubError
from synchub.pipeline import accept_delivery
from synchub.web.keys import HUB

if TYPE_CHECKING:
    from synchub.hub import Hub


def hooks_app(hub: Hub) -> web.Application:
    """Build the application for platforms."""
    app = web.Application()
    app[HUB] = hub
    app.router.add_post("/{account}", receive, name="hooks")
    app.router.add_get("/{account}", greet, name="hooks_greeting")
    return app


async def receive(request: web.Request) -> web.Response:
    """Accept one delivery: 2xx only after it is durable."""
    hub = request.app[HUB]
    name = request.match_info["account"]
    platform = _platform(hub, name)
    try:
        body = await _read_body(request, hub, name)
        headers = {key.lower(): value for key, value in request.headers.items()}
        answer = await accept_delivery(hub, name, headers, body, _public_url(hub, request))
    except SynchubError as error:
        metrics.deliveries.labels(platform, error.code).inc()
        raise
    metrics.deliveries.labels(platform, "accepted").inc()
    return web.Response(
        status=answer.status, body=answer.body.encode(), content_type=answer.content_type or None
    )


async def greet(request: web.Request) -> web.Response:  # noqa: ARG001 - the same for every account, known or not
    """Answer a platform that looks whether anybody is there, without saying who."""
    return web.Response(text="This address takes signed deliveries by POST.\n")


def _platform(hub: Hub, account: str) -> str:
    found = hub.directory.find_account(account)
    return found.platform if found else "unknown"


async def _read_body(request: web.Request, hub: Hub, account: str) -> bytes:
    """Read at most what the connector accepts, counting bytes and believing no header."""
    if "Content-Encoding" in request.headers:
        msg = "Send the body as it was signed, without a Content-Encoding."
        raise EncodingRefused(msg)
    limit = _limit(hub, account)
    parts, size = [], 0
    try:
        async with asyncio.timeout(hub.settings.server.body_timeout_ms / 1000):
            async for part in request.content.iter_any():
                size += len(part)
                if size > limit:
                    msg = f"The body is larger than {limit} bytes."
                    raise PayloadTooLarge(msg)
                parts.append(part)
    except TimeoutError:
        msg = "The body did not arrive in time."
        raise BodyTooSlow(msg) from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _limit(hub: Hub, account: str) -> int:
    found = hub.directory.find_account(account)
    connector = hub.connectors.get(found.platform) if found else None
    upper = hub.settings.ingress.max_body_bytes
    return min(upper, connector.manifest.receive.max_body_bytes) if connector else upper


def _public_url(hub: Hub, request: web.Request) -> str:
    base = hub.settings.server.public_url or f"{request.scheme}://{request.host}"
    return base.rstrip("/") + request.path_qs
