"""How many may follow at once, how long a key's connections last, and that nobody leaves anything behind."""

from __future__ import annotations

import asyncio
import gc
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from synchub import keyspace, metrics
from synchub.agents import operations as agents
from synchub.agents import store as agents_store
from synchub.agents.operations import NewAgent
from synchub.feed.readers import Reader
from synchub.web.feed_ws import _Socket
from tests.support.deliveries import body_of, level
from tests.support.feed import Client
from tests.support.feed_sockets import open_socket
from tests.support.hub import Site, running_hub
from tests.support.merchants import add_merchant
from tests.support.poller import Poller
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RENDERINGS = ("/v1/feed", "/v1/feed/ws", "/v1/changes")


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with running_hub(redis_url) as one:
        yield one


async def another_key(site: Site, **about: Any) -> str:
    issued = await agents.add_agent(site.hub.redis, NewAgent(merchant=site.merchant.name, **about))
    await eventually(lambda: site.hub.directory.find_agent(issued.key) is not None)
    return issued.key


async def refused(site: Site, path: str, key: str) -> str:
    """Why a connection is refused: the sentence of its problem document."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    headers = {"Authorization": f"Bearer {key}", "Sec-WebSocket-Key": "c3luY2h1YnN5bmNodWI0Mg=="}
    if path.endswith("/ws"):
        headers |= upgrade
    heard = await site.ask("GET", path, headers=headers)
    assert (heard.status, heard.problem["code"]) == (429, "rate_limited"), heard
    assert int(heard.headers["Retry-After"]) > 0
    return str(heard.problem["detail"])


class TestSeats:
    @pytest.mark.parametrize(
        ("limit", "word"),
        [
            ("readers_per_agent", "key"),
            ("readers_per_merchant", "merchant"),
            ("readers_max", "process"),
        ],
    )
    async def test_every_rendering_is_refused_at_every_limit_and_says_which(
        self, redis_url: str, limit: str, word: str
    ) -> None:
        async with running_hub(redis_url, feed={limit: 1}) as site:
            counted = metrics.feed_refusals.labels("agent" if word == "key" else word)
            before = counted._value.get()
            async with open_socket(site.session, f"{site.url}/v1/feed/ws", site.merchant.key) as client:
                await client.next("hello")
                for path in RENDERINGS:
                    assert word in await refused(site, path, site.merchant.key)
            assert counted._value.get() == before + len(RENDERINGS)
            await eventually(lambda: site.hub.feed.readers == 0 and not site.hub.feed._seats)
            assert (await Poller(site).ask()).status == 200

    async def test_one_merchant_does_not_take_the_seats_of_another(self, redis_url: str) -> None:
        async with running_hub(redis_url, feed={"readers_per_merchant": 2}) as site:
            second, rival = await another_key(site), await add_merchant(redis_url)
            await eventually(lambda: site.hub.directory.find_agent(rival.key) is not None)
            url = f"{site.url}/v1/feed/ws"
            async with (
                open_socket(site.session, url, site.merchant.key),
                open_socket(site.session, url, second),
            ):
                for key in (site.merchant.key, second):
                    assert "merchant" in await refused(site, "/v1/feed", key)
                async with open_socket(site.session, url, rival.key) as client:
                    await client.next("hello")

    async def test_one_agent_does_not_take_the_seats_of_its_merchant(self, redis_url: str) -> None:
        async with running_hub(redis_url, feed={"readers_per_agent": 1}) as site:
            second, url = await another_key(site), f"{site.url}/v1/feed/ws"
            async with open_socket(site.session, url, site.merchant.key):
                assert "key" in await refused(site, "/v1/feed", site.merchant.key)
                async with open_socket(site.session, url, second) as client:
                    await client.next("hello")


class TestKeys:
    async def test_a_revoked_key_ends_all_its_connections_and_no_others(self, site: Site) -> None:
        key, url = await another_key(site, name="leaving"), f"{site.url}/v1/feed"
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            site.session.get(url, headers=headers) as response,
            open_socket(site.session, f"{url}/ws", key) as socket,
            open_socket(site.session, f"{url}/ws", site.merchant.key) as other,
        ):
            stream = Client(response)
            for client in (stream, socket, other):
                await client.caught_up()
            await agents.revoke_agent(site.hub.redis, "leaving")
            for client in (stream, socket):
                bye = await client.next("bye")
                assert (bye.data["reason"], bye.data["reconnect"]) == ("auth", False)
            assert await stream.at_end()
            assert await socket.closed() == 1008
            await site.post(body_of(level("TEE", 3), sequence=1))
            assert (await other.next("upd")).skus == ["TEE"]

    async def test_a_key_that_may_see_something_else_connects_again(self, site: Site) -> None:
        key = await another_key(site, name="promoted")
        poller = Poller(site, key=key)
        await poller.poll()
        async with open_socket(site.session, f"{site.url}/v1/feed/ws", key) as client:
            position = (await client.caught_up())[-1].id
            asked = asyncio.create_task(poller.ask(wait_ms=30_000))
            await eventually(lambda: site.hub.feed.readers == 2)
            await change_tier(site, "promoted", "trusted")
            bye = await client.next("bye")
            assert (bye.data["reason"], bye.data["reconnect"]) == ("auth", True)
            assert (await asyncio.wait_for(asked, 5)).status == 410
        async with open_socket(site.session, f"{site.url}/v1/feed/ws?from={position}", key) as client:
            assert (await client.next("reset")).data["reason"] == "filter"

    async def test_a_key_that_is_revoked_while_it_connects_gets_no_connection(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        follower = site.hub.feed._follower
        beginning = follower.tail

        async def tail_after_revocation(merchant: str) -> Any:
            found = await beginning(merchant)
            [agent] = site.hub.directory.agents_of(merchant)
            await agents.revoke_agent(site.hub.redis, agent.name)
            await eventually(lambda: site.hub.directory.find_agent(site.merchant.key) is None)
            return found

        monkeypatch.setattr(follower, "tail", tail_after_revocation)
        headers = {"Authorization": f"Bearer {site.merchant.key}"}
        heard = await asyncio.wait_for(site.ask("GET", "/v1/feed", headers=headers), 5)
        assert (heard.status, heard.problem["code"]) == (401, "key_unknown")
        assert site.hub.feed.readers == 0


async def change_tier(site: Site, name: str, tier: str) -> None:
    """Write an agent's record as another version of the hub might."""
    agent = await agents_store.read(site.hub.redis, name)
    record = json.loads(agents_store.encode(agent)) | {"tier": tier}
    client = site.hub.client
    await client.hset(keyspace.agents(), name, json.dumps(record))  # type: ignore[misc]  # redis-py's own types
    await client.xadd(keyspace.registry_changes(), {"kind": "agent", "name": name})


