"""Readers that we have not written: curl, and a WebSocket library that is strict about the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from synchub.feed.model import ByeReason
from tests.support.deliveries import body_of, level
from tests.support.hub import Site, running_hub
from tests.support.tools import need_tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.client import ClientConnection

_WITHIN_S = 10


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with running_hub(redis_url) as one:
        yield one


class Curl:
    """One ``curl -N`` that follows the feed."""

    def __init__(self, output: asyncio.StreamReader) -> None:
        self._output = output

    async def event(self, name: str) -> dict[str, str]:
        """Read up to the next event of this name and return its fields."""
        async with asyncio.timeout(_WITHIN_S):
            while True:
                lines = (await self._output.readuntil(b"\n\n")).decode().splitlines()
                fields = dict(line.split(":", 1) for line in lines if line)
                if fields["event"].strip() == name:
                    return {field: value.strip() for field, value in fields.items()}


@contextlib.asynccontextmanager
async def curl(site: Site, *headers: str) -> AsyncIterator[Curl]:
    program = str(need_tool("curl"))
    asked = [f"Authorization: Bearer {site.merchant.key}", *headers]
    options = [part for header in asked for part in ("--header", header)]
    process = await asyncio.create_subprocess_exec(
        program,
        *("--silent", "--no-buffer", "--noproxy", "*"),
        *options,
        f"{site.url}/v1/feed",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield Curl(process.stdout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def report(site: Site, sku: str, units: int, sequence: int) -> None:
    await site.post(body_of(level(sku, units), sequence=sequence))


class TestCurl:
    async def test_it_follows_and_comes_back_to_where_it_was(self, site: Site) -> None:
        await report(site, "TEE", 7, 1)
        await site.drained()
        async with curl(site) as reader:
            hello = await reader.event("hello")
            assert int(hello["retry"]) > 0
            snapshot = await reader.event("snap_end")
            await report(site, "TEE", 3, 2)
            changed = json.loads((await reader.event("upd"))["data"])
            assert changed["items"][0]["available"] == 3
            assert changed["prev"] == json.loads(snapshot["data"])["seq"]
        async with curl(site, f"Last-Event-ID: {snapshot['id']}") as reader:
            assert json.loads((await reader.event("hello"))["data"])["resume"] == "replay"
            missed = json.loads((await reader.event("upd"))["data"])
        assert missed["items"][0]["available"] == 3

    async def test_the_response_ends_in_good_order(self, site: Site) -> None:
        async with curl(site) as reader:
            await reader.event("snap_end")
            [agent] = site.hub.directory.agents_of(site.merchant.name)
            site.hub.feed.dismiss(site.merchant.name, agent.name, ByeReason.LIMIT)
            await reader.event("bye")
            with pytest.raises(asyncio.IncompleteReadError) as ended:
                await reader.event("hello")
        assert ended.value.partial == b""


class TestWebSockets:
    """PyPI ``websockets``."""

    async def test_it_follows_asks_and_comes_back(self, site: Site) -> None:
        await report(site, "TEE", 7, 1)
        await site.drained()
        async with following(site) as socket:
            assert (await message(socket, "hello"))["resume"] == "snapshot"
            position = (await message(socket, "snap_end"))["id"]
            await socket.send(json.dumps({"anchor": 12}))
            assert (await message(socket, "anchor"))["n"] == 12
            answered = await socket.ping(b"still there")
            await asyncio.wait_for(answered, _WITHIN_S)
            await report(site, "TEE", 3, 2)
            assert (await message(socket, "upd"))["items"][0]["available"] == 3
        async with following(site, f"?from={position}") as socket:
            assert (await message(socket, "hello"))["resume"] == "replay"
            assert (await message(socket, "upd"))["items"][0]["available"] == 3

    async def test_a_large_snapshot_is_whole_and_not_compressed(self, redis_url: str) -> None:
        async with running_hub(redis_url, feed={"snapshot_part": 1000}) as site:
            changes = [level(f"SKU-{number:04}-{'x' * 60}", number) for number in range(700)]
            for start in range(0, len(changes), 100):
                await site.post(body_of(*changes[start : start + 100], sequence=start + 1))
            await site.drained()
            async with following(site) as socket:
                assert len((await message(socket, "snap"))["items"]) == 700
                assert socket.protocol.extensions == []

    @pytest.mark.parametrize(("reason", "code"), [(ByeReason.DRAIN, 1012), (ByeReason.AUTH, 1008)])
    async def test_it_is_told_why_the_hub_closes(self, site: Site, reason: ByeReason, code: int) -> None:
        async with following(site) as socket:
            await message(socket, "snap_end")
            [agent] = site.hub.directory.agents_of(site.merchant.name)
            site.hub.feed.dismiss(site.merchant.name, agent.name, reason)
            assert (await message(socket, "bye"))["reason"] == reason
            with pytest.raises(ConnectionClosedError) as closed:
                await message(socket, "hello")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code

    async def test_its_own_close_is_answered(self, site: Site) -> None:
        async with following(site) as socket:
            await message(socket, "snap_end")
            await socket.close(1000, "enough")
            with pytest.raises(ConnectionClosedOK):
                await socket.recv()
            assert socket.close_code == 1000

    async def test_a_refusal_is_an_answer_of_http(self, site: Site) -> None:
        with pytest.raises(InvalidStatus) as refused:
            async with following(site, key="sak_unknown"):
                pass
        assert refused.value.response.status_code == 401


@contextlib.asynccontextmanager
async def following(site: Site, query: str = "", *, key: str = "") -> AsyncIterator[ClientConnection]:
    url = f"{site.url.replace('http', 'ws')}/v1/feed/ws{query}"
    headers = {"Authorization": f"Bearer {key or site.merchant.key}"}
    async with connect(url, additional_headers=headers, proxy=None) as socket:
        yield socket


async def message(socket: ClientConnection, event: str) -> dict[str, Any]:
    """Read up to the next message of this event."""
    async with asyncio.timeout(_WITHIN_S):
        while True:
            told: dict[str, Any] = json.loads(await socket.recv())
            if told["event"] == event:
                return told
