"""What `synchub feed watch` prints, and when it stops."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.feed import Site, Store, serving_feed

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Iterator

    from tests.support.valkey import Valkey


@pytest.fixture
def store(valkey: Valkey, redis_url: str) -> Iterator[Store]:
    with valkey.client() as client:
        yield Store(client).name_history()


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with serving_feed(redis_url) as served:
        yield served


async def watching(site: Site, *options: str, key: str = "acme.shopper") -> Process:
    url = str(site.server.make_url("/"))
    command = [sys.executable, "-m", "synchub", "feed", "watch", "--url", url, "--key", key, *options]
    return await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def line_of(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    async with asyncio.timeout(20):
        return (await stream.readline()).decode()


async def test_each_change_is_a_line_without_colour_in_a_pipe(site: Site, store: Store) -> None:
    store.change("TEE-0001")
    process = await watching(site)
    first = await line_of(process.stdout)
    store.change("TEE-0001", 3)
    second = await line_of(process.stdout)
    process.send_signal(signal.SIGINT)
    _, notes = await process.communicate()
    assert first.split()[1:5] == ["TEE-0001", "IN_STOCK", "10", "v1"]
    assert second.split()[1:5] == ["TEE-0001", "LOW_STOCK", "3", "v2"]
    assert "\x1b" not in first
    assert process.returncode == 0
    assert b"Traceback" not in notes


async def test_it_comes_back_where_it_was(site: Site, store: Store) -> None:
    store.change("TEE")
    process = await watching(site, "--json")
    assert [json.loads(await line_of(process.stdout))["event"] for _ in range(3)] == [
        "hello",
        "snap",
        "snap_end",
    ]
    for reader in list(site.feed._readers):
        reader.transport.abort()
    store.change("CAP")
    frames = [json.loads(await line_of(process.stdout)) for _ in range(2)]
    assert [frame["event"] for frame in frames] == ["hello", "upd"]
    assert frames[0]["resume"] == "replay"
    assert [item["sku"] for item in frames[1]["items"]] == ["CAP"]
    process.send_signal(signal.SIGINT)
    await process.communicate()


async def test_a_refused_key_ends_it_with_a_sentence(site: Site) -> None:
    process = await watching(site, key="nobody")
    out, notes = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert b"401" in notes
