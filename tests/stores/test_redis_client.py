"""The store's clients on a bad line: nothing is done twice, and what is not known is not claimed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import RedisError, ResponseError

from synchub.errors import OutcomeUnknown, StoreUnavailable
from synchub.redis import RUN, CoalescingRedis, open_redis, store_errors
from synchub.safety import check_store
from synchub.settings import RedisSettings
from tests.support.processes import free_port
from tests.support.proxy import Proxy
from tests.support.wait import a_turn, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.redis import Connected
    from tests.conftest import StartValkey
    from tests.support.valkey import Valkey


@pytest.fixture
async def line(redis_url: str, valkey: Valkey) -> AsyncIterator[Proxy]:
    """The way to the shared store, which the test may disturb."""
    assert redis_url
    async with Proxy(valkey.port) as proxy:
        yield proxy


@pytest.fixture
async def redis(line: Proxy) -> AsyncIterator[CoalescingRedis]:
    """The hot path's client at the end of that line."""
    client = CoalescingRedis(quick(line.url))
    yield client
    await client.close()


def quick(url: str, **more: int) -> RedisSettings:
    waits: dict[str, Any] = {"command_timeout_ms": 200, "connect_timeout_ms": 200, **more}
    return RedisSettings(url=url, **waits)


def stored(valkey: Valkey, key: str = "n") -> int:
    with valkey.client() as client:
        return int(client.get(key) or 0)


async def test_a_lost_reply_does_not_repeat_the_command(
    redis: CoalescingRedis, line: Proxy, valkey: Valkey
) -> None:
    assert await redis.execute("INCR", "n") == 1
    line.drop_reply_once(b"INCR")
    with pytest.raises(OutcomeUnknown):
        await redis.execute("INCR", "n")
    assert stored(valkey) == 2
    assert await redis.execute("INCR", "n") == 3


async def test_the_ordinary_client_does_not_repeat_it_either(line: Proxy, valkey: Valkey) -> None:
    client = open_redis(quick(line.url))
    line.drop_reply_once(b"INCR")
    with pytest.raises(OutcomeUnknown), store_errors():
        await client.incr("n")
    assert stored(valkey) == 1
    assert await client.incr("n") == 2
    await client.aclose()


async def test_a_lost_reply_of_a_transaction_does_not_repeat_it(line: Proxy, valkey: Valkey) -> None:
    client = open_redis(quick(line.url))
    line.drop_reply_once(b"EXEC")
    async with client.pipeline(transaction=True) as pipe:
        pipe.incr("n")
        pipe.incr("n")
        with pytest.raises(OutcomeUnknown), store_errors():
            await pipe.execute()
    assert stored(valkey) == 2
    await client.aclose()


async def test_a_line_that_swallows_everything_is_an_unknown_outcome(
    redis: CoalescingRedis, line: Proxy, valkey: Valkey
) -> None:
    await redis.execute("PING")
    line.hole()
    with pytest.raises(OutcomeUnknown):
        await redis.execute("INCR", "n")
    line.mend()
    # What was swallowed may still arrive, once.
    assert await redis.execute("INCR", "m") == 1
    await eventually(lambda: stored(valkey) in {0, 1})


async def test_a_slow_line_is_waited_for(redis: CoalescingRedis, line: Proxy) -> None:
    line.latency_s = 0.03
    answers = await asyncio.gather(*(redis.execute("INCR", "n") for _ in range(50)))
    assert answers == list(range(1, 51))


async def test_a_store_that_cannot_be_reached_has_changed_nothing(
    redis: CoalescingRedis, line: Proxy, valkey: Valkey
) -> None:
    await redis.execute("PING")
    await line.down()
    # The open connection has been cut: whether this one was sent is not certain.
    with pytest.raises((OutcomeUnknown, StoreUnavailable)):
        await redis.execute("PING")
    with pytest.raises(StoreUnavailable):
        await redis.execute("INCR", "n")
    assert stored(valkey) == 0
    await line.up()
    assert await redis.execute("INCR", "n") == 1


