"""The proxy that the fault tests rely on does what its toxics say."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.wait import a_turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def echoing(prefix: bytes = b"") -> AsyncIterator[int]:
    """A server that sends back what it gets, and closes when its client has ended."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65_536):
                writer.write(prefix + piece)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    async with echoing() as port, FaultProxy(port) as listening:
        yield listening


async def test_what_is_sent_arrives(proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()


async def test_latency_is_added_to_both_directions(proxy: FaultProxy) -> None:
    proxy.requests.latency_s = proxy.replies.latency_s = 0.1
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    started = asyncio.get_running_loop().time()
    writer.write(b"hello")
    await reader.readexactly(5)
    assert asyncio.get_running_loop().time() - started >= 0.2
    writer.close()


async def test_a_narrow_line_lets_so_many_bytes_pass_in_a_second(proxy: FaultProxy) -> None:
    proxy.replies.bytes_per_s = 50_000
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    started = asyncio.get_running_loop().time()
    writer.write(b"x" * 20_000)
    await reader.readexactly(20_000)
    assert asyncio.get_running_loop().time() - started >= 0.35
    writer.close()


async def test_a_black_hole_swallows_everything_and_loses_nothing(proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"before")
    await reader.readexactly(6)
    proxy.hole()
    writer.write(b"into")
    late, late_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    late_writer.write(b"late")
    for connection in (reader, late):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await connection.read(1)
    proxy.mend()
    assert await reader.readexactly(4) == b"into"
    assert await late.readexactly(4) == b"late"
    writer.close()
    late_writer.close()


async def test_a_reset_cuts_off_and_new_connections_are_served(proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"x")
    await reader.readexactly(1)
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"again")
    assert await reader.readexactly(5) == b"again"
    assert proxy.accepted == 2
    writer.close()


async def test_a_slow_close_is_passed_on_later(proxy: FaultProxy) -> None:
    proxy.replies.close_after_s = 0.2
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"x")
    await reader.readexactly(1)
    started = asyncio.get_running_loop().time()
    writer.write_eof()
    await a_turn()
    assert await reader.read() == b""
    assert asyncio.get_running_loop().time() - started >= 0.2
    writer.close()


async def test_a_fail_over_leads_to_the_other_server(proxy: FaultProxy) -> None:
    async with echoing(b"other:") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"x")
        await reader.readexactly(1)
        proxy.turn_to(port)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"x")
        assert await reader.readexactly(7) == b"other:x"
        writer.close()
