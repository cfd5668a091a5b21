"""The feed streams in Redis as the feed reads them; only the epoch is ever written from here."""

from __future__ import annotations

import asyncio
import secrets
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from synchub import lua
from synchub.feed.model import Heard
from synchub.stock.model import Position
from synchub.stock.rules import feed_entry_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import redis.asyncio as aioredis

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.stock.model import FeedEntry

RENEW_EPOCH = lua.load("renew_epoch")
_AUTHORITY: Final = b"A|"
EPOCH_BYTES: Final = 12
"""Random bytes in a history's name: two never meet."""

Fields = dict[bytes, bytes]
RawEntry = tuple[bytes, Fields]


async def named_head(redis: Executes, keys: MerchantKeys) -> Position:
    """Return the head, giving the history a name if it has none yet."""
    return await renew_epoch(redis, keys, expected="")


async def renew_epoch(redis: Executes, keys: MerchantKeys, *, expected: str) -> Position:
    """Rename the history unless its name is no longer ``expected``; return the head as it is then."""
    answer = await RENEW_EPOCH(
        redis,
        keys={"head": keys.head},
        args={"epoch_expected": expected, "epoch_new": secrets.token_urlsafe(EPOCH_BYTES)},
    )
    return _position(answer)


async def read_oldest(redis: Executes, keys: MerchantKeys) -> int | None:
    """Return the lowest position from which every change is still kept; None when nothing is."""
    found = await redis.execute("XRANGE", keys.feed, "-", "+", "COUNT", 1)
    return int(_fields(found[0][1])[b"p"]) if found else None


async def read_range(
    redis: Executes, keys: MerchantKeys, *, after: int, upto: int, limit: int
) -> list[FeedEntry]:
    """Return at most ``limit`` entries with ``after < seq <= upto``."""
    return entries_of(await redis.execute("XRANGE", keys.feed, f"({after}-0", f"{upto}-0", "COUNT", limit))


async def read_news(
    client: aioredis.Redis,
    positions: dict[str, int],
    *,
    block_ms: int,
    limit: int,
    others: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, list[RawEntry]]:
    """Wait for entries after these positions (feed key to sequence); absent keys have none.

    ``others`` are further streams with the last known id of each. A list of ``limit``
    entries may have been cut short.
    """
    streams: Any = {key: f"{seq}-0" for key, seq in positions.items()} | dict(others)
    reply = cast("list[list[Any]]", await client.xread(streams, count=limit, block=block_ms))
    return {key.decode(): entries for key, entries in reply}


async def read_proofs(
    client: aioredis.Redis, places: list[tuple[MerchantKeys, int]]
) -> list[tuple[Position, Fields | None]]:
    """Return each merchant's head and the entry at the position we believe to have reached."""
    async with client.pipeline(transaction=False) as pipe:
        for keys, seq in places:
            pipe.hmget(keys.head, ["epoch", "seq", "feed_seq"])
            pipe.xrange(keys.feed, f"{seq}-0", f"{seq}-0")
        answers = await pipe.execute()
    return [
        (_position(head), found[0][1] if found else None)
        for head, found in zip(answers[::2], answers[1::2], strict=True)
    ]


async def read_sources(redis: Executes, keys: MerchantKeys) -> tuple[Heard, ...]:
    """Return when each account was last heard whose levels are the stock, by name."""
    roles, heard, marks = map(
        _fields,
        await asyncio.gather(
            redis.execute("HGETALL", keys.roles),
            redis.execute("HGETALL", keys.heard),
            redis.execute("HGETALL", keys.watermarks),
        ),
    )
    return tuple(
        Heard(
            account=account.decode(),
            heard_ms=max(int(heard.get(account, 0)), int(marks.get(account, 0))),
            max_age_ms=int(row.split(b"|")[2]),
        )
        for account, row in sorted(roles.items())
        if row.startswith(_AUTHORITY)
    )


def parsed(raw: Iterable[RawEntry]) -> list[FeedEntry]:
    """Read entries as redis-py hands them over."""
    return [feed_entry_of(entry_id, fields) for entry_id, fields in raw]


def entries_of(reply: list[tuple[bytes, list[bytes]]]) -> list[FeedEntry]:
    """Read entries as the server sends them."""
    return [feed_entry_of(entry_id, _fields(flat)) for entry_id, flat in reply]


def _fields(flat: list[bytes]) -> Fields:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _position(fields: list[bytes | None]) -> Position:
    epoch, seq, feed_seq = fields
    return Position(epoch=(epoch or b"").decode(), seq=int(seq or 0), feed_seq=int(feed_seq or 0))
