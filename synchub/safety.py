"""Whether a server is fit to keep stock in: asked at start, by ``/readyz`` and by ``synchub doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from synchub.errors import UnsafeStore
from synchub.kit.clock import now_us
from synchub.redis import is_refusal, store_errors

if TYPE_CHECKING:
    import redis.asyncio as aioredis


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


async def clock_skew_s(client: aioredis.Redis) -> float:
    """Return the store's clock minus ours, in seconds, to about half a round trip.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store did not answer.
    """
    asked_us = now_us()
    with store_errors():
        seconds, micros = await client.time()
    return float(seconds * 1_000_000 + micros - (asked_us + now_us()) / 2) / 1e6


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
