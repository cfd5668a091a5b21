"""The stock of one merchant in Redis: three scripts and nothing decided here."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from synchub import lua
from synchub.stock.model import Answer, Applied, Outcome, Position, Reading
from synchub.stock.rules import Row, answer_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.settings import Settings

APPLY = lua.load("apply")
READ_ANSWERS = lua.load("read_answers")
READ_PAGE = lua.load("read_page")

_HOURS_PER_DAY = 24


async def apply_rows(
    redis: Executes, keys: MerchantKeys, rows: Sequence[Row], *, now_ms: int, settings: Settings
) -> tuple[Applied, ...]:
    """Run the apply script once for all rows, in order."""
    answer = await APPLY(
        redis,
        keys={
            "head": keys.head,
            "ledger": keys.ledger,
            "feed": keys.feed,
            "skus": keys.skus,
            "roles": keys.roles,
            "locations": keys.locations,
            "watermarks": keys.watermarks,
            "parked": keys.parked,
        },
        args={
            "now_ms": now_ms,
            "epoch_if_new": new_epoch(),
            "sku_prefix": keys.sku(""),
            "items_prefix": keys.items(""),
            "group_prefix": f"{keys.tag}group:",
            "refetch_prefix": keys.refetch(""),
            "seen_prefix": f"{keys.tag}seen:",
            "seen_days": -(-settings.stock.seen_hours // _HOURS_PER_DAY),
            "parked_max": settings.stock.parked_max,
            "confirm_after_ms": settings.refetch.confirm_after_ms,
            "ledger_max": settings.stock.ledger_max,
            "feed_max": settings.feed.retained,
        },
        rest=[field for row in rows for field in row],
    )
    return tuple(_applied(outcome, detail) for outcome, detail in zip(answer[::2], answer[1::2], strict=True))


async def read_answers(redis: Executes, keys: MerchantKeys, skus: Sequence[str]) -> Reading:
    """Read some SKUs and their position in one step; unknown ones have ``ver`` 0."""
    position, watermarks, answers = await READ_ANSWERS(
        redis,
        keys={"head": keys.head, "watermarks": keys.watermarks},
        args={"sku_prefix": keys.sku("")},
        rest=list(skus),
    )
    return _reading(position, watermarks, answers, skus)


async def read_page(redis: Executes, keys: MerchantKeys, *, prefix: str, after: str, limit: int) -> Reading:
    """Read the next ``limit`` SKUs after ``after`` that start with ``prefix``, in byte order."""
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
    return _reading(position, watermarks, answers, [name.decode() for name in names])


def new_epoch() -> str:
    """Return 96 random bits as text: the name of one unbroken history."""
    return secrets.token_urlsafe(12)


def _applied(outcome: bytes, detail: int | bytes) -> Applied:
    if isinstance(detail, bytes):
        return Applied(outcome=Outcome.FAILED, seq=0, error=detail.decode(errors="replace"))
    return Applied(outcome=Outcome(outcome.decode()), seq=detail)


def _reading(
    position: list[Any], watermarks: list[bytes], answers: list[Any], skus: Sequence[str]
) -> Reading:
    epoch, seq, feed_seq = position
    marks = {name.decode(): int(at) for name, at in zip(watermarks[::2], watermarks[1::2], strict=True)}
    found: tuple[Answer, ...] = tuple(
        answer_of(sku, fields, marks) for sku, fields in zip(skus, answers, strict=True)
    )
    return Reading(
        position=Position(epoch=(epoch or b"").decode(), seq=int(seq or 0), feed_seq=int(feed_seq or 0)),
        answers=found,
    )
