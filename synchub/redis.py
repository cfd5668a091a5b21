"""The one place that builds Redis clients.

redis-py retries writes on its own, which doubles an INCRBY whose answer was
lost; every client made here has that switched off. A command that was sent and
not answered is :class:`OutcomeUnknown`, one that was never sent or was refused
by the server is :class:`StoreUnavailable`, and nothing in between.

The hot path uses :class:`CoalescingRedis`: commands of many tasks share one
connection and leave in one write, so that with ``appendfsync always`` they also
share one fsync. It knows which run of which server it talks to: where a command
says :data:`RUN`, the name of that run is sent, so that no script can be taken in
by a server that was started anew, or by another one behind the same address.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

import hiredis
import redis.asyncio as aioredis
from arq.connections import ArqRedis
from arq.connections import RedisSettings as ArqSettings
from redis._parsers.base import BaseParser
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

from synchub.errors import Fault, Frozen, OutcomeUnknown, StoreUnavailable
from synchub.kit.clock import now_ms
from synchub.kit.tasks import end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from redis.asyncio.connection import AbstractConnection

    from synchub.settings import RedisSettings

Part = str | bytes | int | float
"""What one part of a command may be."""


class _Run(str):
    """Found in a command by its identity; to a client that does not know it, an empty text."""

    __slots__ = ()


RUN: Final = _Run()
"""Stands in a script's arguments for the run id of the server that the script is sent to."""

LOST: Final = (RedisConnectionError, RedisTimeoutError, OSError, asyncio.IncompleteReadError)
"""What a broken connection raises."""

