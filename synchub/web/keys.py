"""Names under which the applications find what they need."""

from __future__ import annotations

from aiohttp import web

from synchub.hub import Hub

HUB: web.AppKey[Hub] = web.AppKey("hub", Hub)
