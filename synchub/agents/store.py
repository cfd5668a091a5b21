"""Agent records in the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from synchub import keyspace
from synchub.agents.model import Agent, Kind, Scope
from synchub.errors import InvalidRequest, Misconfigured, NotFound
from synchub.logs import get_logger
from synchub.lua import load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from synchub.agents.model import Rate
    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes

RECORDS_MAX: Final = 100_000
"""Agents of one hub; every process holds them all in memory."""

CHANGES_MAX: Final = 10_000
_PAGE: Final = 500
_WRITE: Final = load("registry_write")
_TAKE_TOKEN: Final = load("take_token")
_log: Final = get_logger()


async def read(redis: Executes, name: str) -> Agent:
    """Return one agent.

    Raises:
        NotFound: there is none of that name.
    """
    record = await redis.execute("HGET", keyspace.agents(), name)
    if record is None:
        msg = f"There is no agent {name}."
        raise NotFound(msg)
    return decode(name, record)


async def read_all(redis: Executes) -> tuple[Agent, ...]:
    """Return every agent, by name; an unreadable record is left out, and logged."""
    return _readable(await read_records(redis))


async def read_some(redis: Executes, names: Sequence[str]) -> tuple[Agent, ...]:
    """Return those of the named agents that exist (see :func:`read_all`)."""
    records = await redis.execute("HMGET", keyspace.agents(), *names)
    return _readable(
        {name: record for name, record in zip(names, records, strict=True) if record is not None}
    )


async def read_records(redis: Executes) -> dict[str, bytes]:
    """Return every record as it is stored, read in pages; one written meanwhile may be missing."""
    records: dict[str, bytes] = {}
    cursor: bytes | str = "0"
    while True:
        cursor, flat = await redis.execute("HSCAN", keyspace.agents(), cursor, "COUNT", _PAGE)
        records.update({name.decode(): record for name, record in zip(flat[::2], flat[1::2], strict=True)})
        if int(cursor) == 0:
            return records


async def add(redis: Executes, agent: Agent) -> None:
    """Store a new agent and tell every process.

    Raises:
        InvalidRequest: the name is taken, or there are ``RECORDS_MAX`` agents.
    """
    outcome = await _write(redis, agent.name, b"", encode(agent))
    if outcome == b"full":
        msg = f"There are {RECORDS_MAX} agents, which is the most one hub holds."
        raise InvalidRequest(msg)
    if outcome != b"written":
        msg = f"There already is an agent {agent.name}."
        raise InvalidRequest(msg)


async def remove(redis: Executes, name: str) -> None:
    """Remove the record and tell every process.

    Raises:
        NotFound: there is none of that name.
        InvalidRequest: it was changed meanwhile.
    """
    record = await redis.execute("HGET", keyspace.agents(), name)
    if record is None:
        msg = f"There is no agent {name}."
        raise NotFound(msg)
    if await _write(redis, name, record, b"") != b"written":
        msg = f"Agent {name} was changed by somebody else meanwhile; look at it and try again."
        raise InvalidRequest(msg)


async def take_token(redis: Executes, keys: MerchantKeys, name: str, rate: Rate) -> int:
    """Count one request; return 0, or in how many microseconds there is room for it."""
    wait_us: int = await _TAKE_TOKEN(
        redis,
        keys={"rate": keys.rate(name)},
        args={"interval_us": rate.interval_us, "burst": rate.burst},
    )
    return wait_us


async def _write(redis: Executes, name: str, before: bytes, after: bytes) -> bytes:
    answer: bytes = await _WRITE(
        redis,
        keys={"records": keyspace.agents(), "changes": keyspace.registry_changes()},
        args={
            "kind": "agent",
            "name": name,
            "before": before,
            "after": after,
            "records_max": RECORDS_MAX,
            "changes_max": CHANGES_MAX,
        },
    )
    return answer


def encode(agent: Agent) -> bytes:
    """Return the record's text; equal agents give equal texts."""
    record = {
        "kind": agent.kind,
        "merchant": agent.merchant,
        "tier": agent.tier,
        "channels": sorted(agent.channels),
        "scopes": sorted(agent.scopes),
        "key_hash": agent.key_hash,
        "created_at": agent.created_at_ms,
        "rate_per_s": agent.rate_per_s,
        "burst": agent.burst,
    }
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


def decode(name: str, record: bytes) -> Agent:
    """Return the agent that a record describes.

    Raises:
        Misconfigured: not a record of this version.
    """
    try:
        found: dict[str, Any] = orjson.loads(record)
        return Agent(
            # A record without a kind is from when there were agents only.
            kind=Kind(found.get("kind", Kind.AGENT)),
            name=name,
            merchant=str(found["merchant"]),
            tier=str(found["tier"]),
            channels=frozenset(str(channel) for channel in found["channels"]),
            scopes=frozenset(Scope(scope) for scope in found["scopes"]),
            key_hash=str(found["key_hash"]),
            created_at_ms=int(found["created_at"]),
            rate_per_s=found.get("rate_per_s"),
            burst=found.get("burst"),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        msg = f"The record of agent {name} is not readable by this version of the hub."
    raise Misconfigured(msg)


def _readable(records: Mapping[str, bytes]) -> tuple[Agent, ...]:
    found = []
    for name in sorted(records):
        try:
            found.append(decode(name, records[name]))
        except Misconfigured as problem:
            _log.error("record_left_out", reason=problem.detail)
    return tuple(found)
