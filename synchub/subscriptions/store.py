"""Subscriptions in the registry, and beside each merchant's stock how far its subscribers have been told."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from synchub import lua, push_keys
from synchub.errors import Conflict, Misconfigured, RateLimited
from synchub.keyspace import MerchantKeys
from synchub.logs import get_logger
from synchub.stock.model import Position
from synchub.stock.rules import feed_entry_of
from synchub.subscriptions.model import (
    Asked,
    Attempt,
    Filter,
    Limit,
    Pending,
    SealedSecret,
    Spot,
    Standing,
    Status,
    Subscription,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis.asyncio as aioredis

    from synchub.lua import Executes
    from synchub.redis import Part
    from synchub.settings import SubscriptionSettings
    from synchub.stock.model import FeedEntry

_WRITE: Final = lua.load("subscription_write")
_WRITE_LANE: Final = lua.load("lane_write")
_LEASE: Final = lua.load("lease")
_RENEW_EPOCH: Final = lua.load("renew_epoch")
_EPOCH_BYTES: Final = 12
_UNUSED_LANE_S: Final = 3600
"""A lane whose subscription never came to be is gone after this."""

WISHES: Final = ("test", "redrive", "renew")
Fields = dict[bytes, bytes]
_log: Final = get_logger()


# ------------------------------------------------------------------------------------------------ records


async def read(redis: Executes, merchant: str, name: str) -> tuple[Subscription | None, bytes]:
    """Return one subscription, and its record as it is stored."""
    record = await redis.execute("HGET", push_keys.subscriptions(merchant), name)
    return (decode(merchant, name, record) if record else None), record or b""


async def read_all(redis: Executes, merchant: str) -> list[Subscription]:
    """Return all subscriptions of a merchant, by id; an unreadable record is left out, and logged."""
    flat = await redis.execute("HGETALL", push_keys.subscriptions(merchant))
    found = []
    for name, record in sorted(zip(flat[::2], flat[1::2], strict=True)):
        try:
            found.append(decode(merchant, name.decode(), record))
        except Misconfigured as problem:
            _log.error("record_left_out", reason=problem.detail)
    return found


async def write(
    redis: Executes,
    subscription: Subscription,
    *,
    before: bytes,
    is_gone: bool = False,
    settings: SubscriptionSettings,
) -> Limit | None:
    """Store a record in the place of the one that was read, or remove that; return the limit in the way.

    Raises:
        Conflict: somebody else has changed it meanwhile.
    """
    merchant = subscription.merchant
    answer: bytes = await _WRITE(
        redis,
        keys={
            "records": push_keys.subscriptions(merchant),
            "counts": push_keys.subscription_counts(),
            "news": push_keys.subscription_news(),
        },
        args={
            "id": subscription.id,
            "merchant": merchant,
            "agent": subscription.agent,
            "before": before,
            "after": b"" if is_gone else encode(subscription),
            "agent_max": settings.per_agent,
            "merchant_max": settings.per_merchant,
            "all_max": settings.in_all,
        },
    )
    if answer == b"moved":
        msg = f"Subscription {subscription.id} was changed meanwhile; look at it and try again."
        raise Conflict(msg)
    return None if answer == b"written" else Limit(answer.decode())


async def announce(redis: Executes, merchant: str) -> None:
    """Have the merchant's subscriptions looked at by whoever tells its subscribers."""
    number = await redis.execute("HINCRBY", push_keys.subscription_counts(), "changes", 1)
    await redis.execute("HSET", push_keys.subscription_news(), merchant, number)


async def read_news(redis: Executes) -> dict[str, int]:
    """Return each merchant that has subscriptions, with a number that changes when one of them does."""
    flat = await redis.execute("HGETALL", push_keys.subscription_news())
    return {name.decode(): int(number) for name, number in zip(flat[::2], flat[1::2], strict=True)}


def encode(subscription: Subscription) -> bytes:
    """Return the record's text; equal subscriptions give equal texts."""
    record = asdict(subscription)
    del record["id"], record["merchant"]
    record["filter"]["skus"] = sorted(subscription.filter.skus)
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