class TestLeavingNothingBehind:
    async def test_a_thousand_readers_of_every_kind_that_come_and_go(self, site: Site) -> None:
        await site.post(body_of(level("TEE", 3), sequence=1))
        await site.drained()
        keys = [await another_key(site, rate_per_s=10_000, burst=100_000) for _ in range(4)]
        await visits(site, keys, 0, 50)
        await at_rest(site)
        tasks, transports = len(asyncio.all_tasks()), alive(asyncio.Transport)
        for start in range(0, 1000, 50):
            await visits(site, keys, start, start + 50)
        await at_rest(site)
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks, what="no task left")
        await eventually(
            lambda: alive(asyncio.Transport) <= transports, within_s=30, what="no connection left"
        )
        assert alive(Reader) == 0
        assert alive(_Socket) == 0
        assert metrics.feed_readers._value.get() == 0
        async with open_socket(site.session, f"{site.url}/v1/feed/ws", keys[0]) as client:
            await client.caught_up()
            await site.post(body_of(level("TEE", 4), sequence=2))
            assert (await client.next("upd")).skus == ["TEE"]

    @pytest.mark.slow
    async def test_ten_thousand_leave_the_memory_where_it_was(self, site: Site) -> None:
        keys = [await another_key(site, rate_per_s=10_000, burst=100_000) for _ in range(4)]
        for start in range(0, 2000, 50):
            await visits(site, keys, start, start + 50)
        await at_rest(site)
        gc.collect()
        before = resident_bytes()
        for start in range(2000, 10_000, 50):
            await visits(site, keys, start, start + 50)
        await at_rest(site)
        gc.collect()
        # Less than a kilobyte for each that came, of which an idle connection alone takes more than ten.
        assert resident_bytes() - before < 8_000_000


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def alive(kind: type) -> int:
    gc.collect()
    return sum(isinstance(one, kind) for one in gc.get_objects())


async def at_rest(site: Site) -> None:
    """Return when nobody follows and the store has answered everything."""
    feed = site.hub.feed
    await eventually(lambda: feed.readers == 0 and not feed._seats, what="all readers gone")
    await eventually(lambda: not feed._follower.tails, what="the merchant forgotten")


async def visits(site: Site, keys: list[str], start: int, end: int) -> None:
    await asyncio.gather(*(visit(site, keys[number % len(keys)], number) for number in range(start, end)))


async def visit(site: Site, key: str, number: int) -> None:
    """Connect in one of three ways and leave in one of five."""
    path = RENDERINGS[number % 3]
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    lines = [f"GET {path}?bound_ms=60000&sku=TEE HTTP/1.1", "Host: x", f"Authorization: Bearer {key}"]
    if path.endswith("/ws"):
        nonce = f"{os.urandom(16).hex()[:22]}=="
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        lines += [f"Sec-WebSocket-Key: {nonce}"]
    if path.endswith("changes"):
        # A first answer, so that there is a position to wait at.
        writer.write("\r\n".join([*lines, "", ""]).encode())
        await reader.readuntil(b'"id":"')
        position = (await reader.readuntil(b'"'))[:-1].decode()
        await reader.readuntil(b"}")
        lines[0] = f"GET {path}?wait_ms=30000&bound_ms=60000&sku=TEE&since={position} HTTP/1.1"
    writer.write("\r\n".join([*lines, "", ""]).encode())
    how = number // 3 % 5
    if how and not path.endswith("changes"):
        await reader.readuntil(b"hello" if how < 3 else b"snap_end")
    if how == 3:
        writer.write_eof()  # half a connection is none
        assert await asyncio.wait_for(reader.read(), 10) is not None
    if how % 2:
        writer.transport.abort()
    else:
        writer.close()
