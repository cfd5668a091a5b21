"""Where it is kept how platforms' promises stand, and whose turn it is to ask."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from synchub import lua, sync_keys
from synchub.connector_kit.contract import HookState
from synchub.hook_guard.model import GuardState, Need, Wish
from synchub.keyspace import SEPARATOR

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.lua import Executes

LEASE_MS: Final = 60_000
"""A round ends before; whoever is killed in one holds up the others for no longer."""

_RETURN: Final = lua.load("lease")
_WISH: Final = f"{SEPARATOR}wish"


async def read(redis: Executes, merchant: str) -> dict[str, GuardState]:
    """Return the state of each of the merchant's accounts that has one; a wish makes it due at once."""
    flat = await redis.execute("HGETALL", sync_keys.hook_guard(merchant))
    fields = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
    states = {name: _decoded(value) for name, value in fields.items() if SEPARATOR not in name}
    for name in states.keys() & {field.removesuffix(_WISH) for field in fields if field.endswith(_WISH)}:
        states[name] = replace(states[name], due_ms=0)
    return states


async def read_one(redis: Executes, merchant: str, account: str) -> GuardState | None:
    """Return the state of one account; ``None`` when there is none yet."""
    value = await redis.execute("HGET", sync_keys.hook_guard(merchant), account)
    return None if value is None else _decoded(value)


async def write(redis: Executes, merchant: str, account: str, state: GuardState) -> None:
    """Keep the state of one account."""
    await redis.execute("HSET", sync_keys.hook_guard(merchant), account, orjson.dumps(asdict(state)))


async def begin(redis: Executes, merchant: str, account: str, state: GuardState) -> None:
    """Keep the state of an account that has none yet."""
    await redis.execute("HSETNX", sync_keys.hook_guard(merchant), account, orjson.dumps(asdict(state)))


async def wish(redis: Executes, merchant: str, account: str, what: Wish) -> None:
    """Leave a wish of a person for the next round."""
    await redis.execute("HSET", sync_keys.hook_guard(merchant), f"{account}{_WISH}", what.value)


async def take_wish(redis: Executes, merchant: str, account: str) -> Wish | None:
    """Return the wish that was left, once."""
    key, field = sync_keys.hook_guard(merchant), f"{account}{_WISH}"
    value = await redis.execute("HGET", key, field)
    if value is None:
        return None
    await redis.execute("HDEL", key, field)
    return Wish(value.decode())


@asynccontextmanager
async def turn(redis: Executes, merchant: str, account: str) -> AsyncIterator[bool]:
    """Have the account to oneself until the block ends; yields whether it was to be had."""
    key, owner = sync_keys.hook_lease(merchant, account), secrets.token_hex(8)
    if await redis.execute("SET", key, owner, "NX", "PX", LEASE_MS) is None:
        yield False
        return
    try:
        yield True
    finally:
        await _RETURN(redis, keys={"lease": key}, args={"owner": owner, "ttl_ms": 0})


def _decoded(value: bytes) -> GuardState:
    told: dict[str, Any] = orjson.loads(value)
    hooks = told.pop("hooks", None)
    return GuardState(
        hooks=HookState(hooks) if hooks else None,
        topics=tuple(told.pop("topics", ())),
        repairs=tuple(told.pop("repairs", ())),
        need=Need(told.pop("need", "")),
        **told,
    )
