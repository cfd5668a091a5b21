"""A row that the script cannot apply takes nothing else with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from synchub.keyspace import MerchantKeys
from synchub.redis import CoalescingRedis
from synchub.settings import load_settings
from synchub.stock import operations as stock
from synchub.stock.model import Outcome
from tests.support.rows import catalogue, push, row

if TYPE_CHECKING:
    from synchub.settings import Settings
    from synchub.stock.model import Applied
    from synchub.stock.rules import Row

KEYS = MerchantKeys("demo")


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return load_settings(redis={"url": redis_url})


async def apply(settings: Settings, *rows: Row) -> tuple[Applied, ...]:
    redis = CoalescingRedis(settings.redis)
    try:
        await redis.execute("HSET", KEYS.roles, "wms", "A|1|900000|s|m|0")
        return await stock.apply(redis, KEYS, rows, settings=settings)
    finally:
        await redis.close()


def broken() -> Row:
    return row("C", "wms", "TEE-0001", status="D", at=10, op="", extra="{no json")


async def test_other_rows_of_the_batch_are_applied(settings: Settings) -> None:
    results = await apply(settings, push(5, version=1, at=10), broken(), push(4, version=2, at=11))
    assert [result.outcome for result in results] == [Outcome.APPLIED, Outcome.FAILED, Outcome.APPLIED]
    assert "Expected" in results[1].error


async def test_head_and_ledger_agree_afterwards(settings: Settings) -> None:
    await apply(settings, push(5, version=1, at=10), broken())
    results = await apply(settings, push(4, version=2, at=11), catalogue(status="D"))
    assert [(result.outcome, result.seq) for result in results] == [
        (Outcome.APPLIED, 2),
        (Outcome.APPLIED, 3),
    ]
