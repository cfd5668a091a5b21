"""The worker's loop that archives: every merchant has its turn, whatever hinders another."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import pytest
from structlog.testing import capture_logs

from synchub import metrics
from synchub.archive import operations as archive
from synchub.archive.model import Log
from synchub.errors import Fault
from synchub.kit.tasks import end
from tests.support.archive import Ledger
from tests.support.hub import opened_hub, settings_with
from tests.support.merchants import add_merchant
from tests.support.wait import eventually
from workers.archive import ArchiveLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from synchub.hub import Hub
    from tests.conftest import StartValkey

QUICK: Final = {"wait_ms": 0, "every_ms": 10, "segment_max": 10}


@contextlib.asynccontextmanager
async def a_hub(redis_url: str, folder: Path, **chosen: int) -> AsyncIterator[Hub]:
    settings = settings_with(redis_url, archive={**QUICK, "folder": folder, **chosen})
    async with opened_hub(settings) as hub:
        yield hub


@contextlib.asynccontextmanager
async def archiving(hub: Hub) -> AsyncIterator[ArchiveLoop]:
    loop = ArchiveLoop(hub)
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        await end(task)


async def a_ledger(hub: Hub, redis_url: str, name: str, folder: Path) -> Ledger:
    await add_merchant(redis_url, name)
    await eventually(
        lambda: name in {account.merchant for account in hub.directory.accounts()}, what="a known merchant"
    )
    return Ledger(redis=hub.redis, folder=folder, merchant=name)


async def test_every_merchants_ledger_is_archived(redis_url: str, tmp_path: Path) -> None:
    async with a_hub(redis_url, tmp_path) as hub:
        ledgers = [await a_ledger(hub, redis_url, name, tmp_path) for name in ("acme", "other")]
        for ledger in ledgers:
            await ledger.write(35)
        async with archiving(hub):
            for number in (0, 1):
                await reached(ledgers[number], 35)
        assert [(await ledger.verify()).broken for ledger in ledgers] == ["", ""]


async def test_the_numbers_say_how_far_it_has_come(redis_url: str, tmp_path: Path) -> None:
    async with a_hub(redis_url, tmp_path) as hub:
        ledgers = [await a_ledger(hub, redis_url, name, tmp_path) for name in ("acme", "other")]
        for ledger in ledgers:
            await ledger.write(15)
        before = metrics.archive_segments.labels("ledger")._value.get()
        loop = ArchiveLoop(hub)
        assert await loop.look()  # both have more
        assert metrics.ledger_unarchived._value.get() == 10
        assert metrics.archived_seq._value.get() == 20
        assert metrics.archive_segments.labels("ledger")._value.get() == before + 2
        assert not await loop.look()
        assert metrics.ledger_unarchived._value.get() == 0
        assert metrics.archive_last_written._value.get() > 0
        await loop._redis.close()


async def test_one_merchant_that_cannot_be_archived_hinders_no_other(redis_url: str, tmp_path: Path) -> None:
    async with a_hub(redis_url, tmp_path) as hub:
        ill = await a_ledger(hub, redis_url, "acme", tmp_path)
        well = await a_ledger(hub, redis_url, "other", tmp_path)
        (tmp_path / "acme").write_text("no folder")
        before = metrics.archive_failures._value.get()
        with capture_logs() as lines:
            await ill.write(5)
            await well.write(5)
            async with archiving(hub):
                await reached(well, 5)
                await eventually(lambda: metrics.archive_failures._value.get() > before + 2, what="tries")
                (tmp_path / "acme").unlink()
                await reached(ill, 5)
                await eventually(lambda: lines[-1]["event"] == "archive_resumed", what="good news")
        told = [(line["event"], line["merchant"]) for line in lines if "archive" in line["event"]]
        assert told == [("archive_interrupted", "acme"), ("archive_resumed", "acme")]


async def test_when_too_many_wait_the_oldest_are_given_up_and_counted(redis_url: str, tmp_path: Path) -> None:
    settings = settings_with(redis_url, archive={**QUICK, "folder": tmp_path / "file"})
    (tmp_path / "file").write_text("no folder")
    bounded = settings.archive.model_copy(update={"backlog_max": 20})
    async with opened_hub(settings.model_copy(update={"archive": bounded})) as hub:
        ledger = await a_ledger(hub, redis_url, "acme", tmp_path / "file")
        await ledger.write(50)
        before = metrics.archive_dropped._value.get()
        loop = ArchiveLoop(hub)
        with capture_logs() as lines:
            await loop.look()
        assert await ledger.kept() == list(range(31, 51))
        assert metrics.archive_dropped._value.get() == before + 30
        assert {"archive_interrupted", "archive_entries_dropped"} <= {line["event"] for line in lines}
        (tmp_path / "file").unlink()
        while await loop.look():
            pass
        finding = await ledger.verify()
        assert (finding.broken, finding.entries, finding.missing) == ("", 20, 30)
        await loop._redis.close()


async def test_two_workers_write_one_chain(redis_url: str, tmp_path: Path) -> None:
    async with a_hub(redis_url, tmp_path) as hub:
        ledger = await a_ledger(hub, redis_url, "acme", tmp_path)
        async with archiving(hub), archiving(hub):
            for _ in range(10):
                await ledger.write(15)
            await reached(ledger, 150)
        assert (await ledger.verify()).broken == ""


async def test_archiving_goes_on_when_the_store_comes_back(own_valkey: StartValkey, tmp_path: Path) -> None:
    valkey = own_valkey()
    async with a_hub(valkey.url, tmp_path) as hub:
        ledger = await a_ledger(hub, valkey.url, "acme", tmp_path)
        async with archiving(hub):
            await ledger.write(5)
            await reached(ledger, 5)
            valkey.restart()
            await eventually(lambda: _answers(hub), what="the store")
            await ledger.write(5)
            await reached(ledger, 10)
        assert (await ledger.verify()).broken == ""


@pytest.mark.parametrize("log", list(Log))
async def test_both_logs_have_their_turns(redis_url: str, tmp_path: Path, log: Log) -> None:
    async with a_hub(redis_url, tmp_path) as hub:
        ledger = await a_ledger(hub, redis_url, "acme", tmp_path)
        await ledger.write(3)
        await hub.redis.execute("XADD", ledger.keys.decisions, "1-0", "kind", "query")
        loop = ArchiveLoop(hub)
        await loop.look()
        found = await archive.verify(tmp_path, "acme", await archive.read_notes(hub.redis, "acme"))
        assert {finding.log: finding.segments for finding in found}[log] == 1
        await loop._redis.close()


async def reached(ledger: Ledger, seq: int) -> None:
    await eventually(lambda: _reaches(ledger, seq), what=f"{ledger.merchant} archived up to {seq}")


async def _reaches(ledger: Ledger, seq: int) -> bool:
    note = await ledger.note()
    return note is not None and note.seq == seq


async def _answers(hub: Hub) -> bool:
    try:
        return bool(await hub.redis.execute("PING"))
    except Fault:
        return False
