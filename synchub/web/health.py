"""Probes and numbers: does the loop turn, may traffic come, what is going on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0

from synchub import metrics
from synchub.errors import SynchubError
from synchub.ingress import operations as ingress
from synchub.redis import store_errors
from synchub.safety import check_store, clock_skew_s
from synchub.web.keys import HUB

if TYPE_CHECKING:
    from synchub.hub import Hub


def add_health_routes(app: web.Application) -> None:
    """Add ``/livez``, ``/readyz`` and ``/metrics``."""
    app.router.add_get("/livez", livez, name="livez")
    app.router.add_get("/readyz", readyz, name="readyz")
    app.router.add_get("/metrics", show_metrics, name="metrics")


async def livez(request: web.Request) -> web.Response:  # noqa: ARG001 - an answer is all it takes
    """Answer as long as the event loop turns; asks no store."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """Say whether this process can do its work, and what keeps it from doing so."""
    problems = await obstacles(request.app[HUB])
    body = orjson.dumps({"ready": not problems, "problems": problems}, option=orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=503 if problems else 200, body=body, content_type="application/json")


async def obstacles(hub: Hub) -> list[str]:
    """Return what keeps the hub from being ready, one sentence each."""
    try:
        with store_errors():
            problems = await check_store(hub.client)
    except SynchubError as error:
        metrics.redis_config_safe.set(0)
        return [error.detail]
    metrics.redis_config_safe.set(0 if problems else 1)
    if hub.settings.redis.unsafe == "report":
        problems = []
    if not hub.directory.is_loaded:
        problems.append("Accounts and agents have not been read yet.")
    return problems


async def show_metrics(request: web.Request) -> web.Response:
    """Return all numbers of this process in the Prometheus text format."""
    await _measure(request.app[HUB])
    return web.Response(
        body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_PLAIN_1_0_0}
    )


async def _measure(hub: Hub) -> None:
    """Read what lies in the store; without it the last numbers stay."""
    metrics.redis_waiting.set(hub.redis.waiting)
    try:
        metrics.redis_clock_skew.set(await clock_skew_s(hub.client))
        await ingress.measure(hub.client)
    except SynchubError:
        metrics.redis_config_safe.set(0)
