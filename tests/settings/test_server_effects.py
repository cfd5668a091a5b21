"""What changes when a setting of the HTTP face, or of the worker's port, is changed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from aiohttp import web

from synchub.commands.serve import serve
from synchub.kit.tasks import end
from synchub.settings import ServerSettings
from synchub.web.serving import serving
from tests.support.deliveries import body_of, level
from tests.support.hub import opened_hub, running_hub, settings_with
from tests.support.merchants import CONNECTORS, add_merchant
from tests.support.processes import free_port
from tests.support.sockets import Caller, head
from tests.support.source import ROOT
from tests.support.wait import eventually
from workers import lifecycle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from pathlib import Path

    from synchub.connector_kit.delivery import Delivery

MOMENT_S: Final = 2.0
"""Shorter than every default of the times below."""
SYNCHUB: Final = (sys.executable, "-m", "synchub")


class Doors:
    """An application with one slow request, which ends when it is let go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.let_go = asyncio.Event()

    def app(self) -> web.Application:
        """A new application."""
        app = web.Application()
        app.router.add_get("/", self._slow)
        return app

    async def _slow(self, _: web.Request) -> web.Response:
        self.entered.set()
        await self.let_go.wait()
        return web.Response(text="at last")


@pytest.fixture
def doors() -> Doors:
    return Doors()


async def accepts(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.transport.abort()
    return True


async def test_it_listens_at_the_host_and_nowhere_else(doors: Doors) -> None:
    async with serving(doors.app(), ServerSettings(host="127.0.0.2", port=0)) as port:
        assert await accepts("127.0.0.2", port)
        assert not await accepts("127.0.0.1", port)


async def test_it_listens_on_the_port(doors: Doors) -> None:
    wanted = free_port()
    async with serving(doors.app(), ServerSettings(port=wanted)) as port:
        assert port == wanted
        assert await accepts("127.0.0.1", wanted)


async def test_an_idle_connection_is_closed_after_the_keepalive_time(doors: Doors) -> None:
    doors.let_go.set()
    async with (
        serving(doors.app(), ServerSettings(port=0, keepalive_ms=1000)) as port,
        Caller(port) as caller,
    ):
        caller.send(head("GET", "/", {}))
        assert await caller.status() == 200
        assert await caller.read_exactly(len("at last")) == b"at last"
        assert await caller.is_closed()


# ------------------------------------------------------------------------------------------------- public_url


async def test_what_a_signature_covers_begins_with_the_public_url(redis_url: str) -> None:
    public = {"public_url": "https://hub.example.com/"}
    seen: list[str] = []

    def verify(delivery: Delivery, secrets: Sequence[str], *, now_ms: int) -> None:
        assert secrets
        assert now_ms
        seen.append(delivery.url)

    async with running_hub(redis_url, works=False, server=public) as site:
        site.hub.connectors["standard"] = replace(CONNECTORS["standard"], verify=verify)
        await site.ask("POST", f"{site.merchant.hook}?shop=1", data=body_of(level("TEE", 1)))
        assert seen == [f"https://hub.example.com{site.merchant.hook}?shop=1"]


def test_a_new_account_is_told_an_address_at_the_public_url(redis_url: str, tmp_path: Path) -> None:
    told = subprocess.run(
        [*SYNCHUB, "account", "add", "standard", "--merchant", "acme", "--redis", redis_url, "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "SYNCHUB_SERVER__PUBLIC_URL": "https://hub.example.com"},
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert json.loads(told.stdout)["url"] == "https://hub.example.com/hooks/acme-standard"


# --------------------------------------------------------------------------------------------------- drain_ms


async def test_an_open_request_is_let_end_within_the_drain_time(doors: Doors) -> None:
    async with asked(doors, drain_ms=60_000) as (asking, leave):
        leaving = asyncio.create_task(leave())
        await eventually(lambda: not asking.done() and not leaving.done())
        doors.let_go.set()
        assert await asking == "at last"
        await leaving


async def test_an_open_request_is_cut_off_after_the_drain_time(doors: Doors) -> None:
    async with asked(doors, drain_ms=100) as (asking, leave):
        async with asyncio.timeout(MOMENT_S):
            await leave()
        with pytest.raises(aiohttp.ClientError):
            await asking


async def test_readers_are_sent_away_within_the_drain_time(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    merchant = await add_merchant(redis_url)
    port, stops = free_port(), ways_to_stop(monkeypatch)
    async with aiohttp.ClientSession() as session:
        settings = settings_with(redis_url, server={"port": port, "drain_ms": 150})
        serving_it = asyncio.create_task(serve(settings))
        await eventually(lambda: accepts("127.0.0.1", port))
        headers = {"Authorization": f"Bearer {merchant.key}"}
        url = f"http://127.0.0.1:{port}/v1/feed"
        readers = [await session.get(url, headers=headers) for _ in range(3)]
        for reader in readers:
            await until(reader, b"event: snap_end")
        stops[0]()
        async with asyncio.timeout(MOMENT_S):
            for reader in readers:
                await until(reader, b"event: bye")
            await serving_it


def ways_to_stop(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Let a whole api process run as a task: its signals, its search for files and its memory are ours."""
    stops: list[Callable[[], None]] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "add_signal_handler", lambda _, stop: stops.append(stop))
    monkeypatch.setattr("synchub.hub.discover", lambda: dict(CONNECTORS))
    monkeypatch.setattr("synchub.commands.serve.spare_the_collector", lambda: None)
    return stops


async def until(reader: aiohttp.ClientResponse, event: bytes) -> None:
    """Read a feed up to an event."""
    while event not in (line := await reader.content.readline()):
        assert line, f"the feed has ended before {event!r}"


@contextlib.asynccontextmanager
async def asked(
    doors: Doors, *, drain_ms: int
) -> AsyncIterator[tuple[asyncio.Task[str], Callable[[], Coroutine[Any, Any, None]]]]:
    """Have a request wait inside a server that the test may leave."""
    served = contextlib.AsyncExitStack()
    port = await served.enter_async_context(serving(doors.app(), ServerSettings(port=0, drain_ms=drain_ms)))
    async with aiohttp.ClientSession() as session:
        asking = asyncio.create_task(text_of(session, f"http://127.0.0.1:{port}/"))
        await doors.entered.wait()
        try:
            yield asking, served.aclose
        finally:
            doors.let_go.set()
            await end(asking)
            await served.aclose()


async def text_of(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as answer:
        return await answer.text()


# ------------------------------------------------------------------------------------------------- the worker


async def test_a_worker_with_a_port_answers_probes_there(redis_url: str) -> None:
    port = free_port()
    async with (
        opened_hub(settings_with(redis_url, worker={"port": port})) as hub,
        lifecycle._probes(hub),
        aiohttp.ClientSession() as session,
    ):
        assert await text_of(session, f"http://127.0.0.1:{port}/livez") == "ok\n"
