"""Reading a whole emulated shop's changes over real HTTP, while it goes on selling."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from synchub.connector_kit.events import Catalogue, Level, OrderLine, OrderStatus
from synchub.errors import CursorRefused, UpstreamFailed, UpstreamThrottled
from tests.support.shopify import (
    all_pages,
    client,
    control,
    emulator,
    events_of,
    lines_in,
    receiver,
    set_level,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.contract import Page, Record
    from synchub.connector_kit.events import StockEvent

NOWHERE: Final = "http://127.0.0.1:9/hook"
SILENT: Final = "--fault=stall@0s-600s"
"""It posts nothing, so that nobody waits for an answer."""

QUICK: Final = "--credential=points_a_second=1000000"
TEN_THOUSAND: Final = ("--skus=2500", "--locations=WH1,WH2,WH3,WH4", "--paused", QUICK, SILENT)
A_FEW: Final = ("--skus=60", "--locations=WH1,WH2", "--paused", QUICK)


def levels_in(events: Sequence[StockEvent]) -> dict[str, dict[str, int | None]]:
    """Return what the levels come to, the last one told of each."""
    known: dict[str, dict[str, int | None]] = {}
    for event in events:
        if isinstance(event, Level):
            known.setdefault(event.item, {})[event.location] = event.quantity
    return known


async def truth(shop: str) -> dict[str, Any]:
    found: dict[str, Any] = await control(shop, "truth")
    return found


def keys(records: Sequence[Record]) -> set[str]:
    return {record.key for record in records}


async def test_ten_thousand_levels_read_page_by_page_are_what_there_is() -> None:
    pages: list[Page] = []
    async with emulator(NOWHERE, *TEN_THOUSAND) as shop, client(shop) as api:
        records, _ = await all_pages(api, "", between=pages.append)
        there = await truth(shop)
    events = events_of(records)
    assert levels_in(events) == there["levels"]
    skus = {event.item: event.sku for event in events if isinstance(event, Catalogue)}
    assert {item: sku for item, sku in skus.items() if item in there["skus"]} == there["skus"]
    assert len(pages) > 40
    assert max(len(page.records) for page in pages) <= 250
    assert max(len(page.cursor) for page in pages) <= 1000
    # All of them have changed within the same second: nothing but their ids tells them apart.
    assert len(keys(records)) == len(records) == 2500 + 10_000


async def test_who_takes_over_between_any_two_pages_loses_nothing() -> None:
    records: list[Record] = []
    async with emulator(NOWHERE, *A_FEW, SILENT) as shop:
        cursor, is_last = "", False
        while not is_last:
            async with client(shop) as successor:
                page = await successor.fetch_page(cursor)
                again = await successor.fetch_page(cursor)
            assert page.records == again.records
            records += page.records
            cursor, is_last = page.cursor, page.is_last
        there = await truth(shop)
    assert levels_in(events_of(records)) == there["levels"]
    assert len(keys(records)) == len(records) == 60 + 120


async def test_what_changes_while_the_pages_are_read_is_found() -> None:
    records: list[Record] = []
    async with emulator(NOWHERE, *A_FEW, SILENT) as shop, client(shop) as api:
        cursor, is_last, number = "", False, 0
        while not is_last:
            number += 1
            await set_level(shop, f"TEE-{number:04d}", "WH1", 1000 + number)
            page = await api.fetch_page(cursor)
            records += page.records
            cursor, is_last = page.cursor, page.is_last
        there = await truth(shop)
        # The last changes were on pages that had been read already.
        assert levels_in(events_of(records)) != there["levels"]
        later, _ = await all_pages(api, cursor)
    assert levels_in(events_of([*records, *later])) == there["levels"]


async def test_a_search_from_a_time_finds_what_has_changed_since_and_says_when() -> None:
    async with receiver() as hub, emulator(hub.url, *A_FEW) as shop, client(shop) as api:
        _, cursor = await all_pages(api, "")
        await set_level(shop, "TEE-0007", "WH2", 777)
        await hub.has(1)
        records, _ = await all_pages(api, cursor)
    (pushed,) = (event for event in hub.events if isinstance(event, Level))
    (found,) = (record for record in records if record.events == (pushed,))
    assert (found.topic, found.changed_at_us) == ("inventory_levels/update", pushed.source_time_us)


async def test_a_search_from_the_very_second_of_a_change_finds_it() -> None:
    async with receiver() as hub, emulator(hub.url, *A_FEW) as shop, client(shop) as api:
        await set_level(shop, "TEE-0007", "WH2", 777)
        await hub.has(1)
        (pushed,) = (event for event in hub.events if isinstance(event, Level))
        assert pushed.source_time_us is not None
        second = pushed.source_time_us // 1_000_000
        cursor = f'{{"form":1,"since_s":{second},"begun_s":{second},"stage":"levels"}}'
        page = await api.fetch_page(cursor)
        later = await api.fetch_page(cursor.replace(f'"since_s":{second}', f'"since_s":{second + 60}'))
    assert pushed in events_of(page.records)
    assert later.records == ()


async def test_orders_found_by_a_search_are_those_that_were_pushed() -> None:
    async with receiver() as hub, emulator(hub.url, *A_FEW) as shop, client(shop) as api:
        orders = []
        for number in range(1, 31):
            wish: dict[str, object] = {
                "sku": f"TEE-{number:04d}",
                "quantity": 3,
                "reference": f"res_{number}",
            }
            if number % 3 == 0:
                wish["location"] = "WH1"
            orders.append((await control(shop, "order", wish))["order"])
        for place, order in enumerate(orders[:20]):
            # One unit, all of them at once, or one after the other: three refunds.
            for units in ((1,), (3,), (1, 1, 1), (1, 1))[place % 4]:
                await control(shop, "cancel", {"order": order, "quantity": units})
        records, _ = await all_pages(api, api.cursor_at(0))
        there = (await truth(shop))["orders"]
    pushed = lines_in([event for event in hub.events if isinstance(event, OrderLine)])
    found = lines_in(events_of(records))
    assert found == pushed
    assert {name: line.quantity for name, line in found.items()} == {
        name: order["quantity"] for name, order in there.items()
    }
    assert {line.status for line in found.values()} == {OrderStatus.PLACED, OrderStatus.CANCELLED}
    assert {record.topic for record in records if record.events[0] in found.values()} == {"orders/updated"}


async def test_a_search_without_a_time_leaves_out_orders_that_take_nothing_more() -> None:
    async with emulator(NOWHERE, *A_FEW, SILENT) as shop, client(shop) as api:
        kept = (await control(shop, "order", {"sku": "TEE-0001", "quantity": 1}))["order"]
        gone = (await control(shop, "order", {"sku": "TEE-0002", "quantity": 1}))["order"]
        await control(shop, "cancel", {"order": gone})
        records, _ = await all_pages(api, "")
    assert set(lines_in(events_of(records))) == {kept}


async def test_a_cursor_that_the_platform_has_forgotten_is_refused() -> None:
    async with emulator(NOWHERE, "--skus=300", "--paused", QUICK) as before, client(before) as api:
        cursor = (await api.fetch_page("")).cursor
    async with emulator(NOWHERE, "--skus=300", "--paused", QUICK) as shop, client(shop) as api:
        with pytest.raises(CursorRefused):
            await api.fetch_page(cursor)


@pytest.mark.parametrize("fault", ["half", "html", "down"])
async def test_half_a_page_one_for_people_and_none_are_failures(fault: str) -> None:
    async with emulator(NOWHERE, *A_FEW, f"--fault={fault}@0s-600s") as shop, client(shop) as api:
        with pytest.raises(UpstreamFailed):
            await api.fetch_page("")


@pytest.mark.parametrize("how", ["200", "429"])
async def test_throttled_is_throttled_however_it_is_said(how: str) -> None:
    way = f"--credential=throttle={how}"
    async with emulator(NOWHERE, *A_FEW, way, "--fault=throttle@0s-600s") as shop, client(shop) as api:
        with pytest.raises(UpstreamThrottled) as refusal:
            await api.fetch_page("")
    assert refusal.value.retry_after_s == 1


async def test_too_few_points_are_said_with_the_wait_after_which_there_are_enough() -> None:
    slow = ("--skus=100", "--paused", "--credential=points_a_second=400")
    async with emulator(NOWHERE, *slow) as shop, client(shop) as api:
        asked = [api.fetch_page("") for _ in range(40)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        waits = [one.retry_after_s for one in outcomes if isinstance(one, UpstreamThrottled)]
        calls = await control(shop, "calls")
    assert 0 < len(waits) < len(outcomes)
    # 702 points are asked for, 400 come back in a second.
    assert all(wait is not None and 1 <= wait <= 2 for wait in waits)
    assert calls["calls"]["ChangedItems"]["throttled"] == len(waits)
