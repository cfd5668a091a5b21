"""Polling ShipHero: a sweep that reads everything, looks in between, and credits that run out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import AsyncMock

import pytest

from connectors.shiphero import Client, read_quota, sweep
from synchub.connector_kit.contract import Access, Quota
from synchub.connector_kit.events import Level
from synchub.connector_kit.http import AiohttpPlatformHttp, HttpAnswer
from synchub.errors import CursorRefused, UpstreamFailed, UpstreamThrottled
from tests.support.shiphero import WH1, WH2, emulator, levels_of

if TYPE_CHECKING:
    from synchub.connector_kit.contract import Page, Record
    from tests.support.shiphero import Emulator

NOW_MS: Final = 1_767_323_045_000


async def poll(client: Client, cursor: str = "") -> tuple[list[Page], str]:
    """Read page after page until the last."""
    pages: list[Page] = []
    while not pages or not pages[-1].is_last:
        pages.append(await client.fetch_page(cursor))
        cursor = pages[-1].cursor
    return pages, cursor


def records(*pages: Page) -> list[Record]:
    return [record for page in pages for record in page.records]


def found(*pages: Page) -> dict[str, dict[str, int | None]]:
    return levels_of(event for record in records(*pages) for event in record.events)


async def unlimited(shiphero: Emulator) -> None:
    await shiphero.post("credits", capacity=10_000_000, restored_per_s=10_000_000)


# --- the sweep


async def test_a_sweep_of_ten_thousand_levels_is_the_truth() -> None:
    async with emulator("--paused", "--skus", "5000") as shiphero:
        await unlimited(shiphero)
        pages, _ = await poll(shiphero.reader())
        truth = await shiphero.truth()
        some = sorted(truth["levels"])[::500]
        read = levels_of(await shiphero.reader().fetch_levels(some))
    assert found(*pages) == truth["levels"]
    assert {sku: found(*pages)[sku] for sku in some} == read, "a page tells what a read of single SKUs tells"
    assert max(len(page.records) for page in pages) == 100
    assert len(records(*pages)) == len({record.key for record in records(*pages)}) == 10_000
    assert {record.topic for record in records(*pages)} == {"Inventory Update"}
    assert not any(page.refused for page in pages)


async def test_another_client_goes_on_where_the_first_one_stopped() -> None:
    async with emulator("--paused", "--skus", "200") as shiphero:
        await unlimited(shiphero)
        first = await shiphero.reader().fetch_page("")
        second = await shiphero.reader().fetch_page(first.cursor)
        again = await shiphero.reader().fetch_page(first.cursor)
        rest, _ = await poll(shiphero.reader(), second.cursor)
        truth = await shiphero.truth()
    assert found(second) == found(again)
    assert found(first, second, *rest) == truth["levels"]
    assert [len(page.records) for page in (first, second, *rest)] == [100] * 4


async def test_no_time_can_be_begun_at_so_a_poll_from_a_time_reads_everything() -> None:
    async with emulator("--paused") as shiphero:
        client = shiphero.reader()
        pages, _ = await poll(client, client.cursor_at(NOW_MS))
        truth = await shiphero.truth()
    assert found(*pages) == truth["levels"]


async def test_an_allocation_behind_the_sweep_is_found_by_the_next_though_its_row_keeps_its_time() -> None:
    async with emulator("--paused", "--skus", "150") as shiphero:
        await unlimited(shiphero)
        client = shiphero.reader()
        first = await client.fetch_page("")
        before = found(first)["TEE-0001"][WH1]
        await shiphero.post("change", sku="TEE-0002", location="WH1", quantity=500)
        await shiphero.post("order", sku="TEE-0002", location="WH1", quantity=7)
        rest, cursor = await poll(client, first.cursor)
        look, *swept = (await poll(client, cursor))[0]
    assert before is not None
    assert "TEE-0002" in found(first)
    assert "TEE-0002" not in found(*rest), "its row had been passed"
    # The row says when units were moved; the level in it is the present one, with the order.
    assert records(look)[0].events == (Level(item="TEE-0002", location=WH1, quantity=493),)
    assert found(*swept)["TEE-0002"][WH1] == 493


async def test_an_order_alone_changes_no_rows_time_and_is_found_by_the_sweep_only() -> None:
    async with emulator("--paused") as shiphero:
        client = shiphero.reader()
        before, cursor = await poll(client)
        await shiphero.post("order", sku="TEE-0003", location="WH2", quantity=1)
        look, *swept = (await poll(client, cursor))[0]
    assert records(look) == []
    assert found(*swept)["TEE-0003"][WH2] == (found(*before)["TEE-0003"][WH2] or 0) - 1
    assert {record.changed_at_us for record in records(*swept)} == {None}, "nothing says when"


# --- looks


async def test_the_next_poll_begins_with_what_says_that_it_changed() -> None:
    async with emulator("--paused") as shiphero:
        client = shiphero.reader()
        _, cursor = await poll(client)
        await shiphero.post("change", sku="TEE-0004", location="WH2", quantity=321)
        pages, _ = await poll(client, cursor)
        truth = await shiphero.truth()
    (record,) = pages[0].records
    assert record.events == (Level(item="TEE-0004", location=WH2, quantity=321),)
    assert record.changed_at_us is not None
    assert not pages[0].is_last, "a look proves nothing: the sweep follows"
    assert found(*pages[1:]) == truth["levels"]


async def test_what_changes_behind_a_long_sweep_is_seen_before_its_end() -> None:
    async with emulator("--paused", "--skus", "600") as shiphero:
        await unlimited(shiphero)
        client, cursor, pages = shiphero.reader(), "", []
        for _ in range(11):
            pages.append(await client.fetch_page(cursor))
            cursor = pages[-1].cursor
            if len(pages) == 5:
                await shiphero.post("change", sku="TEE-0001", location="WH1", quantity=77)
        rest, _ = await poll(client, cursor)
        truth = await shiphero.truth()
    assert [len(page.records) for page in pages] == [*[100] * 10, 1]
    assert found(pages[10]) == {"TEE-0001": {WH1: 77}}
    swept = found(*pages[:10], *rest)
    swept["TEE-0001"] |= found(pages[10])["TEE-0001"]
    assert swept == truth["levels"]


async def test_rows_that_changed_in_the_same_second_are_all_looked_at() -> None:
    async with emulator("--paused", "--skus", "125") as shiphero:
        await unlimited(shiphero)
        client = shiphero.reader()
        _, cursor = await poll(client)
        for number in range(1, 126):
            for place in ("WH1", "WH2"):
                await shiphero.post("change", sku=f"TEE-{number:04d}", location=place, quantity=1000 + number)
        pages = [await client.fetch_page(cursor)]
        while len(pages) < 3:
            pages.append(await client.fetch_page(pages[-1].cursor))
    assert [len(page.records) for page in pages] == [100, 100, 50]
    changed = {f"TEE-{number:04d}": 1000 + number for number in range(1, 126)}
    assert found(*pages) == {sku: {WH1: level, WH2: level} for sku, level in changed.items()}


def test_a_look_at_too_much_gives_way_to_the_sweep() -> None:
    place = sweep.go_on(sweep.go_on(None, None, at_ms=NOW_MS), "e0", at_ms=NOW_MS + 1000)
    for page in range(sweep.TURN_PAGES - 1):
        assert sweep.is_look(place)
        place = sweep.go_on(place, f"e{page + 1}", at_ms=NOW_MS + 2000)
    assert not sweep.is_look(place)
    assert sweep.after(place) is None, "the sweep begins"
    assert place.looked_ms == NOW_MS + 1000, "when the look began, not when it ended"


def test_a_look_begins_a_minute_before_the_last_one_began() -> None:
    swept = sweep.go_on(None, None, at_ms=NOW_MS)
    looked = sweep.go_on(swept, None, at_ms=NOW_MS + 900_000)
    assert sweep.since(swept) == "2026-01-02T03:03:05"
    assert sweep.since(sweep.go_on(looked, None, at_ms=NOW_MS + 999_000)) == "2026-01-02T03:18:05"


def test_a_place_survives_being_written() -> None:
    place = sweep.go_on(sweep.go_on(None, "e1", at_ms=NOW_MS, account="A"), None, at_ms=NOW_MS)
    assert sweep.read(sweep.written(place)) == place


@pytest.mark.parametrize("cursor", ["x", "{}", '{"form":2,"looked_ms":1}', '{"form":1,"looked_ms":-1}'])
def test_a_cursor_of_another_kind_is_refused(cursor: str) -> None:
    with pytest.raises(CursorRefused):
        sweep.read(cursor)


# --- credits, and answers that are none


async def test_a_sweep_that_runs_out_of_credits_goes_on_from_its_page() -> None:
    async with emulator("--paused", "--skus", "1200") as shiphero:
        # ShipHero's own bucket, so slow that nothing comes back meanwhile: 19 pages at 201 credits each.
        await shiphero.post("credits", capacity=4004, restored_per_s=0.001)
        client = shiphero.reader()
        pages = [await client.fetch_page("")]
        while len(pages) < 20:
            pages.append(await client.fetch_page(pages[-1].cursor))
        with pytest.raises(UpstreamThrottled) as refused:
            await client.fetch_page(pages[-1].cursor)
        await unlimited(shiphero)
        rest, _ = await poll(client, pages[-1].cursor)
        truth, calls = await shiphero.truth(), await shiphero.calls()
    # A look in between, at rows of which none had changed, was charged for its listing only.
    assert sum(len(page.records) for page in pages) == 1_900
    assert refused.value.retry_after_s == 300, "more than can be waited for"
    assert found(*pages, *rest) == truth["levels"]
    assert calls["calls"]["Page"]["throttled"] == 1


@pytest.mark.parametrize("fault", ["half", "html", "down"])
async def test_half_a_page_a_page_for_people_and_no_page_are_failures(fault: str) -> None:
    async with emulator("--paused", "--fault", f"{fault}@0s-60s") as shiphero:
        with pytest.raises(UpstreamFailed) as failed:
            await shiphero.reader().fetch_page("")
    assert not isinstance(failed.value, CursorRefused), "the cursor is not to blame"


async def test_a_call_says_what_it_may_cost() -> None:
    http = AsyncMock(spec=AiohttpPlatformHttp)
    listing = {"data": {"pageInfo": {"hasNextPage": False}, "edges": []}}
    body = json.dumps({"data": {"page": listing, "l0": listing, "l1": listing}}).encode()
    http.send.return_value = HttpAnswer(status=200, headers={}, body=body)
    client = Client(Access(http=http, credentials={"access_token": "t"}))
    await client.fetch_page("")
    assert http.send.await_args.kwargs["cost"] == 202, "a hundred rows, each with its warehouse"
    await client.fetch_levels(["A", "B"])
    assert http.send.await_args.kwargs["cost"] == 43


def answer(body: Any) -> HttpAnswer:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpAnswer(status=200, headers={}, body=text)


def test_the_quota_is_what_the_answer_says_of_the_account() -> None:
    told = {"data": {"user_quota": {"credits_remaining": 3803, "max_available": 4004, "increment_rate": 60}}}
    assert read_quota(answer(told)) == Quota(remaining=3803, capacity=4004, restored_per_s=60)


@pytest.mark.parametrize("where", [{"remaining_credits": 20}, {"extensions": {"remaining_credits": 20}}])
def test_a_throttle_says_what_is_left_too(where: dict[str, object]) -> None:
    told = {"data": None, "errors": [{"message": "There are not enough credits", "code": 30} | where]}
    assert read_quota(answer(told)) == Quota(remaining=20)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"data":{"user_quota":',
        b'<html>"user_quota"</html>',
        {"data": {"page": None}},
        {"data": {"user_quota": None}},
        {"data": {"user_quota": {"credits_remaining": "many"}}},
        {"data": {"user_quota": {"max_available": 4004}}},
        {"errors": [{"remaining_credits": "20"}]},
        {"errors": "remaining_credits"},
    ],
)
def test_an_answer_that_says_nothing_of_it_is_no_quota(body: object) -> None:
    assert read_quota(answer(body)) is None
