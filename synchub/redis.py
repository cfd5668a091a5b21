"""The one place that builds Redis clients.

redis-py retries writes on its own, which doubles an INCRBY whose answer was
lost; every client made here has that switched off. A command that was sent and
not answered is :class:`OutcomeUnknown`, one that was never sent or was refused
by the server is :class:`StoreUnavailable`, and nothing in between.

The hot path uses :class:`CoalescingRedis`: commands of many tasks share one
connection and leave in one write, so that with ``appendfsync always`` they also
share one fsync.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import redis.asyncio as aioredis
from arq.connections import ArqRedis
from arq.connections import RedisSettings as ArqSettings
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from synchub.errors import OutcomeUnknown, StoreUnavailable, UnsafeStore
from synchub.kit.tasks import end

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio.connection import AbstractConnection

    from synchub.settings import RedisSettings

Part = str | bytes | int | float
"""What one part of a command may be."""

LOST: Final = (RedisConnectionError, RedisTimeoutError, OSError, asyncio.IncompleteReadError)
"""What a broken connection raises."""

REFUSED: Final = (BusyLoadingError, ReadOnlyError, OutOfMemoryError)
_NOT_ACCEPTED: Final = "The store does not accept commands at the moment."
_NOT_ANSWERED: Final = "The store did not answer in time; the change may or may not have happened."
_REFUSED_WORDS: Final = (
    "MISCONF",
    "LOADING",
    "READONLY",
    "OOM",
    "BUSY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "NOREPLICAS",
)


def open_redis(settings: RedisSettings, *, blocking_ms: int = 0, connections_max: int = 32) -> aioredis.Redis:
    """Build a client with bounded waits and no retries of its own.

    ``blocking_ms`` is added to the time-out for clients that send blocking reads.
    """
    pool = _pool(settings.url, settings, blocking_ms=blocking_ms, connections_max=connections_max)
    return aioredis.Redis.from_pool(pool)


def _pool(url: str, settings: RedisSettings, *, blocking_ms: int, connections_max: int) -> ConnectionPool:
    # A Unix socket knows no keep-alive, and redis-py refuses the word there.
    keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}
    return ConnectionPool.from_url(
        url,
        max_connections=connections_max,
        retry=Retry(NoBackoff(), 0),
        retry_on_timeout=False,
        socket_timeout=(settings.command_timeout_ms + blocking_ms) / 1000,
        socket_connect_timeout=settings.connect_timeout_ms / 1000,
        health_check_interval=0,
        **keepalive,
    )


def queue_settings(settings: RedisSettings) -> ArqSettings:
    """Return where arq keeps its jobs, as arq wants it said."""
    return replace(
        ArqSettings.from_dsn(settings.queue_url or settings.url),
        conn_timeout=max(1, settings.connect_timeout_ms // 1000),
        conn_retries=0,
        retry_on_error=[],
    )


def open_queue(settings: RedisSettings) -> ArqRedis:
    """Build a client that enqueues jobs; it connects when it is first used."""
    pool = _pool(settings.queue_url or settings.url, settings, blocking_ms=0, connections_max=4)
    return ArqRedis(pool_or_conn=pool)


@contextlib.contextmanager
def store_errors() -> Iterator[None]:
    """Turn what redis-py raises into the hub's own faults.

    Raises:
        OutcomeUnknown: the connection broke or the time ran out after sending.
        StoreUnavailable: the server refused the command as a whole.
    """
    try:
        yield
    except (*LOST, RedisError) as problem:
        if isinstance(problem, RedisError) and is_refusal(problem):
            raise StoreUnavailable(_NOT_ACCEPTED, retry_after_s=1) from problem
        if isinstance(problem, LOST):
            raise OutcomeUnknown(_NOT_ANSWERED, retry_after_s=1) from problem
        raise


def is_refusal(problem: RedisError) -> bool:
    """Say whether the server refused to execute anything (as opposed to a mistake in the command)."""
    return isinstance(problem, REFUSED) or str(problem).lstrip("-").startswith(_REFUSED_WORDS)


class CoalescingRedis:
    """Many tasks, one connection, one write per turn.

    Safe for any command that neither blocks nor changes the connection's state.
    Order of execution is the order of the calls. After a failure the connection
    is built anew by the next call; calls made meanwhile fail, they do not pile up.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._pool = open_redis(settings).connection_pool
        self._waiting: deque[tuple[tuple[Part, ...], asyncio.Future[Any]]] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._connection: AbstractConnection | None = None

    @property
    def waiting(self) -> int:
        """Commands not yet sent."""
        return len(self._waiting)

    async def execute(self, *command: Part) -> Any:
        """Send one command and return its answer.

        Raises:
            OutcomeUnknown: sent, and not answered.
            StoreUnavailable: not sent, or refused by the server.
            ResponseError: the command itself was wrong.
        """
        if len(self._waiting) >= self._settings.waiting_max:
            msg = "Too many commands wait for the store."
            raise StoreUnavailable(msg, retry_after_s=1)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="coalescing-redis")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        self._wake.set()
        return await answer

    async def close(self) -> None:
        """Stop, failing whatever still waits."""
        await end(self._task)
        self._fail(self._take(), StoreUnavailable("The hub is stopping.", retry_after_s=1))
        await self._drop_connection()
        await self._pool.disconnect()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch = self._take()
            if not self._waiting:
                self._wake.clear()
            try:
                await self._exchange(batch)
            except asyncio.CancelledError:
                self._fail(batch, StoreUnavailable("The hub is stopping.", retry_after_s=1))
                raise

    def _take(self) -> list[tuple[tuple[Part, ...], asyncio.Future[Any]]]:
        count = min(len(self._waiting), self._settings.pipeline_max)
        return [self._waiting.popleft() for _ in range(count)]

    async def _exchange(self, batch: list[tuple[tuple[Part, ...], asyncio.Future[Any]]]) -> None:
        try:
            connection = await self._connect()
        except (*LOST, RedisError):
            await self._drop_connection()
            self._fail(batch, StoreUnavailable("The store cannot be reached.", retry_after_s=1))
            return
        try:
            async with asyncio.timeout(self._settings.command_timeout_ms / 1000):
                await connection.send_packed_command(
                    connection.pack_commands([command for command, _ in batch]), check_health=False
                )
                for _, answer in batch:
                    _settle(answer, await _read(connection))
        except (*LOST, TimeoutError):
            await self._drop_connection()
            self._fail(batch, OutcomeUnknown(_NOT_ANSWERED, retry_after_s=1))

    async def _connect(self) -> AbstractConnection:
        if self._connection is None or not self._connection.is_connected:
            connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py
            # Kept before it is open, so that an attempt which fails or is cancelled half-way is closed too.
            self._connection = connection
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py
            # The whole exchange has one deadline; a second one per answer would only cost time.
            self._connection.socket_timeout = None
        return self._connection

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    @staticmethod
    def _fail(batch: list[tuple[tuple[Part, ...], asyncio.Future[Any]]], fault: Exception) -> None:
        for _, answer in batch:
            if not answer.done():
                answer.set_exception(fault)


