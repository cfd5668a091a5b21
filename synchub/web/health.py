"""Probes and numbers: does the loop turn, may traffic come, what is going on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0

from synchub import metrics
from synchub.errors import StoreUnavailable, SynchubError
from synchub.ingress import operations as ingress
from synchub.redis import store_errors
from synchub.safety import check_store, clock_skew_s
from synchub.sync_lag import operations as sync_lag
from synchub.web.keys import HUB

if TYPE_CHECKING:
    from synchub.hub import Hub


_SERVES_WITHOUT_STORE: Final = web.AppKey("serves-without-store", bool)
_AWAY: Final = "The store has been away for some time."


def add_health_routes(app: web.Application, *, serves_without_store: bool = False) -> None:
    """Add ``/livez``, ``/readyz`` and ``/metrics``."""
    app[_SERVES_WITHOUT_STORE] = serves_without_store
    app.router.add_get("/livez", livez, name="livez")
    app.router.add_get("/readyz", readyz, name="readyz")
    app.router.add_get("/metrics", show_metrics, name="metrics")


async def livez(request: web.Request) -> web.Response:  # noqa: ARG001 - an answer is all it takes
    """Answer as long as the event loop turns; asks no store."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """Say whether this process can do its work, and what keeps it from doing so.

    An api process that knows its accounts and agents stays ready without its store: it still answers,
    and if all of them were taken out of service at once, nobody would.
    """
    hub = request.app[HUB]
    problems, is_away = await _obstacles(hub)
    is_degraded = is_away and request.app[_SERVES_WITHOUT_STORE] and hub.directory.is_loaded
    is_ready = is_degraded or not problems
    told = {"ready": is_ready, "degraded": is_degraded, "problems": problems}
    body = orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=200 if is_ready else 503, body=body, content_type="application/json")


async def _obstacles(hub: Hub) -> tuple[list[str], bool]:
    """Return what keeps the hub from being ready, one sentence each, and whether the store is away."""
    try:
        if hub.history.presence.is_away:
            raise StoreUnavailable(_AWAY)  # nobody need wait for it once more
        with store_errors():
            problems = await check_store(hub.client)
    except SynchubError as error:
        metrics.redis_config_safe.set(0)
        return [error.detail], True
    metrics.redis_config_safe.set(0 if problems else 1)
    if hub.settings.redis.unsafe == "report":
        problems = []
    if not hub.directory.is_loaded:
        problems.append("Accounts and agents have not been read yet.")
    return problems, False


async def show_metrics(request: web.Request) -> web.Response:
    """Return all numbers of this process in the Prometheus text format."""
    await _measure(request.app[HUB])
    return web.Response(
        body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_PLAIN_1_0_0}
    )


async def _measure(hub: Hub) -> None:
    """Read what lies in the store; without it the last numbers stay."""
    metrics.redis_waiting.set(hub.redis.waiting)
    # A worker need not be asked whether it is ready, and tells all the same whether its store is safe.
    _, is_away = await _obstacles(hub)
    if is_away:
        return
    try:
        metrics.redis_clock_skew.set(await clock_skew_s(hub.client))
        await ingress.measure(hub.client)
        await sync_lag.measure(hub.redis)
    except SynchubError:
        metrics.redis_config_safe.set(0)
