"""What changes when a setting of the archive or of the record of decisions is changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from synchub.archive import rules
from synchub.archive.model import Outcome
from synchub.decisions.operations import DecisionLog
from synchub.redis import CoalescingRedis
from synchub.settings import DecisionSettings, RedisSettings, Settings
from tests.support.archive import Ledger
from tests.support.decisions import a_decision
from tests.support.hub import opened_hub, settings_with
from workers.archive import ArchiveLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def ledger(redis_url: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    redis = CoalescingRedis(RedisSettings(url=redis_url))
    yield Ledger(redis=redis, folder=tmp_path / "archive")
    await redis.close()


class Ended(Exception):
    """Enough was seen."""


async def test_the_archive_lies_in_the_folder(ledger: Ledger, tmp_path: Path) -> None:
    ledger.settings = {"folder": tmp_path / "chosen"}
    await ledger.write(1)
    await ledger.archive_all()
    assert files_in(tmp_path) == ["chosen/acme/ledger/000000000001.jsonl"]


async def test_a_worker_looks_for_something_to_archive_as_often_as_it_says(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        await asyncio.Event().wait() if pauses else pauses.append(seconds)
        raise Ended

    async with opened_hub(settings_with(redis_url, archive={"folder": tmp_path, "every_ms": 1234})) as hub:
        loop = ArchiveLoop(hub)
        with monkeypatch.context() as patched:
            patched.setattr("workers.archive.asyncio.sleep", pause)
            with pytest.raises(Ended):
                await loop.run()
    assert pauses == [1.234]


async def test_a_few_entries_wait_for_others_as_long_as_it_says_and_no_longer(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = 1000
    monkeypatch.setattr("synchub.archive.operations.monotonic_ms", lambda: now_ms)
    ledger.settings = {"wait_ms": 5000}
    archivist = ledger.archivist()
    await ledger.write(3)
    assert (await ledger.turn(archivist)).outcome is Outcome.WAITING
    await ledger.write(3)
    now_ms += 4999
    assert (await ledger.turn(archivist)).outcome is Outcome.WAITING
    now_ms += 1
    turn = await ledger.turn(archivist)
    assert (turn.outcome, turn.entries) == (Outcome.WRITTEN, 6)
    await ledger.write(1)
    assert (await ledger.turn(archivist)).outcome is Outcome.WAITING


async def test_a_segment_holds_no_more_entries_than_the_limit_and_so_many_do_not_wait(ledger: Ledger) -> None:
    ledger.settings = {"segment_max": 4, "wait_ms": 3_600_000}
    await ledger.write(10)
    await ledger.archive_all()
    segments = [rules.read_segment(path.read_bytes()) for path in ledger.segments()]
    assert [len(segment.entries) for segment in segments] == [4, 4]
    assert (await ledger.extent()).unarchived == 2


async def test_a_checkpoint_stands_after_every_so_many_segments(ledger: Ledger) -> None:
    ledger.settings = {"segment_max": 1, "checkpoint_every": 3}
    archivist = ledger.archivist()
    for _ in range(7):
        await ledger.write(1)
        await ledger.turn(archivist)
        await archivist.write_checkpoint("acme")
    found = files_in(ledger.folder / "acme/checkpoints")
    assert found == ["000000000003.jsonl", "000000000006.jsonl"]


async def test_decisions_wait_as_long_as_it_says_for_others_to_be_written_with(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []

    async def wait(awaited: Any, timeout: float | None) -> None:  # noqa: ASYNC109 - the signature is asyncio's
        awaited.close()
        waits.append(timeout)
        raise Ended

    redis = CoalescingRedis(RedisSettings(url=redis_url))
    log = DecisionLog(redis, Settings.model_construct(decisions=DecisionSettings(flush_ms=1234)))
    log.note("acme", a_decision())
    with monkeypatch.context() as patched:
        patched.setattr("synchub.decisions.operations.asyncio.wait_for", wait)
        with pytest.raises(Ended):
            await log.run()
    await redis.close()
    assert waits == [1.234]


def files_in(folder: Path) -> list[str]:
    """Every file below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jsonl"))