async def _read(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(disconnect_on_error=False)
    except (ResponseError, BusyLoadingError) as problem:
        return problem


def _settle(answer: asyncio.Future[Any], value: Any) -> None:
    if answer.done():
        return
    if not isinstance(value, RedisError):
        answer.set_result(value)
    elif is_refusal(value):
        fault = StoreUnavailable(_NOT_ACCEPTED, retry_after_s=1)
        fault.__cause__ = value
        answer.set_exception(fault)
    else:
        answer.set_exception(value)


async def check_store(client: aioredis.Redis) -> list[str]:
    """Return what makes this server unsafe to keep stock in, one sentence each; empty when safe.

    Each sentence says what to change. Asked at start and by ``/readyz``.
    """
    with store_errors():
        info = await client.info()
        config = await _configuration(client)
    problems = []
    version = tuple(int(part) for part in str(info.get("redis_version", "0.0")).split(".")[:2])
    if version < (7, 0):
        problems.append(f"Redis {info.get('redis_version')} is too old; use Redis 7.0, Valkey 7.2 or newer.")
    if info.get("role") == "slave":
        problems.append("The server is a replica; point redis.url at the primary.")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        problems.append(f"maxmemory-policy is {policy}, which deletes stock; set it to noeviction.")
    if not int(info.get("aof_enabled", 0)):
        problems.append("The append-only file is off, so a restart loses stock; set appendonly yes.")
    if config.get("appendfsync") == "no":
        problems.append("appendfsync is no, so power loss loses minutes; set it to always or everysec.")
    return problems


async def durability(client: aioredis.Redis) -> str:
    """Return ``always``, ``everysec``, ``no`` or ``unknown``: what an acknowledged write survives."""
    return (await _configuration(client)).get("appendfsync", "unknown")


def refuse_unsafe(problems: list[str]) -> None:
    """Raise when there are any.

    Raises:
        UnsafeStore: with every sentence of :func:`check_store`.
    """
    if problems:
        raise UnsafeStore(" ".join(["This Redis is not safe for stock.", *problems]))


async def _configuration(client: aioredis.Redis) -> dict[str, str]:
    """Hosted servers forbid CONFIG; what they do not tell is unknown, not unsafe."""
    try:
        answer: dict[Any, Any] = await client.config_get("appendfsync")
    except ResponseError as problem:
        if is_refusal(problem):
            raise
        return {}
    return {_text(name): _text(value) for name, value in answer.items()}


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
