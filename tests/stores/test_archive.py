"""The archive on a real store and a real folder: nothing is trimmed before it is safe."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Final

import pytest

from synchub.archive import operations as archive
from synchub.archive import store
from synchub.archive.model import Log, Outcome
from synchub.archive.showing import Wanted
from synchub.errors import OutcomeUnknown
from synchub.redis import CoalescingRedis
from synchub.settings import RedisSettings
from tests.support.archive import Ledger, Watched, effect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from synchub.redis import Part

NOBODY: Final = "0" * 16


@pytest.fixture
async def ledger(redis_url: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    redis = CoalescingRedis(RedisSettings(url=redis_url))
    yield Ledger(redis=redis, folder=tmp_path / "archive")
    await redis.close()


# ------------------------------------------------------------------------------------------------- segments


async def test_every_entry_lies_in_the_archive_as_it_was(ledger: Ledger) -> None:
    await ledger.write(25, sku="Größe/M")
    assert await ledger.archive_all() == 25
    assert len(ledger.segments()) == 3
    shown = [one async for one in archive.show(None, ledger.folder, Wanted(merchant="acme", log=Log.LEDGER))]
    assert [one.fields for one in shown] == [effect(seq, sku="Größe/M") for seq in range(1, 26)]
    finding = await ledger.verify()
    assert (finding.broken, finding.entries, finding.seq, finding.missing) == ("", 25, 25, 0)


async def test_the_store_remembers_the_last_segment(ledger: Ledger) -> None:
    await ledger.write(12)
    await ledger.archive_all()
    note, finding = await ledger.note(), await ledger.verify()
    assert note is not None
    assert (note.number, note.epoch, note.seq, note.hash) == (2, "first", 12, finding.hash)
    assert (await ledger.extent()).unarchived == 0


async def test_the_highest_archived_position_is_known_without_a_store(ledger: Ledger) -> None:
    assert await archive.highest_archived(ledger.folder, "acme") is None
    await ledger.write(12)
    await ledger.archive_all()
    assert await archive.highest_archived(ledger.folder, "acme") == ("first", 12)


async def test_nothing_new_writes_nothing(ledger: Ledger) -> None:
    await ledger.write(3)
    archivist = ledger.archivist()
    assert (await ledger.turn(archivist)).outcome is Outcome.WRITTEN
    assert (await ledger.turn(archivist)).outcome is Outcome.IDLE
    assert len(ledger.segments()) == 1


async def test_files_are_for_their_owner_only(ledger: Ledger) -> None:
    await ledger.write(3)
    await ledger.archive_all()
    [file] = ledger.segments()
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0


async def test_about_the_newest_entries_stay_in_the_store(ledger: Ledger) -> None:
    ledger.ledger_max = 200
    ledger.settings = {"segment_max": 1000}
    await ledger.write(1000)
    await ledger.archive_all()
    kept = await ledger.kept()
    assert kept == list(range(kept[0], 1001))
    assert 200 <= len(kept) <= 400  # whole nodes of a stream are trimmed


async def test_the_last_archived_entry_stays_even_if_none_need_be_kept(ledger: Ledger) -> None:
    ledger.ledger_max = 1
    ledger.settings = {"segment_max": 500}
    await ledger.write(500)
    await ledger.archive_all()
    assert (await ledger.kept())[-1] == 500


# ------------------------------------------------------------------------------ nothing trimmed before synced


async def test_nothing_is_noted_or_trimmed_before_file_and_folder_are_synced(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.write(5)
    await ledger.archive_all()
    await ledger.write(5)
    calls: list[str] = []
    fsync, link = os.fsync, os.link

    def sync(file: int) -> None:
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{file}") else "file"  # noqa: PTH112 - the kernel's
        calls.append(f"sync {kind}")
        fsync(file)

    def name(source: Path, target: Path) -> None:
        calls.append("name")
        link(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "link", name)

    def tell(command: tuple[Part, ...]) -> None:
        if command[0] == "XTRIM":
            calls.append("trim")
        elif command[1] == store.NOTE.sha:
            calls.append("note and trim")

    await ledger.turn(ledger.archivist(Watched(ledger.redis, tell)))
    # The first sync is of the segments that were found; the new one is safe before the store hears of it.
    assert calls == ["sync folder", "sync file", "name", "sync folder", "note and trim"]


async def test_a_folder_that_cannot_be_written_costs_no_entry(ledger: Ledger) -> None:
    ledger.folder.write_text("no folder")
    ledger.ledger_max = 1
    await ledger.write(30)
    with pytest.raises(OSError, match="archive"):
        await ledger.turn()
    assert await ledger.kept() == list(range(1, 31))


# -------------------------------------------------------------------------------------------------- crashes


class Crash(BaseException):
    """The process is gone."""


def _crash_at(monkeypatch: pytest.MonkeyPatch, what: str, *, after: bool) -> None:
    """Let the next call of a system function be the last of this process."""
    whole: Callable[..., Any] = getattr(os, what)

    def crash(*given: Any) -> None:
        if after:
            whole(*given)
        raise Crash

    monkeypatch.setattr(os, what, crash)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["open", "write", "fsync", "link", "close", "unlink"])
async def test_a_crash_at_any_step_on_the_disk_leaves_a_chain_that_goes_on(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, step: str, *, after: bool
) -> None:
    await ledger.write(15)
    await ledger.turn()
    with monkeypatch.context() as crashing:
        _crash_at(crashing, step, after=after)
        with pytest.raises(Crash):
            await ledger.turn()
    await ledger.redis.execute("DEL", ledger.keys.archive_lease)  # as it ends by itself
    await ledger.write(7)
    await ledger.archive_all()
    await _is_complete(ledger, 22)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("script", [store.NOTE, store.LEASE, store.STATE], ids=lambda script: script.name)
async def test_a_crash_at_any_step_in_the_store_leaves_a_chain_that_goes_on(
    ledger: Ledger, script: Any, *, after: bool
) -> None:
    await ledger.write(15)
    await ledger.turn()
    dying = ledger.archivist(Dying(ledger.redis, script.sha, after=after))
    with pytest.raises(Crash):
        await ledger.turn(dying)
    await ledger.redis.execute("DEL", ledger.keys.archive_lease)
    await ledger.write(7)
    await ledger.archive_all()
    await _is_complete(ledger, 22)


async def test_a_segment_that_the_store_has_not_been_told_of_is_found_and_told_of(ledger: Ledger) -> None:
    await ledger.write(10)
    dying = ledger.archivist(Dying(ledger.redis, store.NOTE.sha, after=False))
    with pytest.raises(Crash):
        await ledger.turn(dying)
    assert await ledger.note() is None
    await ledger.redis.execute("DEL", ledger.keys.archive_lease)
    await ledger.turn()
    note = await ledger.note()
    assert note is not None
    assert note.seq == 10
    assert len(ledger.segments()) == 1


async def test_what_a_crash_has_left_is_swept_away_and_never_read(ledger: Ledger) -> None:
    await ledger.write(5)
    await ledger.archive_all()
    torn = ledger.segments()[0].parent / "000000000002.abcd.draft"
    torn.write_bytes(ledger.segments()[0].read_bytes()[:100])
    await ledger.write(5)
    await ledger.archive_all()
    assert not torn.exists()
    await _is_complete(ledger, 10)


async def test_an_answer_that_is_lost_leaves_nothing_undone(ledger: Ledger) -> None:
    await ledger.write(10)

    def lose(command: tuple[Part, ...]) -> None:
        if command[1] == store.NOTE.sha:
            raise OutcomeUnknown

    with pytest.raises(OutcomeUnknown):
        await ledger.turn(ledger.archivist(Watched(ledger.redis, lose)))
    await ledger.archive_all()
    await _is_complete(ledger, 10)
    assert await ledger.note() is not None


# ----------------------------------------------------------------------------------------- several archivists


async def test_two_archivists_at_once_write_one_chain(ledger: Ledger) -> None:
    await ledger.write(200)
    one, two = ledger.archivist(), ledger.archivist()
    for _ in range(25):
        await asyncio.gather(ledger.turn(one), ledger.turn(two))
    await _is_complete(ledger, 200)


async def test_while_one_archives_the_other_does_not(ledger: Ledger) -> None:
    await ledger.write(5)
    await store.take_lease(ledger.redis, ledger.keys, owner=NOBODY, ttl_ms=60_000)
    assert (await ledger.turn()).outcome is Outcome.BUSY
    assert ledger.segments() == []


async def test_one_that_was_stopped_before_it_wrote_comes_too_late(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.write(10)
    link = os.link

    def stopped(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        link(source, target)  # somebody else has written it meanwhile
        link(source, target)

    monkeypatch.setattr(os, "link", stopped)
    assert (await ledger.turn()).outcome is Outcome.BUSY
    assert await ledger.note() is None
    await ledger.archive_all()
    await _is_complete(ledger, 10)


async def test_one_that_was_stopped_before_it_noted_trims_nothing(ledger: Ledger) -> None:
    ledger.ledger_max = 1
    ledger.settings = {"segment_max": 500}
    await ledger.write(500)

    taken: list[Any] = []

    class Stopped:
        async def execute(self, *command: Part) -> Any:
            if command[1] == store.NOTE.sha:
                await ledger.redis.execute("SET", ledger.keys.archive_lease, "another")
                taken.append(command)
            return await ledger.redis.execute(*command)

    await ledger.turn(ledger.archivist(Stopped()))
    assert taken
    assert await ledger.kept() == list(range(1, 501))
    assert await ledger.note() is None


@pytest.mark.parametrize(
    ("change", "says"), [("epoch", "renamed"), ("entry", "differs"), ("gone", "not_there")]
)
async def test_a_store_that_is_another_by_now_is_not_trimmed(ledger: Ledger, change: str, says: str) -> None:
    ledger.ledger_max = 1
    ledger.settings = {"segment_max": 500}
    await ledger.write(500)
    answers: list[bytes] = []

    class Changing:
        async def execute(self, *command: Part) -> Any:
            if command[1] != store.NOTE.sha:
                return await ledger.redis.execute(*command)
            if change == "epoch":
                await ledger.redis.execute("HSET", ledger.keys.head, "epoch", "other")
            else:
                await ledger.lose_end(499, epoch="first")
                await ledger.write(1 if change == "entry" else 0, to="K1000")
            answers.append(await ledger.redis.execute(*command))
            return answers[-1]

    await ledger.turn(ledger.archivist(Changing()))
    assert answers == [says.encode()]
    assert (await ledger.kept())[0] == 1


# --------------------------------------------------------------------------------------------- lost histories


async def test_entries_that_were_lost_before_are_told_of_by_the_chain(ledger: Ledger) -> None:
    await ledger.write(10)
    await ledger.archive_all()
    await ledger.write(10)
    await ledger.redis.execute("XTRIM", ledger.keys.ledger, "MINID", "15-0")
    await ledger.archive_all()
    finding = await ledger.verify()
    assert (finding.broken, finding.missing, finding.entries) == ("", 4, 16)


async def test_a_hole_ends_a_segment(ledger: Ledger) -> None:
    await ledger.write(9)
    await ledger.redis.execute("XDEL", ledger.keys.ledger, "5-0")
    assert await ledger.archive_all() == 8
    assert (await ledger.verify()).missing == 1
    assert len(ledger.segments()) == 2


async def test_a_new_epoch_branches_off_where_the_store_had_lost_its_end(ledger: Ledger) -> None:
    await ledger.write(35)
    await ledger.archive_all()
    await ledger.lose_end(23, epoch="second")
    await ledger.write(4, cause="another")
    assert await ledger.archive_all() == 4
    finding = await ledger.verify()
    assert (finding.broken, finding.epoch, finding.seq, finding.missing) == ("", "second", 27, 0)
    assert await archive.highest_archived(ledger.folder, "acme") == ("second", 27)


async def test_a_new_name_alone_loses_and_repeats_nothing(ledger: Ledger) -> None:
    await ledger.write(15)
    await ledger.archive_all()
    await ledger.write(5, epoch="second")
    assert await ledger.archive_all() == 5
    await _is_complete(ledger, 20)


async def test_a_store_that_has_lost_everything_begins_again_in_the_same_chain(ledger: Ledger) -> None:
    await ledger.write(35)
    await ledger.archive_all()
    await ledger.redis.execute("FLUSHALL")
    ledger.head = 0
    await ledger.write(12, epoch="second", cause="another")
    await ledger.archive_all()
    finding = await ledger.verify()
    assert (finding.broken, finding.epoch, finding.seq, finding.entries) == ("", "second", 12, 47)


async def test_what_was_trimmed_counts_as_common_when_a_new_epoch_begins(ledger: Ledger) -> None:
    ledger.ledger_max = 1
    ledger.settings = {"segment_max": 500}
    await ledger.write(500)
    await ledger.archive_all()
    await ledger.redis.execute("DEL", ledger.keys.ledger)
    await ledger.write(4, epoch="second")
    await ledger.archive_all()
    await _is_complete(ledger, 504)


async def test_a_lost_end_under_the_old_name_is_not_archived(ledger: Ledger) -> None:
    await ledger.write(20)
    await ledger.archive_all()
    await ledger.lose_end(15, epoch="first")
    await ledger.write(1)
    extent = await ledger.extent()
    assert extent.unarchived == 0  # nothing to do, and nothing is done
    await ledger.write(9, cause="another")
    turn = await ledger.turn()
    assert turn.outcome is Outcome.REFUSED
    assert "grown another" in turn.reason
    await ledger.redis.execute("HSET", ledger.keys.head, "epoch", "second")
    await ledger.archive_all()
    assert (await ledger.verify()).broken == ""


async def test_a_store_behind_its_archive_waits_for_a_new_name(ledger: Ledger) -> None:
    await ledger.write(20)
    await ledger.archive_all()
    await ledger.lose_end(5, epoch="first")
    await ledger.redis.execute("DEL", ledger.keys.archived)
    turn = await ledger.turn()
    assert turn.outcome is Outcome.REFUSED
    assert "before the archive does" in turn.reason


# ---------------------------------------------------------------------------------------------- wrong folders


async def test_another_folder_than_the_store_knows_of_is_not_written_to(
    ledger: Ledger, tmp_path: Path
) -> None:
    await ledger.write(5)
    await ledger.archive_all()
    await ledger.write(5)
    ledger.folder = tmp_path / "other"
    turn = await ledger.turn()
    assert turn.outcome is Outcome.REFUSED
    assert "right folder" in turn.reason
    assert ledger.segments() == []
    assert await archive.begin(ledger.redis, ledger.folder, "acme")
    assert await ledger.archive_all() == 10
    assert not await archive.begin(ledger.redis, ledger.folder, "acme")


async def test_a_folder_of_another_hub_is_not_written_to(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.write(5)
    await ledger.archive_all()
    other = Ledger(redis=ledger.redis, folder=tmp_path / "other", merchant="other")
    await other.write(7, cause="of another")
    await other.archive_all()
    (tmp_path / "other" / "other").rename(tmp_path / "other" / "acme")
    ledger.folder = other.folder
    await ledger.write(5)
    turn = await ledger.turn()
    assert turn.outcome is Outcome.REFUSED
    assert "another one" in turn.reason


async def test_two_stores_do_not_share_a_folder(ledger: Ledger, redis_url: str) -> None:
    there = redis_url.rpartition("/")[0] + "/3"
    redis = CoalescingRedis(RedisSettings(url=there))
    other = Ledger(redis=redis, folder=ledger.folder)
    await ledger.write(5)
    await ledger.archive_all()
    await other.write(5, epoch="other", cause="other")
    await other.archive_all()
    await ledger.write(5)
    turn = await ledger.turn()
    await redis.close()
    assert turn.outcome is Outcome.REFUSED
    assert "Another store" in turn.reason


async def test_a_damaged_last_segment_is_not_continued(ledger: Ledger) -> None:
    await ledger.write(5)
    await ledger.archive_all()
    [file] = ledger.segments()
    file.write_bytes(file.read_bytes().replace(b'"K3"', b'"K4"', 1))
    await ledger.write(5)
    turn = await ledger.turn()
    assert turn.outcome is Outcome.REFUSED
    assert "damaged" in turn.reason
    assert len(await ledger.kept()) == 10


class Dying:
    """A client whose process ends at a script, before or after the store has run it."""

    def __init__(self, redis: CoalescingRedis, sha: str, *, after: bool) -> None:
        self._redis = redis
        self._sha = sha
        self._after = after

    async def execute(self, *command: Part) -> Any:
        if command[1] != self._sha:
            return await self._redis.execute(*command)
        if self._after:
            # The store may have to be told the script's text first.
            await self._redis.execute("EVALSHA", *command[1:])
        raise Crash


async def _is_complete(ledger: Ledger, count: int) -> None:
    finding = await ledger.verify()
    assert (finding.broken, finding.entries, finding.seq, finding.missing) == ("", count, count, 0)
