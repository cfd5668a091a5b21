"""What changes when a setting of reservations is changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from synchub.agents.model import Rate
from synchub.keyspace import MerchantKeys
from synchub.policies.model import Terms
from synchub.redis import CoalescingRedis
from synchub.reservations.granting import Granter
from synchub.reservations.model import Asker, Mode, Wanted, WantedLine
from synchub.reservations.store import Request
from synchub.settings import ReservationSettings
from tests.support.registry import settings_for

if TYPE_CHECKING:
    from synchub.redis import Part

ACME = MerchantKeys("acme")


class Counting(CoalescingRedis):
    """Counts the scripts it is asked to run."""

    scripts = 0

    async def execute(self, *command: Part) -> Any:
        self.scripts += command[0] == "EVALSHA"
        return await super().execute(*command)


@pytest.mark.parametrize(("at_once", "steps"), [(1, 6), (4, 2), (32, 1)])
async def test_so_many_requests_are_decided_in_one_step(redis_url: str, at_once: int, steps: int) -> None:
    chosen = ReservationSettings(batch_max=at_once)
    settings = settings_for(redis_url).model_copy(update={"reservations": chosen})
    redis = Counting(settings.redis)
    granter = Granter(redis, settings)
    await granter.grant(ACME, a_request())  # the script is known from now on
    redis.scripts = 0
    answers = await asyncio.gather(*(granter.grant(ACME, a_request()) for _ in range(6)))
    assert (redis.scripts, {answer.did for answer in answers}) == (steps, {"refused"})
    await redis.close()


def a_request() -> Request:
    asker = Asker(keys=ACME, agent="bot", tier="", channel="", buyer="", session="")
    line = WantedLine(sku="TEE", quantity=1, terms=Terms(version=0))
    wanted = Wanted(asker=asker, lines=(line,), mode=Mode.HOLD, ttl_ms=1000, expected_seq=None, replaces="")
    rate = Rate(interval_us=1, burst=1000)
    return Request(wanted=wanted, once="", fingerprint="", policy=0, rate=rate)
