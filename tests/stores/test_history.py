"""What a restart, a fail-over and a lost end of the store mean for a merchant's history."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from synchub.archive.model import Log, Outcome
from synchub.archive.operations import Archivist
from synchub.errors import Frozen
from synchub.history import witness
from synchub.history.model import Head
from synchub.history.operations import give_up
from synchub.kit.clock import now_ms
from synchub.reservations.model import RestoreOutcome, Status, Verb
from synchub.reservations.rules import token_of
from tests.support.history import KEYS, MAC_KEY, Party, keep, parties, put_back, restart, token
from tests.support.rows import ITEM, read
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import StartValkey
    from tests.support.valkey import Valkey

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("history")]

SHORT_MS: Final = 50
RESTORED, KNOWN, REFUSED = RestoreOutcome.RESTORED, RestoreOutcome.KNOWN, RestoreOutcome.REFUSED


@pytest.fixture
def server(own_valkey: StartValkey) -> Valkey:
    return own_valkey()


@pytest.fixture
async def one(server: Valkey, tmp_path: Path) -> AsyncIterator[Party]:
    """A process and ten units."""
    async with parties(server, tmp_path / "archive") as (party,):
        await party.stock_up()
        yield party


@pytest.fixture
async def two(server: Valkey, tmp_path: Path) -> AsyncIterator[list[Party]]:
    """Two processes and ten units."""
    async with parties(server, tmp_path / "archive", 2) as opened:
        await opened[0].stock_up()
        yield list(opened)


async def lose(server: Valkey, kept: Path) -> None:
    await asyncio.to_thread(put_back, server, kept)


# Which run of which server


async def test_the_first_step_of_a_merchant_notes_the_run_of_its_server(one: Party, server: Valkey) -> None:
    with server.client() as client:
        run = client.info("server")["run_id"]
    assert (await one.head())["run"] == one.redis.run == run


async def test_a_step_on_another_run_than_the_noted_one_is_refused(one: Party, server: Valkey) -> None:
    await one.redis.execute("HSET", KEYS.head, "run", "another")
    one.redis.on_frozen = None
    with pytest.raises(Frozen):
        await one.tell(read(5, at=now_ms()))
    with server.client() as client:
        assert client.xlen(KEYS.ledger) == 1
    assert (await one.answer()).ats == 10


async def test_a_restart_without_a_loss_keeps_the_epoch_and_freezes_nothing(
    one: Party, server: Valkey
) -> None:
    epoch, run = await one.epoch(), one.redis.run
    await asyncio.to_thread(restart, server)
    await one.held()
    head = await one.head()
    assert head["epoch"] == epoch
    assert head["run"] == one.redis.run != run
    assert "frozen" not in head


async def test_a_process_that_has_seen_nothing_takes_a_new_run_on(two: list[Party], server: Valkey) -> None:
    first, fresh = two
    epoch = await first.epoch()
    await asyncio.to_thread(restart, server)
    await fresh.held()
    assert await fresh.epoch() == epoch


# A lost end


async def test_a_lost_end_gets_a_new_name_and_nothing_new_is_granted(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    epoch = await one.epoch()
    kept = keep(server, tmp_path / "kept")
    await one.held(4)
    await lose(server, kept)
    assert await one.grant() == "frozen"
    head = await one.head()
    assert head["epoch"] != epoch
    assert epoch in head["former"].split()
    assert (await one.answer()).ats == 10


async def test_what_was_known_before_goes_on_while_new_holds_wait(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    early, late = await one.held(1), await one.held(1)
    kept = keep(server, tmp_path / "kept")
    await one.held(1)
    await lose(server, kept)
    assert await one.grant() == "frozen"
    assert await one.tell(read(20, at=now_ms())) == ["applied"]
    assert (await one.bought(early.id)).status is Status.COMMITTED
    assert not isinstance(await one.change(Verb.RENEW, late.id), str)
    assert not isinstance(await one.change(Verb.RELEASE, late.id), str)


async def test_after_the_window_holds_are_granted_again_under_the_new_name(
    server: Valkey, tmp_path: Path
) -> None:
    async with parties(server, tmp_path / "archive", window_ms=SHORT_MS) as (one,):
        await one.stock_up()
        kept = keep(server, tmp_path / "kept")
        old = await one.held(4)
        await lose(server, kept)

        async def is_granted() -> bool:
            return await one.grant() != "frozen"

        await eventually(is_granted, what="the thaw")
        new = await one.held()
        assert new.epoch != old.epoch
        assert (await one.answer()).ats == 8


async def test_sequences_go_on_from_what_is_left_and_ids_never_meet(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    kept = keep(server, tmp_path / "kept")
    lost = await one.held()
    await lose(server, kept)
    await one.tell(read(9, at=now_ms()))
    entries = await one.redis.execute("XRANGE", KEYS.ledger, "-", "+")
    assert [int(name.split(b"-")[0]) for name, _ in entries] == [1, 2, 3]
    fields = dict(zip(entries[1][1][::2], entries[1][1][1::2], strict=True))
    assert (fields[b"field"], fields[b"from"]) == (b"epoch", lost.epoch.encode())
    assert fields[b"to"].decode() == await one.epoch()


async def test_what_only_another_process_had_seen_is_missed_when_it_comes(
    two: list[Party], server: Valkey, tmp_path: Path
) -> None:
    knows_less, knows_more = two
    epoch = await knows_less.epoch()
    kept = keep(server, tmp_path / "kept")
    await knows_more.held(4)
    await lose(server, kept)
    # The one that knows less takes the new run on, and the history grows past what the other has seen.
    for _ in range(5):
        await knows_less.held()
    assert await knows_less.epoch() == epoch
    assert await knows_more.grant() == "frozen"
    assert await knows_less.grant() == "frozen"


async def test_of_processes_that_miss_the_same_one_renames_for_all(server: Valkey, tmp_path: Path) -> None:
    async with parties(server, tmp_path / "archive", 6) as many:
        await many[0].stock_up()
        kept = keep(server, tmp_path / "kept")
        for party in many:
            await party.held()
        await lose(server, kept)
        assert set(await asyncio.gather(*(party.grant() for party in many))) == {"frozen"}
        epochs = {await party.epoch() for party in many}
        fields = [dict(zip(e[::2], e[1::2], strict=True)) for _, e in await _ledger(many[0])]
    assert len(epochs) == 1
    assert [one[b"field"] for one in fields].count(b"epoch") == 1


async def test_a_store_that_has_lost_everything_is_a_loss_too(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    await one.held(4)
    empty = tmp_path / "empty"
    empty.mkdir()
    await lose(server, empty)
    assert await one.grant() == "frozen"


async def test_an_older_copy_from_before_a_renaming_is_noticed(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    kept = keep(server, tmp_path / "kept")
    await one.held()
    await lose(server, kept)
    assert await one.grant() == "frozen"
    second = await one.epoch()
    await one.tell(read(8, at=now_ms()))
    await lose(server, kept)
    assert await one.grant() == "frozen"
    head = await one.head()
    assert head["epoch"] != second
    assert second in head["former"].split()


async def test_the_archive_misses_what_no_process_remembers(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    epoch = await one.epoch()
    kept = keep(server, tmp_path / "kept")
    await one.held()
    assert await _archive(one) is Outcome.WRITTEN
    await lose(server, kept)
    async with parties(server, tmp_path / "archive") as (fresh,):
        assert await fresh.grant() == "frozen"
        assert await fresh.epoch() != epoch
        await fresh.tell(read(9, at=now_ms()))
        assert await _archive(fresh) is Outcome.WRITTEN


async def test_what_was_written_down_is_missed_when_every_process_has_ended(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    kept = keep(server, tmp_path / "kept")
    await one.held()
    await one.historian.write_down()
    await lose(server, kept)
    async with parties(server, tmp_path / "archive") as (fresh,):
        assert await fresh.grant() == "frozen"
        await fresh.historian.write_down()
        epoch = await fresh.epoch()
    await asyncio.to_thread(restart, server)
    async with parties(server, tmp_path / "archive") as (fresh,):
        await fresh.tell(read(9, at=now_ms()))
        assert await fresh.epoch() == epoch


async def test_what_was_written_after_a_run_was_taken_on_is_no_loss(two: list[Party], server: Valkey) -> None:
    first, late = two
    await late.answer()
    epoch = await first.epoch()
    await asyncio.to_thread(restart, server)
    for _ in range(3):
        await first.held()
    await first.historian.write_down()
    await late.historian.prove(KEYS.merchant)
    assert await late.epoch() == epoch


async def test_a_file_that_is_damaged_or_cannot_be_read_vouches_for_nothing(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    epoch = await one.epoch()
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "heads.json").write_bytes(b"[1, 2")
    await asyncio.to_thread(restart, server)
    await one.tell(read(9, at=now_ms()))
    (tmp_path / "archive" / "heads.json").unlink()
    (tmp_path / "archive").rmdir()
    (tmp_path / "archive").write_bytes(b"no folder")
    await asyncio.to_thread(restart, server)
    await one.tell(read(8, at=now_ms()))
    assert await one.epoch() == epoch


def test_what_is_written_down_goes_back_for_nobody(tmp_path: Path) -> None:
    witness.write(tmp_path, {"acme": Head(epoch="a", seq=7), "other": Head(epoch="x", seq=1)})
    witness.write(tmp_path, {"acme": Head(epoch="a", seq=5)})
    assert witness.read(tmp_path) == {"acme": Head(epoch="a", seq=7), "other": Head(epoch="x", seq=1)}
    witness.write(tmp_path, {"acme": Head(epoch="b", seq=2)})
    assert witness.read(tmp_path)["acme"] == Head(epoch="b", seq=2)


async def test_data_of_another_server_is_noticed_on_a_connection_that_stayed(one: Party) -> None:
    epoch = await one.epoch()
    await one.held()
    # As after a time as its replica: what the other server had, with the name of the other server's run.
    await one.redis.execute("HSET", KEYS.head, "seq", "1", "run", "another")
    await one.redis.execute("XTRIM", KEYS.ledger, "MAXLEN", 0)
    await one.redis.execute("XSETID", KEYS.ledger, "1-0")
    assert await one.grant() == "frozen"
    assert await one.epoch() != epoch


async def test_a_history_whose_name_was_taken_away_gets_another_and_goes_on(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    epoch = await one.epoch()
    await one.redis.execute("HDEL", KEYS.head, "epoch")
    await asyncio.to_thread(restart, server)
    async with parties(server, tmp_path / "none") as (fresh,):
        await fresh.held()
        assert await fresh.epoch() != epoch


async def test_a_reader_that_has_seen_another_entry_has_the_history_renamed_once(one: Party) -> None:
    epoch = await one.epoch()
    await asyncio.gather(*(give_up(one.redis, KEYS.merchant, epoch, settings=one.settings) for _ in range(4)))
    renamed = await one.epoch()
    assert renamed != epoch
    await give_up(one.redis, KEYS.merchant, epoch, settings=one.settings)
    assert await one.epoch() == renamed


async def test_after_a_loss_answers_are_degraded_until_the_source_has_been_read(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    kept = keep(server, tmp_path / "kept")
    await one.held()
    await lose(server, kept)
    await one.grant()
    await one.let_time_pass()
    assert (await one.answer()).degraded
    assert await one.redis.execute("ZRANGE", KEYS.refetch("wms"), 0, -1) == [ITEM.encode()]
    await one.tell(read(10, at=now_ms()))
    assert not (await one.answer()).degraded


async def test_items_that_nobody_has_reported_yet_are_fetched_as_well(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    for number in range(200):
        await one.redis.execute("HSET", KEYS.items("wms"), f"item-{number}", f"SKU-{number}")
    kept = keep(server, tmp_path / "kept")
    await one.held()
    await lose(server, kept)
    await one.grant()
    await one.let_time_pass()
    assert await one.redis.execute("ZCARD", KEYS.refetch("wms")) == 201


# What was granted, shown again


async def test_a_lost_hold_is_held_again_until_its_own_deadline(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    kept = keep(server, tmp_path / "kept")
    lost = await one.held(4)
    await lose(server, kept)
    [first] = await one.restore(token(lost))
    [again] = await one.restore(token(lost))
    assert (first.outcome, again.outcome) == (RESTORED, KNOWN)
    assert first.reservation is not None
    assert (first.reservation.id, first.reservation.expires_ms) == (lost.id, lost.expires_ms)
    assert ((await one.answer()).ats, (await one.answer()).held) == (6, 4)
    assert (await one.bought(lost.id)).status is Status.COMMITTED


async def test_a_lost_hold_is_not_restored_beyond_the_stock(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    kept = keep(server, tmp_path / "kept")
    lost = [await one.held(6), await one.held(4)]
    await lose(server, kept)
    await one.tell(read(7, at=now_ms()))
    restored = await one.restore(*(token(hold) for hold in lost))
    assert [(r.outcome, r.reason) for r in restored] == [(RESTORED, ""), (REFUSED, "insufficient")]
    assert (await one.answer()).ats == 1


async def test_a_lost_receipt_is_a_sale_again_even_into_the_negative(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    kept = keep(server, tmp_path / "kept")
    sold = await one.bought((await one.held(6)).id, order="order-1")
    await lose(server, kept)
    await one.tell(read(4, at=now_ms()))
    [first] = await one.restore(token(sold))
    [again] = await one.restore(token(sold))
    assert (first.outcome, again.outcome) == (RESTORED, KNOWN)
    assert first.reservation is not None
    assert (first.reservation.status, first.reservation.order) == (Status.COMMITTED, "order-1")
    assert first.reservation.review_due_ms is not None
    assert ((await one.answer()).ats, (await one.answer()).held) == (-2, 0)


async def test_the_receipt_of_a_hold_that_is_still_known_commits_it(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    hold = await one.held(4)
    kept = keep(server, tmp_path / "kept")
    sold = await one.bought(hold.id, order="order-1")
    await lose(server, kept)
    [restored] = await one.restore(token(sold))
    assert restored.outcome is RESTORED
    assert ((await one.answer()).ats, (await one.answer()).held) == (6, 0)


async def test_a_lost_renewal_is_shown_by_its_token(one: Party, server: Valkey, tmp_path: Path) -> None:
    hold = await one.held(4, ttl_ms=200_000)
    kept = keep(server, tmp_path / "kept")
    renewed = await one.change(Verb.RENEW, hold.id)
    assert not isinstance(renewed, str)
    await lose(server, kept)
    [restored] = await one.restore(token(renewed))
    assert restored.reservation is not None
    assert restored.reservation.expires_ms == renewed.expires_ms > hold.expires_ms
    assert (await one.answer()).held == 4


async def test_tokens_that_prove_nothing_here_change_nothing(
    one: Party, server: Valkey, tmp_path: Path
) -> None:
    kept = keep(server, tmp_path / "kept")
    lost = await one.held(4)
    await lose(server, kept)
    genuine = token(lost)
    forged = token_of(b"x" * 32, KEYS.merchant, lost)
    altered = genuine.replace(".", ".A", 1)
    others = token_of(MAC_KEY, "other", lost)
    restored = await one.restore(forged, altered, others, "", "shr1.", "ü")
    assert {(r.outcome, r.reason) for r in restored} == {(REFUSED, "not_a_token")}
    [someone_elses] = await one.restore(genuine, agent="thief")
    assert (someone_elses.outcome, someone_elses.reason) == (REFUSED, "not_a_token")
    assert (await one.answer()).held == 0


async def test_a_hold_that_is_over_or_given_back_stays_so(one: Party, server: Valkey, tmp_path: Path) -> None:
    released = await one.held(2)
    await one.change(Verb.RELEASE, released.id)
    kept = keep(server, tmp_path / "kept")
    short = await one.held(2, ttl_ms=1000)
    await lose(server, kept)

    async def outcome() -> str:
        [result] = await one.restore(token(short))
        return result.reason

    [given_back] = await one.restore(token(released))
    assert given_back.outcome is KNOWN
    assert given_back.reservation is not None
    assert given_back.reservation.status is Status.RELEASED
    await eventually(lambda: now_ms() > short.expires_ms, what="the deadline")
    await one.let_time_pass()
    assert await outcome() in {"expired", ""}
    assert (await one.answer()).held == 0


async def _ledger(party: Party) -> list[tuple[bytes, list[bytes]]]:
    entries: list[tuple[bytes, list[bytes]]] = await party.redis.execute("XRANGE", KEYS.ledger, "-", "+")
    return entries


async def _archive(party: Party) -> Outcome:
    archivist = Archivist(party.redis, party.settings)
    extents = await archivist.extents(KEYS.merchant)
    return (await archivist.turn(KEYS.merchant, Log.LEDGER, extents[Log.LEDGER])).outcome
