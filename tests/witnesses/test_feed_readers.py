"""The feed as npm's clients for Server-Sent Events and a browser understand it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from synchub.feed.model import ByeReason
from tests.support.deliveries import body_of, level
from tests.support.hub import Site, running_hub
from tests.support.tools import need_tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = [pytest.mark.witness, pytest.mark.usefixtures("npm_packages")]

_HERE: Final = Path(__file__).parent
_WITHIN_S: Final = 30
_PAGE: Final = (_HERE / "feed_page.html").read_text(encoding="utf-8")

Told = dict[str, Any]


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with running_hub(redis_url) as one:
        await report(one, 7, 1)
        await one.drained()
        yield one


async def report(site: Site, units: int, sequence: int) -> None:
    await site.post(body_of(level("TEE", units), sequence=sequence))


def dismiss(site: Site) -> None:
    """End the merchant's connections as when they are as old as they may get."""
    [agent] = site.hub.directory.agents_of(site.merchant.name)
    assert site.hub.feed.dismiss(site.merchant.name, agent.name, ByeReason.LIMIT, reconnect=True) > 0


class Ear:
    """What a foreign program says, in order."""

    def __init__(self) -> None:
        self._told: asyncio.Queue[Told] = asyncio.Queue()

    def hear(self, told: Told) -> None:
        """Take in one thing said."""
        self._told.put_nowait(told)

    async def until(self, is_it: Callable[[Told], bool]) -> Told:
        """Return the next thing said of which this holds."""
        async with asyncio.timeout(_WITHIN_S):
            while not is_it(told := await self._told.get()):
                pass
        return told

    async def event(self, name: str) -> Told:
        """Return the next event of this name."""
        return await self.until(lambda told: told["event"] == name)


@contextlib.asynccontextmanager
async def node(site: Site, which: str, packages: Path) -> AsyncIterator[Ear]:
    ear = Ear()
    process = await asyncio.create_subprocess_exec(
        str(need_tool("node")),
        str(_HERE / "feed_reader.mjs"),
        *(f"{site.url}/v1/feed?bound_ms=500", site.merchant.key, which),
        cwd=packages,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    listening = asyncio.create_task(_hear_lines(process.stdout, ear))
    try:
        yield ear
    finally:
        await _killed(process)
        await listening


async def _hear_lines(output: asyncio.StreamReader, ear: Ear) -> None:
    async for line in output:
        ear.hear(json.loads(line))


async def _killed(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


async def test_npm_eventsource_follows_and_comes_back_by_itself(site: Site, npm_packages: Path) -> None:
    async with node(site, "eventsource", npm_packages) as ear:
        assert (await ear.event("hello"))["data"]["resume"] == "snapshot"
        assert (await ear.event("snap"))["data"]["items"][0]["available"] == 7
        end = await ear.event("snap_end")
        await report(site, 3, 2)
        changed = await ear.event("upd")
        assert changed["data"]["items"][0]["available"] == 3
        assert changed["data"]["prev"] == end["data"]["seq"]
        assert (await ear.event("hb"))["id"] == changed["id"]
        dismiss(site)
        await ear.event("bye")
        assert (await ear.event("hello"))["data"]["resume"] == "replay"


async def test_npm_eventsource_parser_understands_every_line(site: Site, npm_packages: Path) -> None:
    async with node(site, "parser", npm_packages) as ear:
        assert (await ear.event("retry"))["data"] >= 500
        assert (await ear.event("hello"))["data"]["resume"] == "snapshot"
        assert (await ear.event("snap_end"))["id"]
        await report(site, 3, 2)
        assert (await ear.event("upd"))["data"]["items"][0]["available"] == 3
        beat = await ear.event("hb")
    assert beat["data"]["prev"] <= beat["data"]["seq"]


class Shop:
    """A merchant's web site: serves the page, asks for its tickets, hears what it says."""

    def __init__(self, site: Site) -> None:
        self.ear = {"stream": Ear(), "socket": Ear()}
        self.tickets = 0
        self._site = site
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_post("/ticket", self._ticket)
        app.router.add_post("/told", self._told)
        self.server = TestServer(app)

    @property
    def origin(self) -> str:
        """What a browser calls the page."""
        return str(self.server.make_url("")).rstrip("/")

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=_PAGE, content_type="text/html")

    async def _ticket(self, request: web.Request) -> web.Response:
        self.tickets += 1
        wanted = {"origin": self.origin, "bound_ms": 500, **json.loads(await request.text())}
        headers = {"Authorization": f"Bearer {self._site.merchant.key}"}
        heard = await self._site.ask("POST", "/v1/feed/tickets", json=wanted, headers=headers)
        assert heard.status == 201, heard
        return web.Response(body=heard.body, content_type="application/json")

    async def _told(self, request: web.Request) -> web.Response:
        told: Told = json.loads(await request.text())
        self.ear[told["via"]].hear(told)
        return web.Response()


@contextlib.asynccontextmanager
async def browsing(site: Site, profile: Path) -> AsyncIterator[Shop]:
    shop = Shop(site)
    async with shop.server:
        process = await asyncio.create_subprocess_exec(
            str(need_tool("chromium")),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *("--disable-background-networking", f"--user-data-dir={profile}"),
            f"{shop.origin}/?hub={site.url}",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            yield shop
        finally:
            await _killed(process)


async def test_a_browsers_eventsource_and_websocket_follow_with_tickets(site: Site, tmp_path: Path) -> None:
    async with browsing(site, tmp_path) as shop:
        stream, socket = shop.ear["stream"], shop.ear["socket"]
        assert (await stream.event("hello"))["data"]["resume"] == "snapshot"
        assert (await stream.event("snap"))["data"]["items"][0]["available"] == 7
        await stream.event("snap_end")
        await socket.until(lambda told: told["data"]["event"] == "hello")
        assert (await socket.until(lambda told: told["data"]["event"] == "anchor"))["data"]["n"] == 42
        await report(site, 3, 2)
        assert (await stream.event("upd"))["data"]["items"][0]["available"] == 3
        changed = await socket.until(lambda told: told["data"]["event"] == "upd")
        assert changed["data"]["items"][0]["available"] == 3
        assert shop.tickets == 2
        dismiss(site)
        await stream.event("bye")
        closed = await socket.event("close")
        assert (closed["code"], closed["clean"]) == (1001, True)
        # The browser tries the same address again, is refused for good, and the page asks for a new ticket.
        assert (await stream.until(lambda told: told.get("state") == 2))["event"] == "error"
        assert (await stream.event("hello"))["data"]["resume"] == "replay"
        assert shop.tickets == 3