async def test_a_cut_connection_is_replaced_by_the_next_command(redis: CoalescingRedis, line: Proxy) -> None:
    for expected in range(1, 6):
        line.reset()
        await eventually(lambda: sent(redis))
        assert await redis.execute("INCR", "n") == expected
    assert line.connections <= 12


async def test_commands_that_fail_together_fail_each_for_itself(redis: CoalescingRedis, line: Proxy) -> None:
    await redis.execute("SET", "text", "x")
    answers = await asyncio.gather(
        redis.execute("INCR", "n"),
        redis.execute("INCR", "text"),
        redis.execute("NOSUCH"),
        redis.execute("INCR", "n"),
        return_exceptions=True,
    )
    assert answers[0] == 1
    assert answers[3] == 2
    assert isinstance(answers[1], ResponseError)
    assert isinstance(answers[2], ResponseError)
    assert line.connections == 1


async def test_the_order_of_execution_is_that_of_the_calls(redis: CoalescingRedis) -> None:
    await asyncio.gather(*(redis.execute("RPUSH", "list", number) for number in range(2000)))
    assert await redis.execute("LRANGE", "list", 0, -1) == [str(number).encode() for number in range(2000)]


async def test_commands_of_one_turn_share_one_connection(redis: CoalescingRedis, line: Proxy) -> None:
    await asyncio.gather(*(redis.execute("INCR", "n") for _ in range(3000)))
    assert line.connections == 1


async def test_too_many_waiting_commands_are_refused_at_once(line: Proxy, valkey: Valkey) -> None:
    client = CoalescingRedis(quick(line.url, waiting_max=10, command_timeout_ms=1000))
    line.hole()
    waiting = [asyncio.create_task(client.execute("INCR", "n")) for _ in range(40)]
    await a_turn()
    refused = [task for task in waiting if task.done() and isinstance(task.exception(), StoreUnavailable)]
    assert len(refused) == 30
    line.mend()
    answers = await asyncio.gather(*(task for task in waiting if task not in refused))
    assert sorted(answers) == list(range(1, 11))
    assert stored(valkey) == 10
    await client.close()


async def test_a_caller_that_gives_up_does_not_disturb_the_others(redis: CoalescingRedis) -> None:
    first = asyncio.create_task(redis.execute("INCR", "n"))
    second = asyncio.create_task(redis.execute("GET", "n"))
    await a_turn()
    first.cancel()
    assert await second in {b"1", None}
    assert await redis.execute("PING") == b"PONG"


async def test_closing_fails_what_still_waits(line: Proxy) -> None:
    client = CoalescingRedis(quick(line.url, command_timeout_ms=60_000))
    line.hole()
    waiting = asyncio.create_task(client.execute("PING"))
    await a_turn()
    await client.close()
    with pytest.raises(StoreUnavailable):
        await waiting


# ---------------------------------------------------------------------------------- what a server refuses


