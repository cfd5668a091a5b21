"""What agents ask about single SKUs. An unknown SKU is an answer too, never a bare 404."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from synchub.agents.model import Scope
from synchub.availability.rules import stock_body
from synchub.connector_kit.payloads import identifier, quantity
from synchub.errors import InvalidRequest, PayloadRefused
from synchub.keyspace import MerchantKeys, check_name
from synchub.kit.clock import now_ms
from synchub.stock import operations as stock
from synchub.web.auth import agent_of, check_channel
from synchub.web.keys import HUB

if TYPE_CHECKING:
    from synchub.hub import Hub


def stock_app(hub: Hub) -> web.Application:
    """Build the application for questions about stock."""
    app = web.Application()
    app[HUB] = hub
    # A SKU may contain a slash.
    app.router.add_get("/{sku:.+}", show_stock, name="stock")
    return app


async def show_stock(request: web.Request) -> web.Response:
    """Answer with the present state of one SKU of the key's merchant."""
    hub = request.app[HUB]
    agent = agent_of(request, Scope.STOCK_READ)
    sku = _sku(request.match_info["sku"])
    _check_quantity(request.query.get("quantity"))
    channel = request.query.get("channel")
    check_channel(agent, None if channel is None else check_name(channel, "The channel"))
    reading = await stock.read(hub.redis, MerchantKeys(agent.merchant), [sku])
    body = stock_body(
        reading.answers[0],
        reading.position,
        low_threshold=hub.settings.stock.low_threshold,
        now_ms=now_ms(),
    )
    return web.Response(
        body=orjson.dumps(body), content_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _sku(text: str) -> str:
    try:
        return identifier(text, "The SKU")
    except PayloadRefused as refusal:
        raise InvalidRequest(refusal.detail) from None


def _check_quantity(text: str | None) -> None:
    if text is None:
        return
    try:
        wanted = quantity(text, "quantity")
    except PayloadRefused as refusal:
        raise InvalidRequest(refusal.detail) from None
    if wanted < 1:
        msg = "quantity is at least 1."
        raise InvalidRequest(msg)
