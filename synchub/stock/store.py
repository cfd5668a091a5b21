"""The stock of one merchant in Redis: three scripts and nothing decided here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub import lua
from synchub.steps import DAY_MS, memory_args, saw, step_args
from synchub.stock.model import Applied, Lapsed, Outcome, Reading, Settled
from synchub.stock.rules import Row, footing_of, marks_of, position_of, reading_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.settings import Settings
    from synchub.stock.model import Footing

APPLY = lua.load("apply")
LAPSE = lua.load("lapse")
SETTLE = lua.load("settle_line")
READ_ANSWERS = lua.load("read_answers")
READ_PAGE = lua.load("read_page")

_HOURS_PER_DAY = 24


async def apply_rows(
    redis: Executes, keys: MerchantKeys, rows: Sequence[Row], *, now_ms: int, settings: Settings
) -> tuple[Applied, ...]:
    """Run the apply script once for all rows, in order."""
    epoch, seq, told = await APPLY(
        redis,
        keys={"head": keys.head},
        args={
            **step_args(keys, now_ms=now_ms, settings=settings),
            "seen_days": -(-settings.stock.seen_hours // _HOURS_PER_DAY),
            "parked_max": settings.stock.parked_max,
            "confirm_after_ms": settings.refetch.confirm_after_ms,
            **memory_args(settings),
            "feed_max": settings.feed.retained,
        },
        rest=[field for row in rows for field in row],
    )
    saw(redis, keys, epoch, seq)
    return tuple(_applied(outcome, detail) for outcome, detail in zip(told[::2], told[1::2], strict=True))


async def read_answers(redis: Executes, keys: MerchantKeys, skus: Sequence[str]) -> Reading:
    """Read some SKUs and their position in one step; unknown ones have ``ver`` 0."""
    position, watermarks, answers = await READ_ANSWERS(
        redis,
        keys={"head": keys.head, "watermarks": keys.watermarks},
        args={"sku_prefix": keys.sku("")},
        rest=list(skus),
    )
    saw(redis, keys, *position[:2])
    return reading_of(position_of(position), marks_of(watermarks), answers, skus)


async def read_page(redis: Executes, keys: MerchantKeys, *, prefix: str, after: str, limit: int) -> Reading:
    """Read the next ``limit`` SKUs after ``after`` that start with ``prefix``, in byte order."""
    position, watermarks, answers, skus = await _read_page(redis, keys, prefix, after, limit)
    return reading_of(position_of(position), marks_of(watermarks), answers, skus)


async def read_footings(
    redis: Executes, keys: MerchantKeys, *, after: str, limit: int
) -> tuple[Footing, ...]:
    """Read what the answers of the next ``limit`` SKUs rest on, in byte order."""
    _, _, answers, skus = await _read_page(redis, keys, "", after, limit)
    return tuple(footing_of(sku, packed) for sku, packed in zip(skus, answers, strict=True))


async def _read_page(
    redis: Executes, keys: MerchantKeys, prefix: str, after: str, limit: int
) -> tuple[list[bytes | None], list[bytes], list[bytes | None], list[str]]:
    start = f"({after}" if after else f"[{prefix}"
    position, watermarks, answers, names = await READ_PAGE(
        redis,
        keys={"head": keys.head, "watermarks": keys.watermarks, "skus": keys.skus},
        args={
            "sku_prefix": keys.sku(""),
            "from": start,
            "upto": b"[" + prefix.encode() + b"\xff" if prefix else "+",
            "count": limit,
        },
    )
    return position, watermarks, answers, [name.decode() for name in names]


async def lapse(redis: Executes, keys: MerchantKeys, *, now_ms: int, settings: Settings) -> Lapsed:
    """Run one step of the reaper."""
    done, left, clock, epoch, seq, frozen_until = await LAPSE(
        redis,
        keys={"head": keys.head},
        args={
            **step_args(keys, now_ms=now_ms, settings=settings),
            **memory_args(settings),
            "names_ms": settings.stock.names_days * DAY_MS,
            "feed_max": settings.feed.retained,
            "limit": settings.stock.lapse_max,
        },
    )
    saw(redis, keys, epoch, seq)
    return Lapsed(done=done, left=left, clock_ms=int(clock), frozen_until_ms=int(frozen_until))


async def settle(
    redis: Executes, keys: MerchantKeys, name: str, *, cause: str, now_ms: int, settings: Settings
) -> Settled | None:
    """Settle the sale of that name; ``None`` when there is none."""
    outcome, seq = await SETTLE(
        redis,
        keys={"head": keys.head},
        args={
            **step_args(keys, now_ms=now_ms, settings=settings),
            **memory_args(settings),
            "feed_max": settings.feed.retained,
            "name": name,
            "cause": cause,
        },
    )
    return None if outcome == b"unknown" else Settled(seq=seq)


def _applied(outcome: bytes, detail: int | bytes) -> Applied:
    if isinstance(detail, bytes):
        return Applied(outcome=Outcome.FAILED, seq=0, error=detail.decode(errors="replace"))
    return Applied(outcome=Outcome(outcome.decode()), seq=detail)
