"""A platform of the tests' own that can be asked for levels over real HTTP, and that fails on request."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from unittest import mock

from aiohttp import web
from aiohttp.test_utils import TestServer

from synchub.connector_kit.events import Level
from synchub.connector_kit.manifest import ClientOffer, LimitsOffer
from tests.support.merchants import CONNECTORS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from synchub.connector_kit.contract import Access, Connector
    from synchub.connector_kit.events import StockEvent

ITEMS_MAX: Final = 25


class Warehouse:
    """Levels by item and location; what is asked for is written down."""

    def __init__(self) -> None:
        self.levels: dict[str, dict[str, int]] = {}
        self.calls: list[list[str]] = []
        self.times: list[float] = []
        self.status = 200
        self.answers = asyncio.Event()
        """Not set: calls hang."""
        self.answers.set()
        self.url = ""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Warehouse]:
        """Serve it, and let every account of the platform ``standard`` be one here."""
        app = web.Application()
        app.router.add_post("/levels", self._tell)
        async with TestServer(app) as server:
            self.url = str(server.make_url("/levels"))
            with mock.patch.dict(CONNECTORS, standard=self._connector()):
                yield self
            self.answers.set()

    async def _tell(self, request: web.Request) -> web.Response:
        items = (await request.json())["items"]
        self.calls.append(items)
        self.times.append(asyncio.get_running_loop().time())
        await self.answers.wait()
        if self.status != 200:
            return web.Response(status=self.status)
        return web.json_response({item: self.levels[item] for item in items if item in self.levels})

    def _connector(self) -> Connector:
        url = self.url

        class Client:
            def __init__(self, access: Access) -> None:
                self._http = access.http

            async def fetch_levels(self, items: Sequence[str]) -> tuple[StockEvent, ...]:
                answer = await self._http.send("POST", url, json={"items": list(items)})
                return tuple(
                    Level(item=item, location=location, quantity=quantity)
                    for item, places in json.loads(answer.body).items()
                    for location, quantity in places.items()
                )

        standard = CONNECTORS["standard"]
        offers = {
            "client": ClientOffer(fetch_levels_max=ITEMS_MAX),
            "limits": LimitsOffer(capacity=1000, restored_per_s=1000, concurrency=10),
        }
        return replace(standard, manifest=standard.manifest.model_copy(update=offers), client=Client)
