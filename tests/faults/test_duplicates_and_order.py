"""Deliveries five times over, in any order, and again days later: the numbers are the reference model's."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from synchub.kit.clock import now_ms
from tests.support.deliveries import body_of, delta, level
from tests.support.hub import Site, running_hub
from tests.support.reference_answer import Role
from tests.support.reference_model import ReferenceModel
from tests.support.rows import Row
from tests.support.rows import delta as delta_row
from tests.support.rows import push as level_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

COPIES: Final = 5
HOUR_MS: Final = 3_600_000
ROLE: Final = Role(kind="A", rank=1, max_age=900_000, own_items=True, own_places=True)


@dataclass(frozen=True, kw_only=True)
class Report:
    """One delivery with one row; ``version`` is its place in the platform's order, if it says so."""

    id: str
    sku: str
    is_level: bool
    number: int
    version: int | None

    def body(self) -> bytes:
        """As the platform posts it."""
        row = level if self.is_level else delta
        return body_of(row(self.sku, str(self.number)), sequence=self.version)

    def row(self, at: int) -> Row:
        """As the model takes it."""
        about: dict[str, Any] = {"at": at, "account": "source", "item": self.sku, "version": self.version}
        if self.is_level:
            return level_row(self.number, **about)
        return delta_row(self.number, op=self.id, **about)


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with running_hub(redis_url, ingress={"batch_max": 16}) as served:
        yield served


def reports_of(chance: random.Random) -> list[Report]:
    """Levels alone, changes alone on a known level, and both mixed in one order."""
    reports = [Report(id=f"base-{n}", sku=f"SUM-{n}", is_level=True, number=100, version=1) for n in range(3)]
    version = 1
    for number in range(90):
        version += chance.choice((1, 1, 7, 2**40))
        kind = number % 3
        sku = f"{('LEVEL', 'SUM', 'MIXED')[kind]}-{chance.randrange(3)}"
        is_level = kind == 0 or (kind == 2 and chance.random() < 0.3)
        quantity = chance.randint(0, 99) if is_level else chance.choice((-4, -1, 2, 6))
        ordered = None if kind == 1 else version
        reports.append(
            Report(id=f"report-{number}", sku=sku, is_level=is_level, number=quantity, version=ordered)
        )
    return reports


def expected(reports: Sequence[Report]) -> dict[str, tuple[bool, int]]:
    """What the model makes of each report once, in the platform's order."""
    model = ReferenceModel()
    model.set_role("source", ROLE)
    for at, report in enumerate(reports, 1):
        model.apply([report.row(at)], at)
    return {sku: (model.answer(sku).known, model.answer(sku).ats) for sku in model.skus()}


async def numbers(site: Site) -> dict[str, tuple[bool, int]]:
    keys, client = site.merchant.keys, site.hub.client
    found = {}
    for raw in await client.zrange(keys.skus, 0, -1):
        answer = (await site.hub.redis.execute("HGET", keys.sku(raw.decode()), "answer")).split(b"|")
        found[raw.decode()] = (answer[4] == b"1", int(answer[2]))
    return found


async def post_all(site: Site, reports: Sequence[Report]) -> None:
    """Post in this order, sixteen at a time; every one is accepted."""
    for start in range(0, len(reports), 16):
        heard = await asyncio.gather(
            *(site.post(one.body(), message_id=one.id) for one in reports[start : start + 16])
        )
        assert {one.status for one in heard} == {202}


async def effects(site: Site) -> int:
    return int(await site.hub.client.xlen(site.merchant.keys.ledger))


async def test_five_of_each_in_any_order_end_as_one_of_each_in_order(site: Site, seed: int) -> None:
    chance = random.Random(seed)
    reports = reports_of(chance)
    # A change counts against a level that is known; before it there is nothing to change.
    bases = [report for report in reports if report.id.startswith("base")]
    await post_all(site, bases)
    await site.drained()
    jumbled = reports * COPIES
    chance.shuffle(jumbled)
    await post_all(site, jumbled)
    await site.drained()
    assert await numbers(site) == expected(reports), seed


async def test_everything_again_days_later_changes_nothing(site: Site, seed: int) -> None:
    reports = reports_of(random.Random(seed))
    await post_all(site, reports)
    await site.drained()
    before, count = await numbers(site), await effects(site)
    for hours in (1, 24, 50, 76):
        # The merchant's clock never steps back, so setting it forward is what days do to it.
        await site.hub.redis.execute("HSET", site.merchant.keys.head, "clock", now_ms() + hours * HOUR_MS)
        await post_all(site, reports)
        await site.drained()
        changed = {sku for sku, answer in (await numbers(site)).items() if answer != before[sku]}
        assert changed == set(), f"after {hours} hours"
    told = await site.hub.client.xrange(site.merchant.keys.ledger)
    assert {fields[b"field"] for _, fields in told[count:]} <= {b"answer"}, "only freshness may have changed"


async def test_one_id_with_another_body_is_still_the_same_change(site: Site) -> None:
    await site.post(body_of(level("TEE", "10"), sequence=1), message_id="level")
    await site.post(body_of(delta("TEE", "1")), message_id="change")
    await site.post(body_of(delta("TEE", "1"), note="sent again"), message_id="change")
    await site.drained()
    assert (await numbers(site))["TEE"] == (True, 11)


async def test_equal_bodies_under_different_ids_are_different_changes(site: Site) -> None:
    await site.post(body_of(level("TEE", "10"), sequence=1), message_id="level")
    for number in range(5):
        await site.post(body_of(delta("TEE", "-1")), message_id=f"sale-{number}")
    await site.drained()
    assert (await numbers(site))["TEE"] == (True, 5)


async def test_one_id_of_two_accounts_is_two_deliveries(redis_url: str) -> None:
    async with running_hub(redis_url) as one, running_hub(redis_url) as other:
        for site in (one, other):
            await site.post(body_of(level("TEE", "10"), sequence=1), message_id="level")
            await site.post(body_of(delta("TEE", "1")), message_id="change")
        await one.drained()
        assert (await numbers(one))["TEE"] == (await numbers(other))["TEE"] == (True, 11)
