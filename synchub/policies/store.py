"""One merchant's policies in Redis: the present document, and the last hundred with their authors."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synchub import keyspace
from synchub.errors import Conflict, IdempotencyMismatch, Misconfigured, NotFound, SynchubError
from synchub.lua import load
from synchub.policies.document import policies_of, read_form
from synchub.policies.model import Edit, Policies, Stored, Written
from synchub.redis import RUN

if TYPE_CHECKING:
    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes

HISTORY_MAX: Final = 100
"""Versions kept, the present one among them; an operation is remembered as long as its version."""

CHANGES_MAX: Final = 10_000
_EPOCH_BYTES: Final = 12
_WRITE: Final = load("policy_write")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """What is written, checked and in the form it is stored in."""

    expected: int
    """The version it was made from."""
    operation: str
    fingerprint: str
    """Equal for repeats of the same operation."""
    author: str
    document: bytes
    lag_step_ms: int
    lag_grace_ms: int
    takeover: str
    places: str
    destinations: str
    fast_age_ms: int
    slow_age_ms: int
    asks_first: bool


async def read(redis: Executes, keys: MerchantKeys) -> Policies:
    """Return the present policies; version 0 when nothing has been decided.

    Raises:
        Misconfigured: the document is not one of this version of the hub.
    """
    version, document = await redis.execute("HMGET", keys.policies, "version", "document")
    return Policies(version=0) if document is None else decode(document, int(version))


async def read_stored(redis: Executes, keys: MerchantKeys, version: int | None = None) -> Stored | None:
    """Return a version as it was written, the present one by default; None before the first edit.

    Raises:
        NotFound: there is no such version, or it is no longer kept.
    """
    wanted = version or int(await redis.execute("HGET", keys.policies, "version") or 0)
    if not wanted:
        return None
    document, note = await redis.execute("HMGET", keys.policies, f"d {wanted}", f"h {wanted}")
    if document is None:
        msg = f"There is no version {wanted} of these policies; the newest {HISTORY_MAX} are kept."
        raise NotFound(msg)
    return Stored(edit=_edit(wanted, note), document=document)


async def read_history(redis: Executes, keys: MerchantKeys) -> tuple[Edit, ...]:
    """Return who made the versions that are kept, newest first."""
    newest = int(await redis.execute("HGET", keys.policies, "version") or 0)
    versions = range(newest, max(0, newest - HISTORY_MAX), -1)
    if not versions:
        return ()
    notes = await redis.execute("HMGET", keys.policies, *(f"h {version}" for version in versions))
    return tuple(_edit(version, note) for version, note in zip(versions, notes, strict=True) if note)


async def write(
    redis: Executes, keys: MerchantKeys, edition: Edition, *, now_ms: int, clock_kind: str
) -> Written:
    """Make the document the present one; see ``policy_write.lua``.

    Raises:
        Conflict: the present version is another than the one it was made from.
        IdempotencyMismatch: the operation has made another document before.
    """
    outcome, version, current, note = await _WRITE(
        redis,
        keys={"head": keys.head, "policies": keys.policies},
        args={
            "tag": keys.tag,
            "run": RUN,
            "now_ms": now_ms,
            "clock_kind": clock_kind,
            "epoch_if_new": secrets.token_urlsafe(_EPOCH_BYTES),
            "expected": edition.expected,
            "operation": edition.operation,
            "fingerprint": edition.fingerprint,
            "author": edition.author,
            "document": edition.document,
            "lag_step_ms": edition.lag_step_ms,
            "lag_grace_ms": edition.lag_grace_ms,
            "takeover": edition.takeover,
            "places": edition.places,
            "destinations": edition.destinations,
            "fast_age_ms": edition.fast_age_ms,
            "slow_age_ms": edition.slow_age_ms,
            "asks_first": int(edition.asks_first),
            "history_max": HISTORY_MAX,
        },
    )
    if outcome == b"moved":
        msg = f"The policies are at version {current} by now; read them, edit again, and send that version."
        raise Conflict(msg)
    if outcome == b"mismatch":
        msg = "This idempotency key belongs to another edit; take a new one for each edit."
        raise IdempotencyMismatch(msg)
    return Written(edit=_edit(version, note), current=current, repeated=outcome == b"repeated")


async def announce(redis: Executes, merchant: str) -> None:
    """Tell every process that the merchant's policies have changed."""
    key = keyspace.registry_changes()
    await redis.execute("XADD", key, "MAXLEN", "~", CHANGES_MAX, "*", "kind", "policy", "name", merchant)


def decode(document: bytes, version: int) -> Policies:
    """Return what a stored document says.

    Raises:
        Misconfigured: it is not one of this version of the hub.
    """
    try:
        return policies_of(read_form(document), version)
    except SynchubError as problem:
        msg = f"Version {version} of the stored policies is not readable by this hub. {problem.detail}"
    raise Misconfigured(msg)


def _edit(version: int, note: bytes) -> Edit:
    at, author, _ = note.decode().split("|", 2)
    return Edit(version=version, author=author, at_ms=int(at))
