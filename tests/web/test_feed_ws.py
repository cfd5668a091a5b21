"""What an agent sees that follows over a WebSocket: the same feed, requests, and every way to part."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from typing import TYPE_CHECKING

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError

from synchub import metrics
from synchub.feed.model import ByeReason
from synchub.kit.clock import monotonic_ms
from synchub.web import feed_ws
from tests.support.feed import Client, Site, Store, at_once, covers_follow, levels_up_to, serving_feed
from tests.support.feed_sockets import socket_to
from tests.support.wait import eventually

if TYPE_CHECKING:
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


async def at_rest(site: Site) -> None:
    await eventually(lambda: site.feed.readers == 0, what="all readers gone")


class TestTheSameFeed:
    async def test_frames_are_those_of_the_other_rendering(self, site: Site, store: Store) -> None:
        store.change("TEE")
        async with site.connect() as stream, socket_to(site) as socket:
            for client in (stream, socket):
                hello, snap, end = await client.caught_up()
                assert (hello.event, hello.data["resume"]) == ("hello", "snapshot")
                assert (snap.skus, end.data["seq"]) == (["TEE"], 1)
            for sku, level in (("TEE", 3), ("CAP", 0), ("TEE", 4)):
                store.change(sku, level)
                told = await stream.next("upd")
                assert await socket.next("upd") == told
                assert told.id is not None

    async def test_a_position_is_continued_whichever_rendering_it_came_from(
        self, site: Site, store: Store
    ) -> None:
        store.change("TEE")
        async with socket_to(site) as socket:
            over_socket = (await socket.caught_up())[-1].id
        store.change("TEE", 2)
        async with site.connect(last=over_socket) as stream:
            assert (await stream.next()).data["resume"] == "replay"
            missed = await stream.next()
        async with socket_to(site, f"?from={over_socket}") as socket:
            assert (await socket.next()).data["resume"] == "replay"
            assert (await socket.next()).data["items"] == missed.data["items"]

    async def test_a_position_that_cannot_be_continued_is_forgotten(self, site: Site, store: Store) -> None:
        store.change("TEE")
        async with socket_to(site, "?from=nonsense") as socket:
            hello, reset, snap, _ = await socket.caught_up()
        assert (hello.data["resume"], reset.data["reason"], reset.id) == ("reset", "cursor", "")
        assert snap.skus == ["TEE"]

    @pytest.mark.parametrize("skus", [1, 5, 600])
    async def test_messages_of_every_length_are_whole(self, redis_url: str, store: Store, skus: int) -> None:
        at_once(store, {f"SKU-{number:04}-{'x' * 40}": number for number in range(skus)})
        async with serving_feed(redis_url, snapshot_part=1000) as site, socket_to(site) as socket:
            snap = await socket.next("snap")
        assert len(snap.skus) == skus

    async def test_a_filter_and_a_bound_are_granted_as_over_the_stream(
        self, site: Site, store: Store
    ) -> None:
        async with socket_to(site, "?prefix=A-&bound_ms=500") as socket:
            hello, _ = await socket.caught_up()
            store.change("B-1")
            store.change("A-1")
            upd = await socket.next("upd")
            assert upd.skus == ["A-1"]
            await socket.next("hb")
        assert (hello.data["bound_ms"], hello.data["hb_ms"]) == (500, 166)

    async def test_nothing_is_compressed_even_if_the_client_could(self, site: Site) -> None:
        headers = {"Authorization": "Bearer acme.shopper"}
        url = site.server.make_url("/v1/feed/ws")
        async with site.session.ws_connect(url, headers=headers, compress=15) as socket:
            assert socket.compress == 0
            message = await socket.receive()
        assert message.type is WSMsgType.TEXT

    async def test_no_change_is_lost_while_many_follow_over_both(self, site: Site, store: Store) -> None:
        async with contextlib.AsyncExitStack() as stack:
            clients: list[Client] = []
            clients += [await stack.enter_async_context(socket_to(site)) for _ in range(5)]
            clients += [await stack.enter_async_context(site.connect()) for _ in range(5)]
            for number in range(60):
                store.change(f"S{number % 9}", number)
                if number % 20 == 10:
                    await clients[number % 10].next("upd", "hb")
            levels = [await levels_up_to(client, store.seq) for client in clients]
            assert all(covers_follow(client) for client in clients)
        newest = {f"S{number % 9}": number for number in range(60)}
        assert levels == [newest] * 10


class TestRequests:
    async def test_an_anchor_tells_the_hub_s_time_and_the_number_it_was_asked_with(self, site: Site) -> None:
        async with socket_to(site) as socket:
            hello = await socket.next("hello")
            for number in (0, 7, 2**53):
                before = monotonic_ms()
                await socket.ask({"anchor": number})
                anchor = await socket.next("anchor")
                assert anchor.data["n"] == number
                assert hello.data["st"] <= before <= anchor.data["st"] <= monotonic_ms()
                assert anchor.id is None

    async def test_a_ping_is_answered_with_what_it_carried(self, site: Site) -> None:
        async with socket_to(site) as socket:
            await socket.socket.ping(b"are you there")
            while (message := await socket.socket.receive()).type is WSMsgType.TEXT:
                pass
        assert (message.type, message.data) == (WSMsgType.PONG, b"are you there")

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("not json", 1007),
            ("[]", 1007),
            ('{"anchor": 1, "anchor": 2}', 1007),
            ("{}", 1008),
            ('{"anchor": -1}', 1008),
            ('{"anchor": true}', 1008),
            ('{"anchor": "1"}', 1008),
            ('{"anchor": 9007199254740993}', 1008),
            ('{"anchor": 1, "set": []}', 1008),
            ('{"subscribe": "everything"}', 1008),
            ("x" * (feed_ws.MESSAGE_MAX_BYTES + 1), 1009),
        ],
    )
    async def test_what_cannot_be_understood_ends_the_connection(
        self, site: Site, text: str, code: int
    ) -> None:
        async with socket_to(site) as socket:
            await socket.socket.send_str(text)
            assert await socket.closed() == code
        await at_rest(site)

    async def test_binary_messages_are_none_of_ours(self, site: Site) -> None:
        async with socket_to(site) as socket:
            await socket.socket.send_bytes(b'{"anchor": 1}')
            assert await socket.closed() == 1003

    async def test_who_asks_too_often_is_let_go_and_others_stay(self, site: Site) -> None:
        async with socket_to(site) as patient, socket_to(site) as hasty:
            for number in range(feed_ws.MESSAGES_AT_ONCE + 10):
                with contextlib.suppress(ConnectionError):
                    await hasty.ask({"anchor": number})
            assert await hasty.closed() == 1008
            await patient.ask({"anchor": 1})
            assert (await patient.next("anchor")).data["n"] == 1

    async def test_pings_count_as_messages(self, site: Site) -> None:
        async with socket_to(site) as socket:
            for _ in range(feed_ws.MESSAGES_AT_ONCE + 10):
                with contextlib.suppress(ConnectionError):
                    await socket.socket.ping()
            with contextlib.suppress(EOFError):
                while True:
                    message = await socket.socket.receive()
                    if message.type not in {WSMsgType.TEXT, WSMsgType.PONG}:
                        break
            assert socket.socket.close_code == 1008

    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            (b"\xc1\x82\0\0\0\0{}", 1002),  # a bit that no extension has claimed
            (b"\x83\x82\0\0\0\0{}", 1002),  # an opcode that there is none of
            (b"\x80\x82\0\0\0\0{}", 1002),  # the continuation of nothing
            (b"\x81\x82\0\0\0\0\xff\xfe", 1007),  # no UTF-8
        ],
    )
    async def test_who_breaks_the_protocol_is_told_so(self, site: Site, frame: bytes, code: int) -> None:
        async with raw_socket(site) as (reader, writer):
            writer.write(frame)
            assert await close_frame(reader) == code
        await at_rest(site)

    async def test_a_request_may_come_in_fragments(self, site: Site) -> None:
        async with raw_socket(site) as (reader, writer):
            for first, part in ((0x01, b'{"anc'), (0x00, b'hor"'), (0x80, b": 5}")):
                writer.write(bytes((first, 0x80 | len(part))) + b"\0\0\0\0" + part)
            await asyncio.wait_for(reader.readuntil(b'"event":"anchor","n":5'), 5)


class TestParting:
    async def test_the_clients_close_is_answered_and_nothing_follows_it(
        self, site: Site, store: Store
    ) -> None:
        async with raw_socket(site) as (reader, writer):
            await snapshot_read(reader)
            writer.write(b"\x88\x82\0\0\0\0" + struct.pack("!H", 1000))
            assert await close_frame(reader) == 1000
            store.change("TEE")
            assert await asyncio.wait_for(reader.read(), 5) == b""
        await at_rest(site)

    async def test_nothing_follows_the_hubs_own_close_either(self, site: Site, store: Store) -> None:
        async with raw_socket(site) as (reader, writer):
            await snapshot_read(reader)
            writer.write(b"\x82\x82\0\0\0\0{}")
            assert await close_frame(reader) == 1003
            store.change("TEE")
            assert await asyncio.wait_for(reader.read(), feed_ws.CLOSE_WITHIN_S + 5) == b""

    @pytest.mark.parametrize(
        ("reason", "code"),
        [(ByeReason.DRAIN, 1012), (ByeReason.LIMIT, 1001), (ByeReason.SLOW, 1013), (ByeReason.AUTH, 1008)],
    )
    async def test_the_hub_says_good_bye_before_it_closes(
        self, site: Site, reason: ByeReason, code: int
    ) -> None:
        async with socket_to(site) as socket:
            await socket.caught_up()
            site.feed.dismiss("acme", "shopper", reason)
            bye = await socket.next("bye")
            assert bye.data["reason"] == reason
            assert await socket.closed() == code
        await at_rest(site)

    async def test_draining_ends_them_too(self, site: Site) -> None:
        async with socket_to(site) as socket:
            await socket.caught_up()
            await site.feed.drain(20)
            assert (await socket.next("bye")).data["reason"] == "drain"
            assert await socket.closed() == 1012
            with pytest.raises(WSServerHandshakeError) as refused:
                async with socket_to(site):
                    pass
        assert refused.value.status == 503

    async def test_a_peer_that_does_not_answer_the_close_is_not_waited_for(self, site: Site) -> None:
        async with raw_socket(site) as (reader, _):
            await snapshot_read(reader)
            site.feed.dismiss("acme", "shopper")
            assert await close_frame(reader) == 1008
            assert await asyncio.wait_for(reader.read(), feed_ws.CLOSE_WITHIN_S + 5) == b""
        await at_rest(site)

    async def test_half_a_connection_is_ended(self, site: Site) -> None:
        async with raw_socket(site) as (reader, writer):
            await snapshot_read(reader)
            writer.write_eof()
            await at_rest(site)

    async def test_who_takes_nothing_is_let_go_and_others_go_on(self, redis_url: str, store: Store) -> None:
        async with (
            serving_feed(redis_url, buffer_max_bytes=8192, owed_max_ms=200) as site,
            socket_to(site) as client,
        ):
            await client.caught_up()
            gone = metrics.feed_byes.labels("slow")._value.get()
            async with raw_socket(site, key="acme.stuck", receive_bytes=4096):
                await eventually(lambda: site.feed.readers == 2)
                for number in range(3000):
                    at_once(store, {f"S{number}-{one}": 9 for one in range(20)})
                    await client.next("upd")
                    if site.feed.readers == 1:
                        break
                assert site.feed.readers == 1
            assert metrics.feed_byes.labels("slow")._value.get() == gone + 1
            store.change("LAST")
            assert (await client.next("upd")).skus == ["LAST"]
            assert covers_follow(client)


class TestRefusals:
    @pytest.mark.parametrize(
        ("query", "key", "status"),
        [("", "", 401), ("?sku=", "acme.shopper", 422), ("?sku=A&prefix=A", "acme.shopper", 422)],
    )
    async def test_who_may_not_follow_is_refused_before_the_upgrade(
        self, site: Site, query: str, key: str, status: int
    ) -> None:
        with pytest.raises(WSServerHandshakeError) as refused:
            async with socket_to(site, query, key=key):
                pass
        assert refused.value.status == status
        assert site.feed.readers == 0

    async def test_without_an_upgrade_the_answer_is_a_problem(self, site: Site) -> None:
        headers = {"Authorization": "Bearer acme.shopper"}
        async with site.session.get(site.server.make_url("/v1/feed/ws"), headers=headers) as refused:
            assert refused.status == 422
            assert (await refused.json())["code"] == "invalid_request"

    async def test_there_are_no_subprotocols_to_hide_a_key_in(self, site: Site) -> None:
        url = site.server.make_url("/v1/feed/ws")
        headers = {"Authorization": "Bearer acme.shopper"}
        with pytest.raises(WSServerHandshakeError) as refused:
            await site.session.ws_connect(url, headers=headers, protocols=("bearer", "secret"))
        assert refused.value.status == 422

    async def test_connections_are_counted_with_those_of_the_other_rendering(self, redis_url: str) -> None:
        async with serving_feed(redis_url, readers_per_agent=2) as site:
            async with site.connect() as stream, socket_to(site) as socket:
                await stream.next("hello")
                await socket.next("hello")
                with pytest.raises(WSServerHandshakeError) as refused:
                    async with socket_to(site):
                        pass
                assert refused.value.status == 429
            await at_rest(site)
            async with socket_to(site) as again:
                await again.next("hello")


@contextlib.asynccontextmanager
async def raw_socket(
    site: Site, *, key: str = "acme.shopper", receive_bytes: int | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A WebSocket without a library, after the upgrade."""
    limit = {} if receive_bytes is None else {"limit": receive_bytes}
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port, **limit)
    lines = [
        "GET /v1/feed/ws HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {key}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {os.urandom(16).hex()[:22]}==",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield reader, writer
    finally:
        writer.transport.abort()


async def close_frame(reader: asyncio.StreamReader) -> int:
    """Read frames up to the close and return its code."""
    while True:
        first, payload = await one_frame(reader)
        if first == 0x88:
            [code] = struct.unpack("!H", payload[:2])
            return int(code)


async def snapshot_read(reader: asyncio.StreamReader) -> None:
    """Read frames up to the end of the snapshot."""
    while b'"event":"snap_end"' not in (await one_frame(reader))[1]:
        pass


async def one_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(5):
        first, size = await reader.readexactly(2)
        if size == 126:
            [size] = struct.unpack("!H", await reader.readexactly(2))
        elif size == 127:
            [size] = struct.unpack("!Q", await reader.readexactly(8))
        return first, await reader.readexactly(size)
