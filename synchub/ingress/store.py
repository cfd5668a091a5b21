"""The ingest stream, the dead-letter list and the quarantine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
from redis.exceptions import ResponseError

from synchub import keyspace
from synchub.connector_kit.delivery import Delivery
from synchub.ingress.model import PutAside, Queued
from synchub.kit.clock import now_us

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis.asyncio as aioredis

    from synchub.lua import Executes

GROUP: Final = "workers"
_US_PER_MS: Final = 1000
_FORGOTTEN_MS: Final = 60_000


async def append(redis: Executes, delivery: Delivery, kept: Mapping[str, str]) -> None:
    """Append to the ingest stream, with the headers that the worker needs.

    Durable as soon as it returns (see ``appendfsync``).
    """
    await redis.execute("XADD", keyspace.ingest_stream(), "*", *_fields(delivery, kept))


async def length(redis: Executes) -> int:
    """How many deliveries wait or are being applied."""
    return int(await redis.execute("XLEN", keyspace.ingest_stream()))


async def ensure_group(client: aioredis.Redis) -> None:
    """Create stream and consumer group unless they are there."""
    try:
        await client.xgroup_create(keyspace.ingest_stream(), GROUP, id="0", mkstream=True)
    except ResponseError as problem:
        if not str(problem).startswith("BUSYGROUP"):
            raise


async def take_new(redis: Executes, worker: str, *, count: int, block_ms: int) -> list[Queued]:
    """Take deliveries that no worker has seen; waits up to ``block_ms`` for one."""
    command = ("XREADGROUP", "GROUP", GROUP, worker, "COUNT", count, "BLOCK", block_ms)
    answer = await redis.execute(*command, "STREAMS", keyspace.ingest_stream(), ">")
    return [
        _queued(entry_id, dict(zip(flat[::2], flat[1::2], strict=True)), tries=1)
        for _, entries in answer or []
        for entry_id, flat in entries
    ]


async def take_over(client: aioredis.Redis, worker: str, *, count: int, idle_ms: int) -> list[Queued]:
    """Take deliveries whose worker has been silent for ``idle_ms``, with the number of their tries."""
    stream = keyspace.ingest_stream()
    claimed = (await client.xautoclaim(stream, GROUP, worker, min_idle_time=idle_ms, count=count))[1]
    if not claimed:
        return []
    waiting = await client.xpending_range(
        stream, GROUP, min=claimed[0][0], max=claimed[-1][0], count=count, consumername=worker
    )
    tries = {entry["message_id"]: entry["times_delivered"] for entry in waiting}
    return [_queued(entry_id, fields, tries=tries.get(entry_id, 1)) for entry_id, fields in claimed if fields]


async def finish(client: aioredis.Redis, ids: Sequence[str]) -> None:
    """Acknowledge and delete in one step: an acknowledged entry would otherwise stay for ever."""
    if not ids:
        return
    stream = keyspace.ingest_stream()
    async with client.pipeline(transaction=True) as pipe:
        pipe.xack(stream, GROUP, *ids)
        pipe.xdel(stream, *ids)
        await pipe.execute()


async def put_aside(client: aioredis.Redis, where: str, queued: Queued, *, reason: str, limit: int) -> None:
    """Move a delivery out of the way, keeping it whole, and free its place in the stream."""
    stream = keyspace.ingest_stream()
    fields = (*_fields(queued.delivery, queued.delivery.headers), "reason", reason, "at", now_us())
    async with client.pipeline(transaction=True) as pipe:
        pipe.execute_command("XADD", where, "MAXLEN", limit, "*", *fields)
        pipe.xack(stream, GROUP, queued.id)
        pipe.xdel(stream, queued.id)
        await pipe.execute()


async def put_rows_aside(redis: Executes, where: str, delivery: Delivery, *, reason: str, limit: int) -> None:
    """Keep what a poll has brought where deliveries are put aside."""
    fields = (*_fields(delivery, delivery.headers), "reason", reason, "at", now_us())
    await redis.execute("XADD", where, "MAXLEN", limit, "*", *fields)


async def waiting_since_ms(redis: Executes) -> int | None:
    """When the oldest delivery in the stream arrived, by the store's clock."""
    entries = await redis.execute("XRANGE", keyspace.ingest_stream(), "-", "+", "COUNT", 1)
    return int(entries[0][0].split(b"-")[0]) if entries else None