def decode(merchant: str, name: str, record: bytes) -> Subscription:
    """Return the subscription that a record describes.

    Raises:
        Misconfigured: not a record of this version.
    """
    try:
        found: dict[str, Any] = orjson.loads(record)
        chosen = found.pop("filter")
        return Subscription(
            id=name,
            merchant=merchant,
            filter=Filter(skus=frozenset(chosen["skus"]), prefix=chosen["prefix"]),
            secrets=tuple(SealedSecret(**one) for one in found.pop("secrets")),
            **found,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        msg = f"The record of subscription {name} is not readable by this version of the hub."
    raise Misconfigured(msg)


# -------------------------------------------------------------------------------------------------- lanes


async def open_lane(redis: Executes, keys: MerchantKeys, name: str, standing: Standing) -> None:
    """Begin a lane, forgetting what was told under its name before."""
    lane = push_keys.lane(keys.tag, name)
    await redis.execute("DEL", lane, push_keys.attempts(keys.tag, name))
    flat = [part for pair in lane_fields(standing).items() for part in pair]
    await redis.execute("HSET", lane, "born", standing.born_ms, *flat)
    await redis.execute("EXPIRE", lane, _UNUSED_LANE_S)


async def keep_lane(redis: Executes, keys: MerchantKeys, name: str) -> None:
    """Keep a lane for good: its subscription has come to be."""
    await redis.execute("PERSIST", push_keys.lane(keys.tag, name))


async def close_lane(redis: Executes, keys: MerchantKeys, name: str) -> None:
    """Forget how far an endpoint was told."""
    await redis.execute("DEL", push_keys.lane(keys.tag, name), push_keys.attempts(keys.tag, name))


async def read_lane(redis: Executes, keys: MerchantKeys, name: str) -> Standing | None:
    """Return how an endpoint is doing."""
    flat = await redis.execute("HGETALL", push_keys.lane(keys.tag, name))
    return _standing(dict(zip(flat[::2], flat[1::2], strict=True))) if flat else None


async def ask(redis: Executes, keys: MerchantKeys, name: str, fields: Mapping[str, Part]) -> None:
    """Leave word for whoever has the lane."""
    flat = [part for pair in fields.items() for part in pair]
    await redis.execute("HSET", push_keys.lane(keys.tag, name), *flat)


async def write_lane(
    redis: Executes,
    keys: MerchantKeys,
    subscription: Subscription,
    fields: Mapping[str, Part],
    *,
    owner: str,
    attempt: Attempt | None = None,
    kept: int,
) -> bool:
    """Write some fields down, and one line of the log; false when another process has the merchant by now."""
    written: int = await _WRITE_LANE(
        redis,
        keys={
            "lease": push_keys.push_lease(keys.tag),
            "lane": push_keys.lane(keys.tag, subscription.id),
            "attempts": push_keys.attempts(keys.tag, subscription.id),
        },
        args={
            "owner": owner,
            "born_ms": subscription.created_at_ms,
            "attempts_max": kept,
            "attempt": orjson.dumps(attempt) if attempt else b"",
        },
        rest=[part for pair in fields.items() for part in pair],
    )
    return written == 1


async def read_attempts(redis: Executes, keys: MerchantKeys, name: str, *, limit: int) -> list[Attempt]:
    """Return the newest lines of the log, newest first."""
    found = await redis.execute("XREVRANGE", push_keys.attempts(keys.tag, name), "+", "-", "COUNT", limit)
    return [Attempt(**orjson.loads(fields[1])) for _, fields in found]


async def take_lease(redis: Executes, keys: MerchantKeys, *, owner: str, ttl_ms: int) -> bool:
    """Take or renew the right to tell the merchant's subscribers; with 0 ms give it back."""
    held = await _LEASE(
        redis, keys={"lease": push_keys.push_lease(keys.tag)}, args={"owner": owner, "ttl_ms": ttl_ms}
    )
    return bool(held)


def lane_fields(standing: Standing) -> dict[str, Part]:
    """Return everything of a standing that its owner writes; what agents ask for is written by the api."""
    return {
        **spot_fields(standing.spot),
        **pending_fields(standing.pending),
        "view": standing.view,
        "status": standing.status.value,
        "reason": standing.reason,
        "changed_at": standing.changed_at_ms,
        "failures": standing.failures,
        "failing_since": standing.failing_since_ms,
        "next_at": standing.next_at_ms,
        "delivered_at": standing.delivered_at_ms,
        "expiry_noted": int(standing.is_expiry_noted),
    }


def done_fields(wish: str, name: str) -> dict[str, Part]:
    """Return that a wish has been met; one that was put meanwhile has another name and is not."""
    return {f"{wish}_done": name}


def spot_fields(spot: Spot) -> dict[str, Part]:
    """Return where an endpoint stands."""
    return {"epoch": spot.epoch, "seq": spot.seq}


def pending_fields(pending: Pending | None) -> dict[str, Part]:
    """Return the message in hand; never more than one."""
    return {"pending": orjson.dumps(pending) if pending else b""}


def _standing(found: Fields) -> Standing:
    text = {name.decode(): value.decode() for name, value in found.items()}

    def number(name: str) -> int:
        return int(text.get(name) or 0)

    return Standing(
        born_ms=number("born"),
        spot=Spot(epoch=text.get("epoch", ""), seq=number("seq")),
        view=text.get("view", ""),
        pending=_pending(text.get("pending", "")),
        status=Status(text.get("status", Status.ACTIVE)),
        reason=text.get("reason", ""),
        changed_at_ms=number("changed_at"),
        failures=number("failures"),
        failing_since_ms=number("failing_since"),
        next_at_ms=number("next_at"),
        delivered_at_ms=number("delivered_at"),
        is_expiry_noted=bool(number("expiry_noted")),
        asked=Asked(**{wish: _undone(text, wish) for wish in WISHES}),
    )


def _undone(text: Mapping[str, str], wish: str) -> str:
    asked = text.get(wish, "")
    return asked if asked != text.get(f"{wish}_done", "") else ""


def _pending(text: str) -> Pending | None:
    if not text:
        return None
    found: dict[str, Any] = orjson.loads(text)
    return Pending(upto=Spot(**found.pop("upto")), skus=tuple(found.pop("skus")), **found)


# --------------------------------------------------------------------------------------------- the history


async def named_head(redis: Executes, keys: MerchantKeys) -> Position:
    """Return the merchant's head, giving the history a name if it has none yet."""
    epoch, seq, feed_seq = await _RENEW_EPOCH(
        redis,
        keys={"head": keys.head},
        args={"epoch_expected": "", "epoch_new": secrets.token_urlsafe(_EPOCH_BYTES)},
    )
    return Position(epoch=epoch.decode(), seq=int(seq or 0), feed_seq=int(feed_seq or 0))


async def read_oldest(redis: Executes, keys: MerchantKeys) -> int | None:
    """Return the lowest sequence from which every change is still kept; None when none is."""
    found = await redis.execute("XRANGE", keys.feed, "-", "+", "COUNT", 1)
    return int(dict(zip(found[0][1][::2], found[0][1][1::2], strict=True))[b"p"]) if found else None


async def read_range(
    redis: Executes, keys: MerchantKeys, *, after: int, upto: int, limit: int
) -> list[FeedEntry]:
    """Return at most so many changes with ``after < seq <= upto``."""
    found = await redis.execute("XRANGE", keys.feed, f"({after}-0", f"{upto}-0", "COUNT", limit)
    return [
        feed_entry_of(entry_id, dict(zip(flat[::2], flat[1::2], strict=True))) for entry_id, flat in found
    ]


async def read_changes(
    client: aioredis.Redis, positions: Mapping[str, int], *, block_ms: int, limit: int
) -> dict[str, list[FeedEntry]]:
    """Wait for changes after these positions, merchant by merchant; who is absent has none."""
    names = {MerchantKeys(merchant).feed: merchant for merchant in positions}
    streams: Any = {key: f"{positions[merchant]}-0" for key, merchant in names.items()}
    reply = cast("list[list[Any]]", await client.xread(streams, count=limit, block=block_ms))
    return {
        names[key.decode()]: [feed_entry_of(entry_id, fields) for entry_id, fields in entries]
        for key, entries in reply
    }


def refusal_of(limit: Limit, settings: SubscriptionSettings) -> RateLimited:
    """Return what an agent is told when a limit is in the way."""
    sentences: Mapping[Limit, Sequence[str | int]] = {
        Limit.AGENT: ("This key has", settings.per_agent),
        Limit.MERCHANT: ("This merchant has", settings.per_merchant),
        Limit.ALL: ("The hub has", settings.in_all),
    }
    who, most = sentences[limit]
    msg = f"{who} {most} subscriptions, which is the most there may be; delete one that is not needed."
    return RateLimited(msg, retry_after_s=60)