async def test_a_script_is_told_the_run_of_the_server_that_it_is_sent_to(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    client = CoalescingRedis(quick(valkey.url))
    asked = ("EVAL", "return ARGV[1]", 0, RUN)
    first = await client.execute(*asked)
    await asyncio.to_thread(valkey.restart)
    await eventually(lambda: client.is_cut_off, what="the loss noticed")
    # All of these wait for the new connection.
    second = set(await asyncio.gather(*(client.execute(*asked) for _ in range(3))))
    with valkey.client() as looking:
        assert second == {looking.info("server")["run_id"].encode()} != {first}
    assert client.run.encode() in second
    await client.close()


async def test_nothing_is_sent_to_another_run_before_it_has_been_looked_at(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    client = CoalescingRedis(quick(valkey.url))
    looked: list[object] = []

    async def look(connected: Connected) -> None:
        looked.append(await connected.execute("GET", "n"))

    client.on_run = look
    await client.execute("INCR", "n")
    await asyncio.to_thread(valkey.restart)
    await eventually(lambda: client.is_cut_off, what="the loss noticed")
    await client.execute("INCR", "n")
    assert looked == [None, b"1"]
    await client.close()


async def test_a_look_that_fails_leaves_the_connection_unused(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    client = CoalescingRedis(quick(valkey.url))

    async def look(connected: Connected) -> None:
        raise OutcomeUnknown

    client.on_run = look
    with pytest.raises(OutcomeUnknown):
        await client.execute("INCR", "n")
    assert stored(valkey) == 0
    client.on_run = None
    assert await client.execute("INCR", "n") == 1
    await client.close()


async def test_a_connection_that_is_lost_during_the_look_is_made_anew(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    client = CoalescingRedis(quick(valkey.url))

    async def look(connected: Connected) -> None:
        await connected.execute("PING")
        await asyncio.to_thread(valkey.restart)
        with pytest.raises(OutcomeUnknown):  # so that the loop has heard of the loss before the look is over
            await connected.execute("PING")

    client.on_run = look
    with pytest.raises(StoreUnavailable):
        await client.execute("INCR", "n")
    client.on_run = None
    await eventually(lambda: accepts(client), what="a new connection")
    await client.close()


async def accepts(client: CoalescingRedis) -> bool:
    try:
        return bool(await client.execute("INCR", "n"))
    except StoreUnavailable:
        return False


async def test_a_look_that_breaks_lets_nobody_wait_for_ever(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    client = CoalescingRedis(quick(valkey.url))

    async def look(connected: Connected) -> None:
        raise ValueError

    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report["exception"]))
    client.on_run = look
    with pytest.raises(StoreUnavailable):
        await client.execute("INCR", "n")
    assert [type(report) for report in reports] == [ValueError]
    client.on_run = None
    assert await client.execute("INCR", "n") == 1
    await client.close()


async def test_a_replica_refuses_writes_and_answers_reads(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    client = CoalescingRedis(quick(valkey.url))
    await client.execute("SET", "n", 5)
    await client.execute("REPLICAOF", "127.0.0.1", free_port())
    with pytest.raises(StoreUnavailable):
        await client.execute("INCR", "n")
    assert await client.execute("GET", "n") == b"5"
    await client.execute("REPLICAOF", "NO", "ONE")
    assert await client.execute("INCR", "n") == 6
    await client.close()


async def test_full_memory_is_a_refusal(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    client = CoalescingRedis(quick(valkey.url))
    await client.execute("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(StoreUnavailable):
        await fill(client)
    assert await client.execute("GET", "missing") is None
    await client.execute("CONFIG", "SET", "maxmemory", "0")
    await client.execute("SET", "n", 1)
    await client.close()


async def test_a_busy_script_is_a_refusal_to_everybody_else(own_valkey: StartValkey) -> None:
    valkey = own_valkey(busy_reply_threshold="50")
    spinning, other = (
        CoalescingRedis(quick(valkey.url, command_timeout_ms=5000)),
        CoalescingRedis(quick(valkey.url, command_timeout_ms=5000)),
    )
    spin = asyncio.create_task(spinning.execute("EVAL", "while true do end", 0))
    await eventually(lambda: refuses(other), what="BUSY")
    await other.execute("SCRIPT", "KILL")
    with pytest.raises(RedisError):
        await spin
    assert await other.execute("INCR", "n") == 1
    await spinning.close()
    await other.close()


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("maxmemory-policy", "allkeys-lru", "maxmemory-policy is allkeys-lru"),
        ("appendonly", "no", "append-only file is off"),
        ("appendfsync", "no", "appendfsync is no"),
    ],
)
async def test_an_unsafe_server_is_named_with_what_to_change(
    own_valkey: StartValkey, option: str, value: str, sentence: str
) -> None:
    valkey = own_valkey(**{option.replace("-", "_"): value})
    client = open_redis(quick(valkey.url))
    [problem] = await check_store(client)
    assert sentence in problem
    await client.aclose()


async def sent(redis: CoalescingRedis) -> bool:
    try:
        await redis.execute("PING")
    except (OutcomeUnknown, StoreUnavailable):
        return False
    return True


async def refuses(redis: CoalescingRedis) -> bool:
    try:
        await redis.execute("PING")
    except StoreUnavailable:
        return True
    return False


async def fill(client: CoalescingRedis) -> None:
    for number in range(1000):
        await client.execute("SET", f"key-{number}", "x" * 10_000)