async def list_aside(client: aioredis.Redis, where: str, *, count: int) -> list[PutAside]:
    """Return the newest entries of quarantine or dead letters, newest first."""
    entries: list[Any] = await client.xrevrange(where, count=count)
    return [_put_aside(entry_id, fields) for entry_id, fields in entries]


async def oldest_aside_us(client: aioredis.Redis, where: str) -> int:
    """When the oldest entry was put aside, in microseconds; 0 when there is none."""
    entries: list[Any] = await client.xrange(where, count=1)
    return int(entries[0][1][b"at"]) if entries else 0


async def return_aside(client: aioredis.Redis, where: str, entry: PutAside) -> None:
    """Put a delivery back into the ingest stream, in one step with its removal."""
    fields = _fields(entry.queued.delivery, entry.queued.delivery.headers)
    async with client.pipeline(transaction=True) as pipe:
        pipe.execute_command("XADD", keyspace.ingest_stream(), "*", *fields)
        pipe.xdel(where, entry.id)
        await pipe.execute()


async def drop_silent_workers(client: aioredis.Redis, *, idle_ms: int) -> int:
    """Forget consumers that have been silent and own nothing; returns how many."""
    stream = keyspace.ingest_stream()
    gone = [
        consumer["name"]
        for consumer in await client.xinfo_consumers(stream, GROUP)
        if consumer["idle"] > idle_ms and not consumer["pending"]
    ]
    for name in gone:
        await client.xgroup_delconsumer(stream, GROUP, name)
    return len(gone)


async def sign_life(client: aioredis.Redis, worker: str) -> None:
    """Say that this worker is at work. Consumers' own idle times mean too many things across versions."""
    now_ms = now_us() // _US_PER_MS
    async with client.pipeline(transaction=True) as pipe:
        pipe.zadd(keyspace.workers(), {worker: now_ms})
        pipe.zremrangebyscore(keyspace.workers(), "-inf", now_ms - _FORGOTTEN_MS)
        await pipe.execute()


async def end_life(client: aioredis.Redis, worker: str) -> None:
    """Say that this worker has stopped."""
    await client.zrem(keyspace.workers(), worker)


async def count_workers(client: aioredis.Redis, *, idle_ms: int) -> int:
    """How many workers have given a sign of life within ``idle_ms``."""
    return int(await client.zcount(keyspace.workers(), now_us() // _US_PER_MS - idle_ms, "+inf"))


async def oldest_age_ms(client: aioredis.Redis) -> int:
    """How long the oldest delivery has waited; 0 when none does."""
    entries: list[Any] = await client.xrange(keyspace.ingest_stream(), count=1)
    if not entries:
        return 0
    return max(0, now_us() // _US_PER_MS - int(entries[0][0].split(b"-")[0]))


def _fields(delivery: Delivery, headers: Mapping[str, str]) -> tuple[str | bytes | int, ...]:
    return (
        "a", delivery.account, "t", delivery.arrived_at_us,
        "h", orjson.dumps(dict(headers)), "b", delivery.body,
    )  # fmt: skip


def _queued(entry_id: bytes, fields: Mapping[bytes, bytes], *, tries: int) -> Queued:
    delivery = Delivery(
        account=fields[b"a"].decode(),
        headers=orjson.loads(fields[b"h"]),
        body=fields[b"b"],
        arrived_at_us=int(fields[b"t"]),
    )
    return Queued(id=entry_id.decode(), delivery=delivery, tries=tries)


def _put_aside(entry_id: bytes, fields: Mapping[bytes, bytes]) -> PutAside:
    return PutAside(
        id=entry_id.decode(),
        queued=_queued(entry_id, fields, tries=0),
        reason=fields[b"reason"].decode(),
        put_aside_at_us=int(fields[b"at"]),
    )
