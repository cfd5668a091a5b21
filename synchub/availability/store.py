"""What is asked for in Redis: answers, and what the catalogue offers instead. Read here, written by stock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from synchub import lua
from synchub.agents.model import Limited
from synchub.availability.model import Outlook
from synchub.connector_kit.events import Incoming
from synchub.steps import saw
from synchub.stock.rules import marks_of, position_of, reading_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.agents.model import Rate
    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.redis import Part
    from synchub.stock.model import Reading

ASK = lua.load("ask")


@dataclass(frozen=True, slots=True)
class Question:
    """One question of an agent as the script takes it."""

    agent: str
    rate: Rate
    skus: Sequence[str]


async def ask(redis: Executes, keys: MerchantKeys, questions: Sequence[Question]) -> list[Reading | Limited]:
    """Read what several questions ask for in one step, having counted a token of each."""
    parts: list[Part] = []
    for one in questions:
        parts += (one.agent, one.rate.interval_us, one.rate.burst, len(one.skus), *one.skus)
    position, watermarks, told = await ASK(
        redis,
        keys={"head": keys.head, "watermarks": keys.watermarks},
        args={"tag": keys.tag},
        rest=parts,
    )
    saw(redis, keys, *position[:2])
    at, marks = position_of(position), marks_of(watermarks)
    return [
        Limited(wait_us=answers) if isinstance(answers, int) else reading_of(at, marks, answers, one.skus)
        for one, answers in zip(questions, told, strict=True)
    ]


async def read_outlooks(redis: Executes, keys: MerchantKeys, skus: Sequence[str]) -> list[Outlook]:
    """Return what is known of each SKU, in their order; all commands leave in one write."""
    found = await asyncio.gather(
        *(redis.execute("HMGET", keys.sku(sku), "substitutes", "incoming") for sku in skus)
    )
    return [_outlook(substitutes, incoming) for substitutes, incoming in found]


def _outlook(substitutes: bytes | None, incoming: bytes | None) -> Outlook:
    return Outlook(
        substitutes=tuple(orjson.loads(substitutes)) if substitutes else (),
        incoming=tuple(Incoming(**arrival) for arrival in orjson.loads(incoming)) if incoming else (),
    )
