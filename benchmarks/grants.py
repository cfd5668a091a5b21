"""What granting a hold costs Redis while many others live: in a step of 32 requests, and alone.

Counted by the server itself around the hub's own script, so neither the network nor Python is in it. Under
load the hub decides requests of one moment in one step; a lonely request has a step to itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from redis.asyncio import Redis

from benchmarks.observed import script_time
from synchub.agents.model import Rate
from synchub.connector_kit.events import Level, Scale, Version
from synchub.keyspace import MerchantKeys
from synchub.policies.model import Policies
from synchub.policies.rules import Compiled, resolve
from synchub.redis import CoalescingRedis
from synchub.reservations import store
from synchub.reservations.model import Asker, Mode, Wanted, WantedLine
from synchub.settings import Settings, load_settings
from synchub.stock.operations import apply
from synchub.stock.rules import Circumstances, rows_of

STEP = 32
SKU = "BENCH-00000"
MERCHANT = "bench-grants"
ACCOUNT = "bench"
ROLE = "A|0|900000|s|m|0|0|0|0"
"""An authoritative source, first in rank, whose items and locations need no mapping."""

PLENTY = 100_000_000
TTL_MS = 900_000
"""The longest that is granted: none is over during the run."""

KEYS = MerchantKeys(MERCHANT)
TERMS = resolve(Compiled(Policies(version=0), low_threshold=5), SKU, None, None)
RATE = Rate(interval_us=1, burst=1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantCost:
    """Microseconds of the server per hold."""

    alone_us: float
    in_step_us: float


async def measure_grants(url: str, *, live: int, measured: int) -> GrantCost:
    """Grant ``live`` holds, then ``measured`` more each way on the server at ``url``."""
    settings = load_settings(redis={"url": url})
    observer: Redis = Redis.from_url(url)
    redis = CoalescingRedis(settings.redis)
    try:
        await redis.execute("FLUSHALL")
        await redis.execute("HSET", KEYS.roles, ACCOUNT, ROLE)
        await _stock_up(redis, settings)
        granted = await _grant(redis, settings, first=0, count=live, step=STEP)
        before = await script_time(observer)
        granted += await _grant(redis, settings, first=granted, count=measured, step=STEP)
        between = await script_time(observer)
        await _grant(redis, settings, first=granted, count=measured, step=1)
        after = await script_time(observer)
    finally:
        await redis.close()
        await observer.aclose()
    return GrantCost(
        alone_us=(after.us - between.us) / measured, in_step_us=(between.us - before.us) / measured
    )


async def _stock_up(redis: CoalescingRedis, settings: Settings) -> None:
    level = Level(item=SKU, location="WH1", quantity=PLENTY, version=Version(scale=Scale.SEQUENCE, number=1))
    about = Circumstances(account=ACCOUNT, at_ms=_now_ms(), is_read=False, op="bench", cause="benchmark")
    (applied,) = await apply(redis, KEYS, rows_of([level], about), settings=settings)
    assert applied.outcome == "applied", applied


async def _grant(redis: CoalescingRedis, settings: Settings, *, first: int, count: int, step: int) -> int:
    """Grant so many holds, one key each, and return their number."""
    for start in range(first, first + count, step):
        requests = [_request(number) for number in range(start, min(start + step, first + count))]
        answers = await store.grant(redis, KEYS, requests, now_ms=_now_ms(), settings=settings)
        assert {answer.did for answer in answers} == {"held"}, answers[0]
    return count


def _request(number: int) -> store.Request:
    asker = Asker(keys=KEYS, agent="agent", tier="", channel="", buyer="", session="bench")
    wanted = Wanted(
        asker=asker,
        lines=(WantedLine(sku=SKU, quantity=1, terms=TERMS),),
        mode=Mode.CART,
        ttl_ms=TTL_MS,
        expected_seq=None,
        replaces="",
    )
    return store.Request(
        wanted=wanted, once=f"agent:{number}", fingerprint=f"{number:032x}", policy=0, rate=RATE
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
