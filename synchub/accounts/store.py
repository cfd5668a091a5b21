"""Account records in the registry, and an account's line among its merchant's roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from synchub import keyspace, sync_keys
from synchub.accounts.model import Account, Role, SealedValue
from synchub.errors import InvalidRequest, Misconfigured, NotFound
from synchub.logs import get_logger
from synchub.lua import load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes

RECORDS_MAX: Final = 100_000
"""Accounts of one hub; every process holds them all in memory."""

CHANGES_MAX: Final = 10_000
_PAGE: Final = 500
_WRITE: Final = load("registry_write")
_log: Final = get_logger()


async def read(redis: Executes, name: str) -> Account:
    """Return one account.

    Raises:
        NotFound: there is none of that name.
    """
    record = await redis.execute("HGET", keyspace.accounts(), name)
    if record is None:
        msg = f"There is no account {name}."
        raise NotFound(msg)
    return decode(name, record)


async def read_all(redis: Executes) -> tuple[Account, ...]:
    """Return every account, by name; an unreadable record is left out, and logged."""
    return _readable(await read_records(redis))


async def read_some(redis: Executes, names: Sequence[str]) -> tuple[Account, ...]:
    """Return those of the named accounts that exist (see :func:`read_all`)."""
    records = await redis.execute("HMGET", keyspace.accounts(), *names)
    return _readable(
        {name: record for name, record in zip(names, records, strict=True) if record is not None}
    )


async def read_records(redis: Executes) -> dict[str, bytes]:
    """Return every record as it is stored, read in pages; one written meanwhile may be missing."""
    records: dict[str, bytes] = {}
    cursor: bytes | str = "0"
    while True:
        cursor, flat = await redis.execute("HSCAN", keyspace.accounts(), cursor, "COUNT", _PAGE)
        records.update({name.decode(): record for name, record in zip(flat[::2], flat[1::2], strict=True)})
        if int(cursor) == 0:
            return records


async def write(redis: Executes, account: Account, *, before: Account | None) -> None:
    """Store the account and tell every process; nothing is written when somebody else was quicker.

    Raises:
        InvalidRequest: the record is no longer ``before`` (``None``: the name is taken), or there are
            ``RECORDS_MAX`` accounts.
    """
    outcome = await _write(redis, account.name, encode(before) if before else b"", encode(account))
    if outcome == b"written":
        return
    if outcome == b"full":
        msg = f"There are {RECORDS_MAX} accounts, which is the most one hub holds."
    elif before is None:
        msg = f"There already is an account {account.name}."
    else:
        msg = f"Account {account.name} was changed by somebody else meanwhile; look at it and try again."
    raise InvalidRequest(msg)


async def remove(redis: Executes, account: Account) -> None:
    """Remove the record and tell every process.

    Raises:
        InvalidRequest: it was changed meanwhile.
    """
    if await _write(redis, account.name, encode(account), b"") != b"written":
        msg = f"Account {account.name} was changed by somebody else meanwhile; look at it and try again."
        raise InvalidRequest(msg)


async def _write(redis: Executes, name: str, before: bytes, after: bytes) -> bytes:
    answer: bytes = await _WRITE(
        redis,
        keys={"records": keyspace.accounts(), "changes": keyspace.registry_changes()},
        args={
            "kind": "account",
            "name": name,
            "before": before,
            "after": after,
            "records_max": RECORDS_MAX,
            "changes_max": CHANGES_MAX,
        },
    )
    return answer


async def read_newest_change(redis: Executes) -> str:
    """Return the id of the newest entry in the stream of changes."""
    newest = await redis.execute("XREVRANGE", keyspace.registry_changes(), "+", "-", "COUNT", 1)
    return newest[0][0].decode() if newest else "0-0"


async def claim_key(redis: Executes, fingerprint: str) -> bool:
    """Record the encryption key's fingerprint if there is none yet; say whether it is this one."""
    key = keyspace.registry_key()
    await redis.execute("SET", key, fingerprint, "NX")
    if await redis.execute("GET", key) == fingerprint.encode():
        return True
    if await redis.execute("HLEN", keyspace.accounts()):
        return False
    # Nothing is encrypted with the old key any more.
    await redis.execute("SET", key, fingerprint)
    return True


