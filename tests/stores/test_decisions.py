"""What agents asked and were told: noted without anybody waiting, numbered, archived like the ledger."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from synchub import metrics
from synchub.archive import operations as archive
from synchub.archive.model import Log, Outcome
from synchub.archive.showing import Wanted
from synchub.decisions import rules
from synchub.decisions.model import Seen
from synchub.decisions.operations import BATCH_MAX, DecisionLog
from synchub.errors import OutcomeUnknown, StoreUnavailable
from synchub.keyspace import MerchantKeys
from synchub.redis import CoalescingRedis
from synchub.settings import DecisionSettings, RedisSettings, Settings
from tests.support.archive import Ledger
from tests.support.decisions import a_decision
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from synchub.lua import Executes
    from synchub.redis import Part

WORDS = {
    "id": "p-1",
    "at": "1795255200000",
    "kind": "hold",
    "agent": "acme-agent",
    "buyer": "b1",
    "session": "s1",
    "sku": "TEE",
    "quantity": "2",
    "state": "LOW_STOCK",
    "available": "3",
    "seen_seq": "17",
    "ver": "4",
    "checksum": "hmac",
    "outcome": "refused",
    "reason": "insufficient",
    "policy": "6",
}


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[CoalescingRedis]:
    opened = CoalescingRedis(RedisSettings(url=redis_url))
    yield opened
    await opened.close()


def a_log(redis: Executes, **chosen: int) -> DecisionLog:
    decisions = DecisionSettings().model_copy(update=chosen)
    return DecisionLog(redis, Settings.model_construct(decisions=decisions))


async def stored(redis: CoalescingRedis, merchant: str = "acme") -> list[tuple[int, dict[str, str]]]:
    found = await redis.execute("XRANGE", MerchantKeys(merchant).decisions, "-", "+")
    return [
        (
            int(entry_id.split(b"-")[0]),
            {name.decode(): text.decode() for name, text in zip(flat[::2], flat[1::2], strict=True)},
        )
        for entry_id, flat in found
    ]


class Away:
    """A store that is away for a while; with ``after`` its answers are lost on the way back."""

    def __init__(self, redis: CoalescingRedis, *, after: bool = False) -> None:
        self.is_away = True
        self._redis = redis
        self._after = after

    async def execute(self, *command: Part) -> Any:
        if not self.is_away:
            return await self._redis.execute(*command)
        if self._after:
            await self._redis.execute(*command)
            raise OutcomeUnknown
        raise StoreUnavailable


async def test_a_decision_is_stored_with_all_that_it_was_made_on(redis: CoalescingRedis) -> None:
    log = a_log(redis)
    log.note("acme", a_decision())
    await log.flush()
    [(seq, fields)] = await stored(redis)
    assert seq == 1
    assert fields | {"id": "p-1"} == WORDS
    assert tuple(fields) == rules.FIELDS


async def test_decisions_are_numbered_without_holes_across_processes(redis: CoalescingRedis) -> None:
    logs = [a_log(redis), a_log(redis)]
    for _ in range(BATCH_MAX * 2):
        for log in logs:
            log.note("acme", a_decision())
    await asyncio.gather(*(log.flush() for log in logs))
    found = await stored(redis)
    assert [seq for seq, _ in found] == list(range(1, BATCH_MAX * 4 + 1))
    assert len({fields["id"] for _, fields in found}) == len(found)


async def test_each_merchant_has_a_record_of_its_own_in_order(redis: CoalescingRedis) -> None:
    log = a_log(redis)
    for number in range(100):
        log.note("acme" if number % 2 else "other", a_decision(quantity=number))
    await log.flush()
    assert [fields["quantity"] for _, fields in await stored(redis)] == [str(n) for n in range(1, 100, 2)]
    assert [fields["quantity"] for _, fields in await stored(redis, "other")] == [
        str(n) for n in range(0, 100, 2)
    ]


async def test_while_it_is_open_decisions_are_written_by_themselves(redis: CoalescingRedis) -> None:
    async with a_log(redis, flush_ms=1).writing() as log:
        log.note("acme", a_decision())
        await eventually(lambda: log.waiting == 0, what="an empty buffer")
        await eventually(lambda: _is_stored(redis, 1), what="a stored decision")


async def test_what_waits_at_the_end_is_written(redis: CoalescingRedis) -> None:
    async with a_log(redis, flush_ms=60_000).writing() as log:
        log.note("acme", a_decision())
    assert await _is_stored(redis, 1)


async def test_a_full_batch_does_not_wait(redis: CoalescingRedis) -> None:
    async with a_log(redis, flush_ms=60_000).writing() as log:
        for _ in range(BATCH_MAX):
            log.note("acme", a_decision())
        await eventually(lambda: _is_stored(redis, BATCH_MAX), what="a stored batch")


async def test_when_the_store_is_away_decisions_wait_and_none_is_lost(redis: CoalescingRedis) -> None:
    away = Away(redis)
    async with a_log(away, flush_ms=1).writing() as log:
        for number in range(BATCH_MAX + 6):
            log.note("acme" if number % 3 else "other", a_decision(quantity=number))
        with pytest.raises(StoreUnavailable):
            await log.flush()
        away.is_away = False
        await eventually(lambda: log.waiting == 0, what="an empty buffer")
    told = [fields for merchant in ("acme", "other") for _, fields in await stored(redis, merchant)]
    assert sorted(int(fields["quantity"]) for fields in told) == list(range(BATCH_MAX + 6))


async def test_one_whose_answer_is_lost_is_there_twice_under_one_id(redis: CoalescingRedis) -> None:
    await a_log(redis).flush()
    away = Away(redis, after=True)
    log = a_log(away)
    first = a_log(redis)
    first.note("acme", a_decision())
    await first.flush()  # the store knows the script by now
    log.note("acme", a_decision())
    with pytest.raises(OutcomeUnknown):
        await log.flush()
    away.is_away = False
    await log.flush()
    [_, one, again] = [fields for _, fields in await stored(redis)]
    assert one == again


async def test_beyond_the_buffer_the_oldest_go_counted(redis: CoalescingRedis) -> None:
    log = a_log(redis, buffer_max=10)
    before = metrics.decisions_dropped._value.get()
    for number in range(25):
        log.note("acme", a_decision(quantity=number))
    assert log.waiting == 10
    assert metrics.decisions_dropped._value.get() == before + 15
    await log.flush()
    assert [fields["quantity"] for _, fields in await stored(redis)] == [str(n) for n in range(15, 25)]


async def test_the_store_holds_no_more_than_the_limit(redis: CoalescingRedis) -> None:
    log = a_log(redis, stream_max=100, buffer_max=1000)
    for _ in range(600):
        log.note("acme", a_decision())
    await log.flush()
    found = await stored(redis)
    assert 100 <= len(found) <= 300
    assert found[-1][0] == 600


async def test_what_an_agent_claims_cannot_fill_or_break_the_record(redis: CoalescingRedis) -> None:
    log = a_log(redis)
    log.note("acme", a_decision(buyer="x" * 100_000, session="a\ud800\x00b"))
    await log.flush()
    [(_, fields)] = await stored(redis)
    assert len(fields["buyer"]) == rules.TEXT_MAX
    assert fields["session"] == "a?\x00b"


async def test_a_number_that_was_not_shown_is_not_told(redis: CoalescingRedis) -> None:
    log = a_log(redis)
    log.note("acme", a_decision(seen=Seen(state="IN_STOCK")))
    await log.flush()
    [(_, fields)] = await stored(redis)
    assert fields["available"] == ""


# ------------------------------------------------------------------------------------------------ the archive


async def test_decisions_are_archived_in_a_chain_of_their_own(redis: CoalescingRedis, tmp_path: Path) -> None:
    ledger = Ledger(redis=redis, folder=tmp_path)
    log = a_log(redis)
    for number in range(250):
        log.note("acme", a_decision(quantity=number))
    await log.flush()
    archivist = ledger.archivist()
    while (await ledger.turn(archivist, Log.DECISIONS)).entries:
        pass
    await ledger.write(5)
    await ledger.archive_all()
    notes = await archive.read_notes(redis, "acme")
    of_ledger, of_decisions = await archive.verify(tmp_path, "acme", notes)
    assert (of_ledger.broken, of_ledger.entries) == ("", 5)
    assert (of_decisions.broken, of_decisions.entries, of_decisions.missing) == ("", 250, 0)
    wanted = Wanted(merchant="acme", log=Log.DECISIONS, first=7, last=9)
    shown = [one async for one in archive.show(redis, tmp_path, wanted)]
    assert [one.fields["quantity"] for one in shown] == ["6", "7", "8"]
    # What is archived need not stay, but for what shows that the next one follows it.
    assert len(await stored(redis)) <= 150


async def test_the_epoch_that_comes_with_the_first_stock_breaks_no_chain(
    redis: CoalescingRedis, tmp_path: Path
) -> None:
    ledger = Ledger(redis=redis, folder=tmp_path)
    log = a_log(redis)
    for _ in range(3):
        log.note("acme", a_decision(outcome="UNKNOWN_SKU"))
        await log.flush()
        await ledger.turn(log=Log.DECISIONS)
        await ledger.write(1)
    notes = await archive.read_notes(redis, "acme")
    finding = (await archive.verify(tmp_path, "acme", notes))[1]
    assert (finding.broken, finding.entries, finding.missing) == ("", 3, 0)


async def test_decisions_that_the_store_has_lost_stop_no_archive(
    redis: CoalescingRedis, tmp_path: Path
) -> None:
    ledger = Ledger(redis=redis, folder=tmp_path)
    keys = ledger.keys
    await ledger.write(1)
    log, archivist = a_log(redis), ledger.archivist()
    for number in range(12):
        log.note("acme", a_decision(quantity=number))
    await log.flush()
    while (await ledger.turn(archivist, Log.DECISIONS)).entries:
        pass
    # As after power loss with a store that syncs every second: the last ones and the note of them are gone.
    found = await redis.execute("XRANGE", keys.decisions, "-", "8-0")
    await redis.execute("DEL", keys.decisions, keys.archived)
    for entry_id, flat in found:
        await redis.execute("XADD", keys.decisions, entry_id, *flat)
    assert (await ledger.turn(archivist, Log.DECISIONS)).outcome is Outcome.IDLE
    for number in range(100, 106):
        log.note("acme", a_decision(quantity=number))
    await log.flush()
    while (await ledger.turn(archivist, Log.DECISIONS)).entries:
        pass
    finding = (await archive.verify(tmp_path, "acme", await archive.read_notes(redis, "acme")))[1]
    assert (finding.broken, finding.entries, finding.seq, finding.missing) == ("", 18, 14, 0)


async def _is_stored(redis: CoalescingRedis, count: int) -> bool:
    return len(await stored(redis)) == count
