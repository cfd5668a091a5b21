"""Observations on their way to the judge, what the judge remembers, and what it says."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import orjson

from synchub import lua, sync_keys
from synchub.connector_kit.contract import HookState
from synchub.sync_lag.model import (
    AccountSync,
    Everyone,
    Heard,
    HookFinding,
    PollFinding,
    Second,
    SyncState,
)
from synchub.sync_lag.watch import evidence_json, evidence_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from synchub.lua import Executes

LEASE: Final = lua.load("lease")
OBSERVED_MAX: Final = 10_000
EVERYONE: Final = "~everyone"
"""A field that no account can be named like."""


async def note_heard(
    redis: Executes, seconds: Mapping[str, Second], *, behind_ms: int, receives: bool
) -> None:
    """Hand in what one process heard within about a second."""
    body = orjson.dumps({name: _second_json(second) for name, second in seconds.items()})
    await _append(redis, "k", "heard", "behind", behind_ms, "receives", int(receives), "body", body)


async def note_poll(redis: Executes, account: str, finding: PollFinding) -> None:
    """Hand in what a poll found."""
    await _append(redis, "k", "poll", "account", account, "body", orjson.dumps(asdict(finding)))


async def note_hooks(redis: Executes, account: str, finding: HookFinding) -> None:
    """Hand in what a platform said."""
    await _append(redis, "k", "hooks", "account", account, "body", orjson.dumps(asdict(finding)))


async def _append(redis: Executes, *fields: str | bytes | int) -> None:
    await redis.execute("XADD", sync_keys.observed(), "MAXLEN", "~", OBSERVED_MAX, "*", *fields)


async def observations(
    redis: Executes, after: str, count: int
) -> list[tuple[str, dict[str, Any] | tuple[str, PollFinding | HookFinding]]]:
    """Return what has been handed in after an entry, oldest first: seconds by account, or a finding."""
    entries = await redis.execute("XRANGE", sync_keys.observed(), f"({after}", "+", "COUNT", count)
    return [
        (entry_id.decode(), _observation(dict(zip(flat[::2], flat[1::2], strict=True))))
        for entry_id, flat in entries
    ]


async def drop_observations(redis: Executes, before: str) -> None:
    """Forget what every account's memory contains."""
    await redis.execute("XTRIM", sync_keys.observed(), "MINID", before)


async def take_lease(redis: Executes, owner: str, ttl_ms: int) -> bool:
    """Take or renew the right to judge; with ``ttl_ms`` 0 give it back."""
    keys = {"lease": sync_keys.watch_lease()}
    return bool(await LEASE(redis, keys=keys, args={"owner": owner, "ttl_ms": ttl_ms}))


async def read_memories(redis: Executes) -> dict[str, dict[str, Any]]:
    """Return what was remembered of each account."""
    flat = await redis.execute("HGETALL", sync_keys.rhythms())
    return {name.decode(): orjson.loads(text) for name, text in zip(flat[::2], flat[1::2], strict=True)}


async def write_memories(redis: Executes, memories: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep what is known of some accounts."""
    parts = [part for name, value in memories.items() for part in (name, orjson.dumps(value))]
    if parts:
        await redis.execute("HSET", sync_keys.rhythms(), *parts)


async def write_verdicts(redis: Executes, verdicts: Iterable[AccountSync], everyone: Everyone | None) -> None:
    """Say what is known of some accounts, and of all together."""
    parts: list[str | bytes] = []
    for verdict in verdicts:
        parts += [verdict.account, orjson.dumps(_verdict_json(verdict))]
    if everyone is not None:
        parts += [EVERYONE, orjson.dumps(asdict(everyone))]
    if parts:
        await redis.execute("HSET", sync_keys.watched(), *parts)


async def read_verdicts(redis: Executes) -> tuple[dict[str, AccountSync], Everyone]:
    """Return what is known of each account, and of all together."""
    flat = await redis.execute("HGETALL", sync_keys.watched())
    rows = {name.decode(): orjson.loads(text) for name, text in zip(flat[::2], flat[1::2], strict=True)}
    everyone = Everyone(**rows.pop(EVERYONE, {}))
    return {name: _verdict(row) for name, row in rows.items()}, everyone


async def forget(redis: Executes, accounts: Iterable[str]) -> None:
    """Forget accounts that are gone."""
    names = sorted(accounts)
    if names:
        await redis.execute("HDEL", sync_keys.watched(), *names)
        await redis.execute("HDEL", sync_keys.rhythms(), *names)


def _observation(fields: Mapping[bytes, bytes]) -> dict[str, Any] | tuple[str, PollFinding | HookFinding]:
    body, kind = orjson.loads(fields[b"body"]), fields[b"k"]
    if kind == b"poll":
        return fields[b"account"].decode(), PollFinding(**body)
    if kind == b"hooks":
        return fields[b"account"].decode(), HookFinding(**{**body, "state": HookState(body["state"])})
    return {
        "behind_ms": int(fields[b"behind"]),
        "receives": fields[b"receives"] == b"1",
        "seconds": {name: _second(value) for name, value in body.items()},
    }


def _second_json(second: Second) -> list[Any]:
    heard = [
        [one.topic, one.count, one.first_ms, one.last_ms, one.newest_ms, list(one.delays.items())]
        for one in second.heard
    ]
    return [heard, second.echo_ms, second.canary_ms, second.canary_every_ms, second.refused]


def _second(value: list[Any]) -> Second:
    heard, echo_ms, canary_ms, canary_every_ms, refused = value
    return Second(
        heard=tuple(
            Heard(
                topic=topic,
                count=count,
                first_ms=first_ms,
                last_ms=last_ms,
                newest_ms=newest_ms,
                delays=dict(delays),
            )
            for topic, count, first_ms, last_ms, newest_ms, delays in heard
        ),
        echo_ms=echo_ms,
        canary_ms=canary_ms,
        canary_every_ms=canary_every_ms,
        refused=refused,
    )


def _verdict_json(verdict: AccountSync) -> dict[str, Any]:
    return {**asdict(verdict), "evidence": [evidence_json(one) for one in verdict.evidence]}


def _verdict(row: dict[str, Any]) -> AccountSync:
    evidence = tuple(evidence_of(one) for one in row["evidence"])
    return AccountSync(**{**row, "state": SyncState(row["state"]), "evidence": evidence})
