"""What changes when a setting of the store is changed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from synchub.errors import OutcomeUnknown, StoreUnavailable, UnsafeStore
from synchub.hub import check_start
from synchub.kit.tasks import end
from synchub.redis import CoalescingRedis, open_queue, open_redis, store_errors
from synchub.settings import RedisSettings
from tests.support.deliveries import body_of, level
from tests.support.hub import opened_hub, running_hub, settings_with
from tests.support.wait import eventually
from workers import lifecycle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartValkey
    from tests.support.valkey import Valkey

AT_ONCE_S = 0.8
"""Shorter than every default of the waits below, and longer than a busy machine needs."""


def database(url: str, number: int) -> str:
    return f"{url.removesuffix('/0')}/{number}"


def keys(valkey: Valkey, number: int) -> set[str]:
    with Redis(host="127.0.0.1", port=valkey.port, db=number, decode_responses=True) as client:
        return set(client.scan_iter())


async def test_stock_lies_in_the_database_of_the_url(redis_url: str, valkey: Valkey) -> None:
    async with running_hub(database(redis_url, 1)) as site:
        await site.post(body_of(level("TEE", 4), sequence=1))
        await site.drained()
        assert (await site.stock("TEE"))["available"] == 4
    assert keys(valkey, 1)
    assert keys(valkey, 0) == set()


# -------------------------------------------------------------------------------------------------- the queue


async def test_jobs_are_put_where_the_queue_url_says(redis_url: str, valkey: Valkey) -> None:
    queue = open_queue(RedisSettings(url=redis_url, queue_url=database(redis_url, 1)))
    await queue.enqueue_job("fetch_levels", "acme-standard")
    await queue.aclose()
    assert "arq:queue" in keys(valkey, 1)
    assert keys(valkey, 0) == set()


# arq closes its connections by a name that redis-py no longer likes.
@pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")
async def test_a_worker_takes_its_jobs_from_where_the_queue_url_says(redis_url: str, valkey: Valkey) -> None:
    settings = settings_with(redis_url, redis={"queue_url": database(redis_url, 1)})
    async with opened_hub(settings) as hub:
        working = asyncio.create_task(lifecycle._run_all(hub))
        await eventually(lambda: has_done_a_job(keys(valkey, 1)), what="a worker at the queue")
        await end(working)
    assert not any(key.startswith("arq:") for key in keys(valkey, 0))


def has_done_a_job(found: set[str]) -> bool:
    """Every worker does one as it starts; its mark stays for a minute, its place in the queue does not."""
    return "arq:queue" not in found and any(key.startswith("arq:in-progress:cron:tidy") for key in found)


# -------------------------------------------------------------------------------------------------- the waits


async def test_a_command_on_the_hot_path_is_given_up_after_the_command_timeout(
    own_valkey: StartValkey,
) -> None:
    valkey = own_valkey()
    client = CoalescingRedis(RedisSettings(url=valkey.url, command_timeout_ms=100))
    await client.execute("PING")
    valkey.freeze()
    async with asyncio.timeout(AT_ONCE_S):
        with pytest.raises(OutcomeUnknown):
            await client.execute("PING")
    valkey.thaw()
    await client.close()


async def test_every_other_command_is_given_up_after_the_command_timeout(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    client = open_redis(RedisSettings(url=valkey.url, command_timeout_ms=100))
    await client.ping()
    valkey.freeze()
    async with asyncio.timeout(AT_ONCE_S):
        with pytest.raises(OutcomeUnknown), store_errors():
            await client.ping()
    valkey.thaw()
    await client.aclose()


async def test_a_connection_that_is_not_accepted_is_given_up_after_the_connect_timeout(
    unaccepting: str,
) -> None:
    client = CoalescingRedis(RedisSettings(url=unaccepting, connect_timeout_ms=100))
    async with asyncio.timeout(AT_ONCE_S):
        with pytest.raises(StoreUnavailable):
            await client.execute("PING")
    await client.close()


@pytest.fixture
def unaccepting() -> Iterator[str]:
    """A server whose queue of unaccepted connections is full, so that the kernel answers nobody."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            caller = sockets.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(address)
        yield f"redis://127.0.0.1:{address[1]}/0"


# ------------------------------------------------------------------------------------------- an unsafe server


async def test_a_hub_refuses_to_start_on_an_unsafe_server(own_valkey: StartValkey) -> None:
    valkey = own_valkey(appendfsync="no")
    async with opened_hub(settings_with(valkey.url)) as hub:
        with pytest.raises(UnsafeStore, match="appendfsync"):
            await check_start(hub)


async def test_a_hub_told_to_report_only_starts_on_an_unsafe_server_and_is_ready(
    own_valkey: StartValkey,
) -> None:
    valkey = own_valkey(appendfsync="no")
    async with running_hub(valkey.url, redis={"unsafe": "report"}) as site:
        await check_start(site.hub)
        assert (await site.ask("GET", "/readyz")).status == 200


async def test_a_hub_told_to_report_only_is_not_ready_before_it_knows_its_accounts(redis_url: str) -> None:
    async with running_hub(redis_url, redis={"unsafe": "report"}) as site:
        site.hub.directory.loaded.clear()
        heard = await site.ask("GET", "/readyz")
        assert heard.status == 503
        assert b"Accounts" in heard.body
