"""ShipHero's emulator as a process of its own, and a hub that it posts to."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

import connectors.shiphero
from connectors.shiphero import Client, normalize, verify
from synchub.connector_kit.contract import Access
from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.events import Level, StockEvent
from synchub.connector_kit.http import AiohttpPlatformHttp
from synchub.connector_kit.manifest import load_manifest
from synchub.errors import SignatureRefused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

SECRET: Final = "sh_emulated"
TOKEN: Final = "sh_emulated_token"
WH1: Final = "76733"
WH2: Final = "76734"
MANIFEST: Final = load_manifest(Path(connectors.shiphero.__file__).with_name("manifest.toml"))


@dataclass
class Hub:
    """Receives as the hub would: what is not rightly signed gets a 401."""

    answer: str = MANIFEST.answer.body
    secrets: list[str] = field(default_factory=lambda: [SECRET])
    accepted: list[Delivery] = field(default_factory=list)
    refused: int = 0

    async def receive(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        sent = Delivery(account="wms", headers=headers, body=await request.read(), arrived_at_us=0)
        try:
            verify(sent, self.secrets, now_ms=0)
        except SignatureRefused as refusal:
            self.refused += 1
            return web.Response(status=refusal.status)
        self.accepted.append(sent)
        return web.Response(text=self.answer, content_type="application/json")

    def events(self) -> list[StockEvent]:
        return [event for sent in self.accepted for event in normalize(MANIFEST.topic_of(sent), sent)]


@dataclass
class Emulator:
    """One emulator process and the hub it posts to."""

    url: str
    hook_url: str
    hub: Hub
    session: aiohttp.ClientSession

    def reader(self, token: str = TOKEN, **credentials: str) -> Client:
        """Return a client as a hub has it that knows the newest secret."""
        given = {"access_token": token, "api_url": f"{self.url}/graphql"}
        given["shared_signature_secret"] = self.hub.secrets[-1]
        return Client(Access(http=AiohttpPlatformHttp(self.session), credentials=given | credentials))

    async def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """Ask ShipHero as some other client of the account would."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        body = {"query": query, "variables": variables}
        async with self.session.post(f"{self.url}/graphql", json=body, headers=headers) as answer:
            return dict((await answer.json())["data"])

    async def post(self, path: str, **body: object) -> dict[str, Any]:
        async with self.session.post(f"{self.url}/_emulator/{path}", json=body) as answer:
            return dict(await answer.json())

    async def calls(self) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/_emulator/calls") as answer:
            return dict(await answer.json())

    async def truth(self) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/_emulator/truth") as answer:
            return dict(await answer.json())


@asynccontextmanager
async def emulator(*arguments: str, hub: Hub | None = None) -> AsyncIterator[Emulator]:
    hub = hub or Hub()
    app = web.Application()
    app.router.add_post("/hooks", hub.receive)
    async with TestServer(app) as server, aiohttp.ClientSession(trust_env=False) as session:
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "connectors.shiphero.emulator",
                "--hook-url",
                str(server.make_url("/hooks")),
            ),
            *("--credential", f"shared_signature_secret={SECRET}", "--credential", f"access_token={TOKEN}"),
            *("--skus", "6", "--locations", "WH1,WH2", "--rate", "0", *arguments),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        try:
            assert process.stdout is not None
            port = json.loads(await process.stdout.readline())["port"]
            yield Emulator(
                url=f"http://127.0.0.1:{port}",
                hook_url=str(server.make_url("/hooks")),
                hub=hub,
                session=session,
            )
        finally:
            process.terminate()
            assert await process.wait() == 0


def levels_of(events: Iterable[StockEvent]) -> dict[str, dict[str, int | None]]:
    found: dict[str, dict[str, int | None]] = {}
    for event in events:
        if isinstance(event, Level):
            found.setdefault(event.item, {})[event.location] = event.quantity
    return found