REFUSED: Final = (BusyLoadingError, ReadOnlyError, OutOfMemoryError)
_INCOMPLETE: Final = object()
_SCRIPTS: Final = frozenset({"EVALSHA", "EVAL"})
_TAG_END: Final = "}"
_STOPPING: Final = "The hub is stopping."
_NOT_ACCEPTED: Final = "The store does not accept commands at the moment."
_NOT_REACHED: Final = "The store cannot be reached."
_AWAY: Final = "The store has been away for some time; the hub goes on by itself when it is back."
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
    "FROZEN",
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
    # Not by its constructor, which would leave the connections open when the client is closed.
    return cast("ArqRedis", ArqRedis.from_pool(pool))


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
    """Many tasks, one connection, one write per turn of the event loop.

    Safe for any command that does not change the connection's state. One that blocks
    holds up whatever comes after it, so a caller with blocking reads has its own
    (``blocking_ms`` is added to the time-out).
    Order of execution is the order of the calls. After a failure the connection
    is built anew by the next call. redis-py opens it (authentication, TLS); then
    replies are parsed as they arrive, since one awaited read per reply costs a
    sixth of a receiver's throughput.
    """

    def __init__(self, settings: RedisSettings, *, blocking_ms: int = 0) -> None:
        self._settings = settings
        self._timeout_s = (settings.command_timeout_ms + blocking_ms) / 1000
        self._pool = open_redis(settings).connection_pool
        self._unsent: list[tuple[tuple[Part, ...], asyncio.Future[Any]]] = []
        self._pipe: _Pipe | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._is_closed = False
        self.run = ""
        """Run id of the server that it last talked to; empty before the first time."""
        self.heads: dict[str, tuple[str, int]] = {}
        """Of each merchant the furthest head that this client was told: epoch and ledger sequence."""
        self.moved_ms: dict[str, int] = {}
        """When it was told so."""
        self.on_run: Callable[[Connected], Awaitable[None]] | None = None
        """Asked before the first command goes to a server of another run than before."""
        self.on_frozen: Callable[[str], Awaitable[None]] | None = None
        """Asked to prove a merchant's history that a script does not go on without; then it is sent again."""
        self._is_shut = False

    @property
    def waiting(self) -> int:
        """Commands not yet answered."""
        return len(self._unsent) + (len(self._pipe.unanswered) if self._pipe else 0)

    @property
    def is_cut_off(self) -> bool:
        """Whether there was a connection, and there is none now."""
        return bool(self.run) and (self._pipe is None or self._pipe.is_lost)

    async def execute(self, *command: Part) -> Any:
        """Send one command and return its answer.

        Raises:
            OutcomeUnknown: sent, and not answered.
            StoreUnavailable: not sent, or refused by the server.
            Frozen: the merchant's history could not be proven; nothing was done.
            ResponseError: the command itself was wrong.
        """
        try:
            return await self._sent(command)
        except Frozen:
            if self.on_frozen is None:
                raise
            await self.on_frozen(_merchant_of(command))
        return await self._sent(command)

    async def try_out(self, *command: Part) -> Any:
        """Send one command also while everything else is turned away; raises as :meth:`execute` does."""
        return await self._queued(command)

    def shut(self) -> None:
        """Turn every command away at once, also those that wait to be sent, until :meth:`reopen`."""
        self._is_shut = True
        self._fail_unsent(StoreUnavailable(_AWAY, retry_after_s=1))

    def reopen(self) -> None:
        """Take commands again."""
        self._is_shut = False

    def saw(self, merchant: str, epoch: str, seq: int) -> None:
        """Remember how far a merchant's history was when this client was answered."""
        known = self.heads.get(merchant)
        if known is None or known[0] != epoch or known[1] < seq:
            self.heads[merchant] = (epoch, seq)
            self.moved_ms[merchant] = now_ms()

    async def _sent(self, command: tuple[Part, ...]) -> Any:
        if self._is_shut:
            raise StoreUnavailable(_AWAY, retry_after_s=1)
        if self.waiting >= self._settings.waiting_max:
            msg = "Too many commands wait for the store."
            raise StoreUnavailable(msg, retry_after_s=1)
        return await self._queued(command)

    async def _queued(self, command: tuple[Part, ...]) -> Any:
        if self._is_closed:
            raise StoreUnavailable(_STOPPING, retry_after_s=1)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        if not self._unsent:
            loop.call_soon(self._flush)
        self._unsent.append((command, answer))
        return await answer

    async def close(self) -> None:
        """Stop, failing whatever still waits."""
        self._is_closed = True
        await end(self._connecting)
        self._fail_unsent(StoreUnavailable(_STOPPING, retry_after_s=1))
        if self._pipe is not None:
            await self._pipe.close()
        await self._pool.disconnect()

    def _flush(self) -> None:
        if self._pipe is None or self._pipe.is_lost:
            if self._connecting is None or self._connecting.done():
                self._connecting = asyncio.create_task(self._connect(), name="connect-to-store")
            return
        unsent, self._unsent = self._unsent, []
        self._pipe.send(unsent)

    async def _connect(self) -> None:
        lost, self._pipe = self._pipe, None
        if lost is not None:
            await lost.close()
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py
        pipe: _Pipe | None = None
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py
            run = await _run_of(connection)
            pipe = _Pipe(connection, timeout_s=self._timeout_s, run=run)
            if run != self.run and self.on_run is not None:
                await self.on_run(Connected(pipe))
            if pipe.is_lost:
                raise StoreUnavailable(_NOT_REACHED, retry_after_s=1)  # noqa: TRY301 - one way out for all failures
        except asyncio.CancelledError:
            await _give_up(pipe, connection)
            raise
        except Exception as problem:  # noqa: BLE001 - whatever it is, those who wait must not wait for ever
            await _give_up(pipe, connection)
            if not isinstance(problem, (*LOST, RedisError, Fault)):
                report = {"message": "connecting to the store has failed", "exception": problem}
                asyncio.get_running_loop().call_exception_handler(report)
            self._fail_unsent(problem if isinstance(problem, Fault) else _as_fault(problem))
            return
        self._pipe, self.run = pipe, run
        self._flush()

    def _fail_unsent(self, fault: Exception) -> None:
        unsent, self._unsent = self._unsent, []
        for _, answer in unsent:
            if not answer.done():
                answer.set_exception(fault)