async def create_merchant(redis: Executes, keys: MerchantKeys, epoch: str) -> None:
    """Give the merchant its first epoch; an existing merchant keeps its own."""
    await redis.execute("HSETNX", keys.head, "epoch", epoch)


async def write_role(redis: Executes, keys: MerchantKeys, account: str, row: str) -> None:
    """Set what the account counts for."""
    await redis.execute("HSET", keys.roles, account, row)


async def read_role(redis: Executes, keys: MerchantKeys, account: str) -> str:
    """Return the account's line, empty when it has none."""
    row: bytes | None = await redis.execute("HGET", keys.roles, account)
    return (row or b"").decode()


async def read_role_names(redis: Executes, keys: MerchantKeys) -> tuple[str, ...]:
    """Return the names of the merchant's accounts."""
    return tuple(sorted(name.decode() for name in await redis.execute("HKEYS", keys.roles)))


async def remove_role(redis: Executes, keys: MerchantKeys, account: str) -> None:
    """Forget what the account counts for and up to when it was complete."""
    await redis.execute("HDEL", keys.roles, account)
    await redis.execute("HDEL", keys.watermarks, account)
    await redis.execute("HDEL", keys.heard, account)
    await redis.execute("DEL", keys.refetch(account))


async def forget_platform(redis: Executes, merchant: str, account: str) -> None:
    """Forget everything about speaking with the account's platform: polls, limits, subscriptions, silence."""
    wish = f"{account}{keyspace.SEPARATOR}wish"
    await redis.execute("HDEL", sync_keys.cursors(merchant), account)
    wishes = [f"{account}{keyspace.SEPARATOR}{what}" for what in ("soon", "sweep")]
    await redis.execute("HDEL", sync_keys.polls(merchant), account, *wishes)
    await redis.execute("HDEL", sync_keys.hook_guard(merchant), account, wish)
    await redis.execute("HDEL", sync_keys.watched(), account)
    for key in (sync_keys.budget(merchant, account), sync_keys.breaker(merchant, account)):
        await redis.execute("DEL", key)


async def read_watermark(redis: Executes, keys: MerchantKeys, account: str) -> int:
    """Return the time up to which the account is known to be complete; 0 when it is not."""
    return int(await redis.execute("HGET", keys.watermarks, account) or 0)


def encode(account: Account) -> bytes:
    """Return the record's text; equal accounts give equal texts."""
    record: dict[str, Any] = {
        "merchant": account.merchant,
        "platform": account.platform,
        "role": account.role.value,
        "rank": account.rank,
        "credentials": {
            name: [
                {
                    "ciphertext": value.ciphertext,
                    "not_before_ms": value.not_before_ms,
                    "not_after_ms": value.not_after_ms,
                }
                for value in values
            ]
            for name, values in account.credentials.items()
        },
        "created_at": account.created_at_ms,
    }
    if account.max_age_ms is not None:
        record["max_age_ms"] = account.max_age_ms
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


def decode(name: str, record: bytes) -> Account:
    """Return the account that a record describes.

    Raises:
        Misconfigured: not a record of this version; its content is not repeated.
    """
    try:
        found: dict[str, Any] = orjson.loads(record)
        return Account(
            name=name,
            merchant=str(found["merchant"]),
            platform=str(found["platform"]),
            role=Role(found["role"]),
            rank=int(found["rank"]),
            max_age_ms=found.get("max_age_ms"),
            credentials={
                str(credential): tuple(SealedValue(**value) for value in values)
                for credential, values in found["credentials"].items()
            },
            created_at_ms=int(found["created_at"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        msg = f"The record of account {name} is not readable by this version of the hub."
    raise Misconfigured(msg)


def _readable(records: Mapping[str, bytes]) -> tuple[Account, ...]:
    found = []
    for name in sorted(records):
        try:
            found.append(decode(name, records[name]))
        except Misconfigured as problem:
            _log.error("record_left_out", reason=problem.detail)
    return tuple(found)
