"""Pages of the ledger: every entry once, in order, of one SKU or of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from synchub.ledger import operations
from synchub.redis import CoalescingRedis
from synchub.settings import RedisSettings
from tests.support.archive import Ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from synchub.ledger.model import LedgerPage


@pytest.fixture
async def ledger(redis_url: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    redis = CoalescingRedis(RedisSettings(url=redis_url))
    yield Ledger(redis=redis, folder=tmp_path)
    await redis.close()


async def read(ledger: Ledger, after: int = 0, *, limit: int = 100, sku: str | None = None) -> LedgerPage:
    return await operations.read(ledger.redis, ledger.keys, after=after, limit=limit, sku=sku)


async def test_a_ledger_that_is_empty_has_an_empty_page(ledger: Ledger) -> None:
    page = await read(ledger)
    assert (page.epoch, page.head, page.oldest, page.entries, page.next_after) == ("", 0, 0, (), None)


async def test_an_entry_is_read_with_all_that_it_says(ledger: Ledger) -> None:
    await ledger.write(1, sku="Größe/M", asker="agent")
    [entry] = (await read(ledger)).entries
    assert (entry.seq, entry.sku, entry.place, entry.account) == (1, "Größe/M", "WH1", "wms")
    assert (entry.field, entry.before, entry.after, entry.ats) == ("level", "K0", "K1", 1)
    assert (entry.cause, entry.at_ms, entry.more) == (
        "delivery:1",
        1_795_255_200_001,
        (("asker", "agent"),),
    )


@pytest.mark.parametrize("limit", [1, 7, 50, 51, 1000])
async def test_pages_lead_through_the_whole_ledger(ledger: Ledger, limit: int) -> None:
    await ledger.write(50)
    found: list[int] = []
    after: int | None = 0
    while after is not None:
        page = await read(ledger, after, limit=limit)
        found += [entry.seq for entry in page.entries]
        after = page.next_after
    assert found == list(range(1, 51))


@pytest.mark.parametrize("limit", [1, 4, 17, 100])
async def test_pages_of_one_sku_lead_through_all_its_entries(ledger: Ledger, limit: int) -> None:
    await ledger.write(50)
    found: list[int] = []
    after: int | None = 0
    while after is not None:
        page = await read(ledger, after, limit=limit, sku="TEE-1")
        found += [entry.seq for entry in page.entries]
        assert {entry.sku for entry in page.entries} <= {"TEE-1"}
        after = page.next_after
    assert found == list(range(1, 51, 3))


async def test_one_page_looks_at_no_more_entries_than_the_limit(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "SCANNED_MAX", 20)
    monkeypatch.setattr(operations, "PAGE_MAX", 10)
    await ledger.write(50, sku="TEE")
    page = await read(ledger, sku="MUG")
    assert (page.entries, page.next_after) == ((), 20)


async def test_what_was_trimmed_is_said(ledger: Ledger) -> None:
    await ledger.write(50)
    await ledger.redis.execute("XTRIM", ledger.keys.ledger, "MINID", "30-0")
    page = await read(ledger)
    assert (page.oldest, page.entries[0].seq, page.head) == (30, 30, 50)
