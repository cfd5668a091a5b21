"""Checkpoints equal what they stand for, and a walk over the archive finds whatever was changed in it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synchub.archive import checkpoints, rules, verification
from synchub.archive.folder import Folder, checkpoints_of, segments_of
from synchub.archive.model import Entry, Header, Log
from synchub.kit.hash_chain import GENESIS, ChainBroken
from synchub.ledger.rules import entry_of, fold
from synchub.redis import CoalescingRedis
from synchub.settings import RedisSettings
from tests.support.archive import Ledger, effect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from synchub.archive.model import Finding

EVERY: Final = 2


@pytest.fixture
async def ledger(redis_url: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    redis = CoalescingRedis(RedisSettings(url=redis_url))
    yield Ledger(redis=redis, folder=tmp_path / "archive", settings={"checkpoint_every": EVERY})
    await redis.close()


async def archive_with_checkpoints(ledger: Ledger) -> None:
    """Do as the worker does."""
    archivist = ledger.archivist()
    while (await ledger.turn(archivist)).entries:
        await archivist.write_checkpoint(ledger.merchant)


# ----------------------------------------------------------------------------------------------- checkpoints


async def test_a_checkpoint_is_written_after_every_so_many_segments(ledger: Ledger) -> None:
    await ledger.write(55)
    await archive_with_checkpoints(ledger)
    assert await asyncio.to_thread(checkpoints_of(ledger.folder, "acme").numbers) == [2, 4, 6]
    finding = await ledger.verify()
    assert (finding.broken, finding.checkpoints) == ("", 3)


async def test_a_checkpoint_is_the_same_from_an_older_one_and_from_the_start(ledger: Ledger) -> None:
    await ledger.write(60)
    await archive_with_checkpoints(ledger)
    found = checkpoint_file(ledger, 6)
    entries = [entry_of(seq, effect(seq)) for seq in range(1, 61)]
    told = checkpoints.read(found.read_bytes())
    assert checkpoints.state_lines(told.state) == checkpoints.state_lines(fold({}, entries))
    rebuilt = await asyncio.to_thread(checkpoints.build, ledger.folder, "acme", 6)
    assert checkpoints.write("acme", rebuilt)[0] == found.read_bytes()


async def test_a_missing_checkpoint_is_written_with_the_next_segment(ledger: Ledger) -> None:
    await ledger.write(40)
    await ledger.archive_all()  # as after a crash between segment and checkpoint
    archivist = ledger.archivist()
    assert await archivist.write_checkpoint("acme")
    assert not await archivist.write_checkpoint("acme")
    assert (await ledger.verify()).checkpoints == 1


async def test_what_another_epoch_has_given_up_is_in_no_checkpoint(ledger: Ledger) -> None:
    await ledger.write(55)
    await archive_with_checkpoints(ledger)
    await ledger.lose_end(33, epoch="second")
    await ledger.write(30, epoch="second", to="K1000")
    await archive_with_checkpoints(ledger)
    finding = await ledger.verify()
    assert (finding.broken, finding.seq) == ("", 63)
    last = checkpoints.read(checkpoint_file(ledger, 8).read_bytes())
    entries = [entry_of(seq, effect(seq)) for seq in range(1, 34)]
    entries += [entry_of(seq, effect(seq, to="K1000")) for seq in range(34, last.seq + 1)]
    assert last.state == fold({}, entries)


@pytest.mark.parametrize("changed", [b"K1", b'"things":', b'"seq":20'])
async def test_a_changed_checkpoint_is_found(ledger: Ledger, changed: bytes) -> None:
    await ledger.write(40)
    await archive_with_checkpoints(ledger)
    file = checkpoint_file(ledger, 2)
    assert changed in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(changed, changed[:-1] + b"7", 1))
    assert "checkpoint 2" in (await ledger.verify()).broken


async def test_a_checkpoint_of_other_entries_is_found_though_its_hashes_fit(ledger: Ledger) -> None:
    await ledger.write(20)
    await archive_with_checkpoints(ledger)
    file = checkpoint_file(ledger, 2)
    told = checkpoints.read(file.read_bytes())
    told.state["ats", "TEE-1"] = "99"
    file.write_bytes(checkpoints.write("acme", told)[0])
    assert "add up to" in (await ledger.verify()).broken


# ---------------------------------------------------------------------------------------------- verification


async def test_a_segment_that_is_gone_is_named(ledger: Ledger) -> None:
    await ledger.write(40)
    await ledger.archive_all()
    ledger.segments()[1].unlink()
    assert (await ledger.verify()).broken == "acme, ledger: segment 2: it is not there"


async def test_segments_taken_off_the_end_are_missed_by_the_store(ledger: Ledger) -> None:
    await ledger.write(40)
    await ledger.archive_all()
    ledger.segments()[-1].unlink()
    assert "segment 4" in (await ledger.verify()).broken
    assert (await ledger.verify(with_note=False)).broken == ""


async def test_a_chain_written_anew_is_not_the_one_that_the_store_knows(ledger: Ledger) -> None:
    await ledger.write(10)
    await ledger.archive_all()
    write_segments(ledger.folder, [[effect(seq, to="K0") for seq in range(1, 11)]])
    assert "the store knows of" in (await ledger.verify()).broken
    assert (await ledger.verify(with_note=False)).broken == ""


async def test_a_changed_entry_is_named_by_its_sequence(ledger: Ledger) -> None:
    await ledger.write(30)
    await ledger.archive_all()
    file = ledger.segments()[1]
    file.write_bytes(file.read_bytes().replace(b'"to":"K17"', b'"to":"K71"'))
    broken = (await ledger.verify()).broken
    assert broken == (
        "acme, ledger: segment 2: line 8, the entry of sequence 17:"
        " it does not have the hash that is written in it"
    )


async def test_an_epoch_that_was_given_up_does_not_return(ledger: Ledger) -> None:
    await ledger.write(5)
    await ledger.archive_all()
    await ledger.write(5, epoch="second")
    await ledger.archive_all()
    await ledger.redis.execute("DEL", ledger.keys.archived)
    await ledger.write(5, epoch="first")
    await ledger.archive_all()
    assert "given up" in (await ledger.verify()).broken


def test_an_empty_folder_holds_nothing_broken(tmp_path: Path) -> None:
    finding = verification.verify(tmp_path, "acme", Log.LEDGER, None)
    assert (finding.broken, finding.segments, finding.hash) == ("", 0, GENESIS)


def test_a_segment_moved_to_another_merchant_is_found(tmp_path: Path) -> None:
    write_segments(tmp_path, [[effect(1)], [effect(2)]])
    (tmp_path / "acme").rename(tmp_path / "other")
    assert "belongs to" in verification.verify(tmp_path, "other", Log.LEDGER, None).broken


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_one_byte_changed_anywhere_in_the_archive_is_found(tmp_path: Path, data: st.DataObject) -> None:
    root = tmp_path / "archive"
    if not root.exists():
        write_segments(root, [[effect(seq) for seq in range(first, first + 4)] for first in (1, 5, 9)])
        for number in (1, 2, 3):
            assert checkpoints.write_at(root, "acme", number)
    assert check(root).broken == ""
    file = data.draw(st.sampled_from(sorted(root.rglob("*.jsonl"))))
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(changed)
    broken = check(root).broken
    file.write_bytes(whole)
    assert broken
    kind = "checkpoint" if file.parent.name == "checkpoints" else "segment"
    assert f"{kind} {int(file.stem)}:" in broken


# ----------------------------------------------------------------------------------------------- the folder


def test_a_file_is_written_once_and_for_all(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "acme", "ledger")
    assert folder.add(1, b"first\n")
    assert not folder.add(1, b"second\n")
    assert folder.read(1) == b"first\n"
    assert [path.name for path in folder.path.iterdir()] == ["000000000001.jsonl"]


def test_segments_that_another_process_adds_or_takes_away_are_noticed(tmp_path: Path) -> None:
    folder = segments_of(tmp_path, "acme", Log.LEDGER)
    assert folder.tip() is None
    write_segments(tmp_path, [[effect(1)], [effect(2)]])
    tip = folder.tip()
    assert tip is not None
    assert tip.header.number == 2
    (folder.path / "000000000002.jsonl").unlink()
    tip = folder.tip()
    assert tip is not None
    assert tip.header.number == 1


def test_a_header_alone_is_checked_too(tmp_path: Path) -> None:
    write_segments(tmp_path, [[effect(1)]])
    folder = segments_of(tmp_path, "acme", Log.LEDGER)
    file = folder.path / "000000000001.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"number":1', b'"number":2'))
    with pytest.raises(ChainBroken):
        folder.header(1)


def checkpoint_file(ledger: Ledger, number: int) -> Path:
    return ledger.folder / ledger.merchant / "checkpoints" / f"{number:012d}.jsonl"


def check(root: Path) -> Finding:
    return verification.verify(root, "acme", Log.LEDGER, None)


def write_segments(root: Path, parts: Sequence[Sequence[dict[str, str]]]) -> None:
    """Write a chain with other means than the archivist; files that are there are replaced."""
    previous, last = GENESIS, 0
    for number, part in enumerate(parts, 1):
        entries = [an_entry(last + place, fields) for place, fields in enumerate(part, 1)]
        told: dict[str, Any] = {"log": Log.LEDGER, "merchant": "acme", "number": number, "epoch": "first"}
        header = Header(
            **told,
            after_epoch="first" if number > 1 else "",
            after=last,
            first=last + 1,
            last=last + len(part),
            previous=previous,
            written_at_ms=number,
        )
        data, previous = rules.write_segment(header, entries)
        last = header.last
        folder = segments_of(root, "acme", Log.LEDGER).path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:012d}.jsonl").write_bytes(data)


def an_entry(seq: int, fields: dict[str, str]) -> Entry:
    return rules.entry_from(seq, [part.encode() for pair in fields.items() for part in pair])