class Connected:
    """A connection before anybody else may use it."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe

    async def execute(self, *command: Part) -> Any:
        """Send one command and return its answer.

        Raises:
            OutcomeUnknown: sent, and not answered.
            StoreUnavailable: refused by the server.
        """
        if self._pipe.is_lost:
            raise OutcomeUnknown(_NOT_ANSWERED, retry_after_s=1)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pipe.send([(command, answer)])
        return await answer


class _Pipe(asyncio.Protocol):
    """An open connection taken over from redis-py; replies settle their futures in order."""

    def __init__(self, connection: AbstractConnection, *, timeout_s: float, run: str) -> None:
        self.is_lost = False
        self._run = run
        self.unanswered: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._connection = connection
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._replies = hiredis.Reader(notEnoughData=_INCOMPLETE, replyError=_reply_error)
        self._watch: asyncio.TimerHandle | None = None
        # redis-py offers no way to hand over an open connection.
        writer = cast("asyncio.StreamWriter", connection._writer)  # noqa: SLF001 - see above
        self._transport = cast("asyncio.Transport", writer.transport)
        self._transport.set_protocol(self)

    def send(self, commands: Sequence[tuple[tuple[Part, ...], asyncio.Future[Any]]]) -> None:
        """Write all commands at once; what cannot be written fails alone."""
        packed = []
        now = self._loop.time()
        for command, answer in commands:
            told = _told(command, self._run) if command[0] in _SCRIPTS else command
            try:
                packed.append(hiredis.pack_command(told))  # type: ignore[arg-type]  # its stub knows no floats
            except TypeError as mistake:
                answer.set_exception(mistake)
            else:
                self.unanswered.append((now, answer))
        self._transport.write(b"".join(packed))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._check_time)

    def data_received(self, data: bytes) -> None:
        """Settle every reply that is complete."""
        self._replies.feed(data)
        while (reply := self._replies.gets()) is not _INCOMPLETE:
            if not self.unanswered:
                self._transport.abort()
                return
            _settle(self.unanswered.popleft()[1], reply)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - lost is lost
        """Say of whatever was sent that nobody knows."""
        self.is_lost = True
        if self._watch is not None:
            self._watch.cancel()
        while self.unanswered:
            answer = self.unanswered.popleft()[1]
            if not answer.done():
                answer.set_exception(OutcomeUnknown(_NOT_ANSWERED, retry_after_s=1))

    async def close(self) -> None:
        """Give the connection up."""
        self._transport.abort()
        self.connection_lost(None)
        await self._connection.disconnect(nowait=True)

    def _check_time(self) -> None:
        self._watch = None
        if not self.unanswered:
            return
        left_s = self.unanswered[0][0] + self._timeout_s - self._loop.time()
        if left_s <= 0:
            self._transport.abort()
            self.connection_lost(None)
        else:
            self._watch = self._loop.call_later(left_s, self._check_time)


def _told(command: tuple[Part, ...], run: str) -> tuple[Part, ...]:
    """Put the run's name where the command says so: only now it is known who gets it."""
    for place, part in enumerate(command):
        if part is RUN:
            return (*command[:place], run, *command[place + 1 :])
    return command


def _merchant_of(command: tuple[Part, ...]) -> str:
    """Return whose keys a script was given: every key of a merchant begins with its tag."""
    return str(command[3])[1:].partition(_TAG_END)[0]


async def _run_of(connection: AbstractConnection) -> str:
    """Ask a new connection which run of its server it has."""
    await connection.send_command("INFO", "server")
    told = bytes(await connection.read_response())
    found = (line.partition(b":")[2] for line in told.splitlines() if line.startswith(b"run_id:"))
    return next(found, b"").decode()


async def _give_up(pipe: _Pipe | None, connection: AbstractConnection) -> None:
    if pipe is None:
        await connection.disconnect(nowait=True)
    else:
        await pipe.close()


def _reply_error(text: str) -> RedisError:
    error = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]  # redis-py
    return error if isinstance(error, RedisError) else ResponseError(text)


def _settle(answer: asyncio.Future[Any], reply: Any) -> None:
    if answer.done():
        return
    if not isinstance(reply, RedisError):
        answer.set_result(reply)
    elif is_refusal(reply):
        answer.set_exception(_as_fault(reply))
    else:
        answer.set_exception(reply)


def _as_fault(problem: BaseException) -> StoreUnavailable | Frozen:
    if isinstance(problem, RedisError) and str(problem).lstrip("-").startswith("FROZEN"):
        msg = "The store was started anew; nothing is decided until the hub's processes have looked at it."
        frozen = Frozen(msg, retry_after_s=1)
        frozen.__cause__ = problem
        return frozen
    refused = isinstance(problem, RedisError) and is_refusal(problem)
    fault = StoreUnavailable(_NOT_ACCEPTED if refused else _NOT_REACHED, retry_after_s=1)
    fault.__cause__ = problem
    return fault
