"""The emulated account's tokens: the one that was given, and those that it renews."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

RENEWED_S = 2_419_200


class EmulatedTokens:
    """Which access tokens are good."""

    def __init__(self, credentials: Mapping[str, str]) -> None:
        """Without an access token among the credentials, any will do at first."""
        self._refresh_token = credentials.get("refresh_token")
        given = credentials.get("access_token")
        self._good: set[str] | None = None if given is None else {given}

    def add_routes(self, app: web.Application) -> None:
        """Add ShipHero's address for new tokens, and a control route that ends those there are."""
        app.router.add_post("/auth/refresh", self._refresh)
        app.router.add_post("/_emulator/expire", self._expire)

    def accepts(self, request: web.Request) -> bool:
        """Whether a request has a good token."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        return kind == "Bearer" and bool(token) and (self._good is None or token in self._good)

    async def _refresh(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if self._refresh_token is None or asked.get("refresh_token") != self._refresh_token:
            return web.json_response({"message": "Unknown or invalid refresh token."}, status=403)
        token = secrets.token_urlsafe(24)
        self._good = {*(self._good or ()), token}
        told = {"access_token": token, "expires_in": RENEWED_S, "token_type": "Bearer"}
        return web.json_response(told | {"scope": "openid profile offline_access"})

    async def _expire(self, _request: web.Request) -> web.Response:
        self._good = set()
        return web.json_response({})
