"""The guards of ``tests/conftest.py`` do catch what they are there for."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
from blockbuster import BlockingError

from tests.support.loopback import OffLoopback

if TYPE_CHECKING:
    from tests.conftest import StartValkey
    from tests.support.valkey import Valkey


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("10.0.0.1", 80), ("2001:db8::1", 80, 0, 0)])
def test_connection_to_another_machine_fails_the_test(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as connection, pytest.raises(OffLoopback):
        connection.connect(address)


async def test_event_loop_cannot_leave_the_machine() -> None:
    with pytest.raises(OffLoopback):
        await asyncio.open_connection("example.org", 80)


def test_listening_for_everybody_fails_the_test() -> None:
    with socket.socket() as listener, pytest.raises(OffLoopback):
        listener.bind(("0.0.0.0", 0))  # noqa: S104 - this is what must be refused


def test_loopback_is_open(redis_url: str) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    socket.create_connection(("127.0.0.1", port), timeout=5).close()


async def test_blocking_call_in_our_code_fails_an_async_test() -> None:
    with pytest.raises(BlockingError):
        _code_of_ours("import time\ntime.sleep(0.001)")


@pytest.mark.blocking_allowed
async def test_marked_test_may_block() -> None:
    _code_of_ours("import time\ntime.sleep(0.001)")


def test_blocking_call_outside_a_loop_is_nothing_special() -> None:
    _code_of_ours("import time\ntime.sleep(0.001)")


def test_killed_server_comes_back_at_the_same_address(own_valkey: StartValkey) -> None:
    server = own_valkey()
    url, pid = server.url, server.pid
    server.restart()
    assert server.url == url
    assert server.pid != pid


def test_store_is_empty_when_a_test_begins(redis_url: str, valkey: Valkey) -> None:
    with valkey.client() as client:
        assert client.dbsize() == 0
        client.set("left behind", redis_url)


def test_store_is_empty_again_for_the_next_test(redis_url: str, valkey: Valkey) -> None:
    with valkey.client() as client:
        assert client.dbsize() == 0


def _code_of_ours(source: str) -> None:
    """Run a snippet as if it stood in the hub: the guard goes by the file that calls."""
    import synchub

    exec(compile(source, f"{synchub.__path__[0]}/snippet.py", "exec"), {})  # noqa: S102 - our own two lines
