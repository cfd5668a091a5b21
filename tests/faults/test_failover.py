"""Another server takes the store's place: what it lacks is noticed, and what was promised comes back."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import pytest

from synchub.errors import Fault
from synchub.kit.clock import now_ms
from synchub.reservations.model import RestoreOutcome
from tests.faults.failover_trial import FAIL_OVERS
from tests.support.history import KEYS, Party, token
from tests.support.pair import open_pair
from tests.support.rows import read
from tests.support.wait import eventually, lasting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.support.pair import Pair

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.xdist_group("fail-over")]

OVERLAP_S: Final = 1.2
"""Longer than clocks may differ."""


@pytest.mark.parametrize("name", FAIL_OVERS)
async def test_what_was_promised_before_a_fail_over_is_kept_after_it(
    tmp_path: Path, name: str, seed: int
) -> None:
    await FAIL_OVERS[name](tmp_path, seed)


# Processes that reach different servers for a while. They are parts of processes, so that each step can be
# placed; the servers, the line between them and the fail-over are real.


async def test_what_a_deposed_primary_has_granted_is_missed_by_whoever_granted_it(tmp_path: Path) -> None:
    async with open_pair(tmp_path / "store", doors=2) as pair, _apart(pair, tmp_path) as (one, two):
        await one.stock_up(4)
        await two.held()
        await pair.caught_up()
        pair.line.hole()
        pair.promote()
        pair.doors[0].turn_to(pair.second.port)
        await eventually(lambda: _is_at(one, pair), what="the one at the new primary")
        epoch = await one.epoch()
        kept = await one.held(2)
        stray = await two.held(2)
        assert kept.seq == stray.seq
        assert kept.id != stray.id
        pair.demote()
        pair.doors[1].turn_to(pair.second.port)
        await eventually(lambda: _is_frozen(two), what="the freeze")
        assert await two.epoch() != epoch
        [shown] = await two.restore(token(stray))
        # One of four was left: the units were somebody else's by then, and that is told.
        assert shown.outcome is RestoreOutcome.REFUSED
        assert (await two.answer()).ats == 1


async def test_growth_of_a_history_after_it_was_given_up_is_another_loss(tmp_path: Path) -> None:
    async with open_pair(tmp_path / "store", doors=2) as pair, _apart(pair, tmp_path) as (one, two):
        await one.stock_up(9)
        await two.held()
        await pair.caught_up()
        pair.line.hole()
        await one.held()  # does not reach the replica
        pair.promote()
        pair.doors[0].turn_to(pair.second.port)
        await eventually(lambda: _is_frozen(one), what="the first freeze")
        renamed = await one.epoch()
        await lasting(OVERLAP_S)
        stray = await two.held(2)  # with the deposed one, under the old name
        pair.demote()
        pair.doors[1].turn_to(pair.second.port)
        await eventually(lambda: _is_at(two, pair), what="the other at the new primary")
        assert await two.epoch() != renamed
        [shown] = await two.restore(token(stray))
        assert shown.outcome is RestoreOutcome.RESTORED
        assert (await two.answer()).ats == 9 - 1 - 2


async def test_who_saw_no_more_than_was_given_up_freezes_nobody_again(tmp_path: Path) -> None:
    async with open_pair(tmp_path / "store", doors=2) as pair, _apart(pair, tmp_path) as (one, two):
        await one.stock_up(9)
        await pair.caught_up()
        pair.line.hole()
        await two.held()
        await one.held()
        pair.promote()
        pair.doors[0].turn_to(pair.second.port)
        await eventually(lambda: _is_frozen(one), what="the freeze")
        renamed = await one.epoch()
        await lasting(OVERLAP_S)
        pair.doors[1].turn_to(pair.second.port)
        await eventually(lambda: _is_at(two, pair), what="the other at the new primary")
        assert await two.epoch() == renamed


async def test_a_server_that_was_ahead_is_not_gone_back_to_unnoticed(tmp_path: Path) -> None:
    async with open_pair(tmp_path / "store", doors=2) as pair, _apart(pair, tmp_path) as (one, _):
        await one.stock_up(9)
        await pair.caught_up()
        pair.line.hole()
        pair.promote()
        pair.door.turn_to(pair.second.port)
        await eventually(lambda: _is_at(one, pair), what="the process at the new primary")
        await one.held(3)
        pair.door.turn_to(pair.first.port)
        await eventually(lambda: _is_frozen(one), what="the freeze")


async def test_a_primary_that_needs_a_replica_stops_granting_without_one(tmp_path: Path) -> None:
    fenced = {"min-replicas-to-write": "1", "min-replicas-max-lag": "1"}
    async with (
        open_pair(tmp_path / "store", options=fenced) as pair,
        _apart(pair, tmp_path) as (one,),
    ):
        await eventually(lambda: _stocked(one), what="the stock")
        pair.line.hole()

        async def is_refused() -> bool:
            try:
                await one.grant()
            except Fault as fault:
                return fault.code == "store_unavailable"
            return False

        await eventually(is_refused, what="the fence")
        with pair.first.client() as client:
            before = client.xlen(KEYS.ledger)
            assert await is_refused()
            assert client.xlen(KEYS.ledger) == before


async def _stocked(party: Party) -> bool:
    try:
        await party.stock_up(9)
    except Fault:
        return False
    return await party.tell(read(9, at=now_ms())) != []


async def _is_frozen(party: Party) -> bool:
    try:
        return await party.grant() == "frozen"
    except Fault:
        return False  # not yet at the other server


async def _is_at(party: Party, pair: Pair) -> bool:
    with contextlib.suppress(Fault):
        await party.answer()
    with pair.second.client() as client:
        return bool(party.redis.run == client.info("server")["run_id"])


@contextlib.asynccontextmanager
async def _apart(pair: Pair, folder: Path) -> AsyncIterator[Sequence[Party]]:
    """Two processes, each behind a door of its own, that share no folder."""
    opened = [
        Party(door.url, folder / f"archive-{number}", window_ms=60_000)
        for number, door in enumerate(pair.doors)
    ]
    try:
        yield opened
    finally:
        for party in opened:
            await party.redis.close()
