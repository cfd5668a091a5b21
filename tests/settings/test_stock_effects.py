"""What changes when a setting of the stock model is changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from synchub.accounts import operations as accounts
from synchub.accounts.model import NewAccount
from synchub.accounts.operations import Registry
from synchub.accounts.vault import Vault
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import now_ms
from synchub.redis import CoalescingRedis
from synchub.settings import FeedSettings, RefetchSettings, StockSettings
from synchub.stock import operations as stock
from synchub.stock import store
from synchub.stock.model import Outcome
from tests.support.deliveries import body_of, level
from tests.support.hub import running_hub
from tests.support.registry import KEY, MANIFESTS, settings_for
from tests.support.rows import ITEM, WMS, ack, delta, order, push

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from synchub.settings import Settings
    from synchub.stock.model import Answer, Lapsed
    from tests.support.rows import Row

ACME: Final = MerchantKeys("acme")
NOON_MS: Final = 1_795_255_200_000
DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
AUTHORITY: Final = "A|0|1000000|s|m|0|0|0|0"
"""An account of the merchant's own items and places that is not fetched from."""


class Book:
    """One merchant's stock; the test says what time it is."""

    def __init__(self, redis: CoalescingRedis, settings: Settings) -> None:
        self.redis = redis
        self.settings = settings

    def choose(self, **sections: object) -> None:
        """Change whole sections of the settings."""
        self.settings = self.settings.model_copy(update=sections)

    async def role(self, account: str, words: str = AUTHORITY) -> None:
        """Say what an account is."""
        await self.redis.execute("HSET", ACME.roles, account, words)

    @property
    def timeless(self) -> Settings:
        """The settings, with a clock that goes as the test says."""
        chosen = self.settings.stock.model_copy(update={"clock": "proposed"})
        return self.settings.model_copy(update={"stock": chosen})

    async def apply(self, *rows: Row, at: int = NOON_MS) -> list[Outcome]:
        """Apply rows at a time."""
        done = await store.apply_rows(self.redis, ACME, rows, now_ms=at, settings=self.timeless)
        return [one.outcome for one in done]

    async def lapse(self, at: int) -> Lapsed:
        """Let time pass until then, in one step."""
        return await store.lapse(self.redis, ACME, now_ms=at, settings=self.timeless)

    async def count(self, command: str, family: str) -> int:
        """How much a key of the merchant holds."""
        return int(await self.redis.execute(command, f"{ACME.tag}{family}"))

    async def answer(self) -> Answer:
        """What follows for the item that rows are about by default."""
        return (await stock.read(self.redis, ACME, [ITEM])).answers[0]


@pytest.fixture
async def book(redis_url: str) -> AsyncIterator[Book]:
    settings = settings_for(redis_url)
    redis = CoalescingRedis(settings.redis)
    opened = Book(redis, settings)
    await opened.role(WMS)
    yield opened
    await redis.close()


# ------------------------------------------------------------------------------------------------- max_age_ms


async def test_a_source_silent_for_longer_than_the_age_makes_the_answer_degraded(
    book: Book,
) -> None:
    book.choose(stock=StockSettings(max_age_ms=5000))
    account = await added(book)
    await book.apply(push(4, at=NOON_MS, version=1, account=account, location="WH1"))
    assert not (await book.answer()).degraded
    later = NOON_MS + 6000
    await book.apply(push(3, at=later, version=1, account=account, location="WH2"), at=later)
    assert (await book.answer()).degraded


async def added(book: Book) -> str:
    registry = Registry(redis=book.redis, vault=Vault(KEY), manifests=MANIFESTS, settings=book.settings)
    one = await accounts.add_account(registry, NewAccount(platform="standard", merchant="acme"))
    return one.account.name


# ---------------------------------------------------------------------------------------------- low_threshold


async def test_below_the_threshold_an_item_is_low(redis_url: str) -> None:
    async with running_hub(redis_url, stock={"low_threshold": 3}) as site:
        await site.post(body_of(level("TWO", 2), level("THREE", 3), sequence=1))
        await site.drained()
        assert (await site.stock("TWO"))["state"] == "LOW_STOCK"
        assert (await site.stock("THREE"))["state"] == "IN_STOCK"


async def test_the_feed_calls_low_what_the_threshold_says(redis_url: str) -> None:
    async with running_hub(redis_url, stock={"low_threshold": 3}) as site:
        await site.post(body_of(level("TWO", 2), level("THREE", 3), sequence=1))
        await site.drained()
        headers = {"Authorization": f"Bearer {site.merchant.key}"}
        async with site.session.get(f"{site.url}/v1/feed", headers=headers) as answer:
            snapshot = await first(answer, "snap")
    assert {item["sku"]: item["state"] for item in snapshot["items"]} == {
        "TWO": "LOW_STOCK",
        "THREE": "IN_STOCK",
    }


async def first(answer: aiohttp.ClientResponse, event: str) -> dict[str, Any]:
    """The data of the first frame of this kind."""
    is_it = False
    async for raw in answer.content:
        line = raw.decode().strip()
        is_it = is_it or line == f"event: {event}"
        if is_it and line.startswith("data: "):
            data: dict[str, Any] = json.loads(line.removeprefix("data: "))
            return data
    pytest.fail(f"the feed has ended without {event}")


# ------------------------------------------------------------------------------------------------- parked_max


async def test_so_many_items_may_wait_for_a_mapping_and_no_more(book: Book) -> None:
    book.choose(stock=StockSettings(parked_max=2))
    await book.role("shop", "A|0|1000000|p|p|0")
    waiting = [push(1, at=NOON_MS, version=1, account="shop", item=item) for item in ("1", "2", "3")]
    assert await book.apply(*waiting) == [Outcome.PARKED, Outcome.PARKED, Outcome.PARKED_FULL]


# -------------------------------------------------------------------------------------------- ledger and feed


async def test_about_so_many_entries_of_the_feed_are_kept(book: Book) -> None:
    book.choose(feed=FeedSettings(retained=100))
    await changes(book, 500)
    assert 100 <= await book.redis.execute("XLEN", ACME.feed) <= 300
    assert await book.redis.execute("XLEN", ACME.ledger) == 500


async def changes(book: Book, count: int) -> None:
    rows = [push(number, at=NOON_MS, version=number) for number in range(1, count + 1)]
    for start in range(0, count, 100):
        await book.apply(*rows[start : start + 100])


# ------------------------------------------------------------------------------------------------- seen_hours


async def test_a_repeat_within_the_hours_is_recognized(book: Book) -> None:
    book.choose(stock=StockSettings(seen_hours=72))
    assert await repeated_after(book, days=3) == Outcome.DUPLICATE


async def test_a_repeat_long_after_the_hours_is_not(book: Book) -> None:
    book.choose(stock=StockSettings(seen_hours=24))
    assert await repeated_after(book, days=3) == Outcome.APPLIED


async def test_ids_are_kept_in_the_store_no_longer_than_the_hours_and_two_days(book: Book) -> None:
    book.choose(stock=StockSettings(seen_hours=24))
    await book.apply(push(4, at=NOON_MS, version=1), delta(1, at=NOON_MS, op="once"))
    [key] = await book.redis.execute("KEYS", f"{ACME.tag}seen:*")
    assert 0 < await book.redis.execute("PTTL", key) <= 3 * DAY_MS


async def repeated_after(book: Book, *, days: int) -> Outcome:
    later = NOON_MS + days * DAY_MS
    await book.apply(push(4, at=NOON_MS, version=1), delta(1, at=NOON_MS, op="once"))
    [outcome] = await book.apply(delta(1, at=later, op="once"), at=later)
    return outcome


# ------------------------------------------------------------------------------------------- confirm_after_ms


async def test_an_unversioned_fall_is_confirmed_after_so_long(book: Book) -> None:
    book.choose(refetch=RefetchSettings(confirm_after_ms=12_345))
    await book.role(WMS, "A|0|1000000|s|m|1")
    now = now_ms()
    await book.apply(push(9, at=now, version=1), at=now)
    [outcome] = await book.apply(push(4, at=now + 1), at=now + 1)
    assert outcome is Outcome.APPLIED
    assert await book.redis.execute("ZSCORE", ACME.refetch(WMS), ITEM) == str(now + 1 + 12_345).encode()


# -------------------------------------------------------------------------------------- sales and their names


async def sold_and_included(book: Book) -> None:
    await book.role(WMS, "A|0|1000000|s|m|0|0|1|0")
    await book.role("shop", "C|0|0|s|m|0|0|0|0")
    await book.apply(push(9, at=NOON_MS, version=1), order(at=NOON_MS, version=1))
    await book.apply(ack(1, at=NOON_MS + 1, version=2, name="1001", line="1"), at=NOON_MS + 1)
    await book.apply(push(8, at=NOON_MS + 2, version=2), at=NOON_MS + 2)
    assert (await book.answer()).ats == 8


async def test_a_sale_that_all_sources_contain_is_kept_for_newcomers_for_so_long(book: Book) -> None:
    book.choose(stock=StockSettings(settle_memory_hours=3))
    await sold_and_included(book)
    await book.lapse(NOON_MS + 3 * HOUR_MS - 1)
    assert await book.count("ZCARD", f"past:{ITEM}") == 1
    await book.lapse(NOON_MS + 3 * HOUR_MS)
    assert await book.count("ZCARD", f"past:{ITEM}") == 0
    assert (await book.answer()).ats == 8


async def test_the_names_of_a_sale_are_kept_for_so_many_days_more(book: Book) -> None:
    book.choose(stock=StockSettings(settle_memory_hours=3, names_days=2))
    await sold_and_included(book)
    await book.lapse(NOON_MS + 3 * HOUR_MS)
    await book.lapse(NOON_MS + 3 * HOUR_MS + 2 * DAY_MS - 1)
    assert await book.count("HLEN", "lines") == 1
    await book.lapse(NOON_MS + 3 * HOUR_MS + 2 * DAY_MS)
    assert (await book.count("HLEN", "lines"), await book.count("HLEN", "names")) == (0, 0)


# ------------------------------------------------------------------------------------------------------- time


async def test_so_many_changes_by_time_alone_are_worked_off_in_one_step(book: Book) -> None:
    book.choose(stock=StockSettings(lapse_max=10))
    await book.role(WMS, "A|0|1000|s|m|0|0|0|0")
    await book.apply(*(push(4, at=NOON_MS, version=1, item=f"ITEM-{number}") for number in range(25)))
    steps = [await book.lapse(NOON_MS + 1001) for _ in range(3)]
    assert [(step.done, step.left) for step in steps] == [(10, 15), (10, 5), (5, 0)]


async def test_a_caller_with_a_wrong_clock_does_not_set_the_merchants(book: Book) -> None:
    book.choose(stock=StockSettings())
    await store.apply_rows(book.redis, ACME, [], now_ms=now_ms(), settings=book.settings)
    for wrong_by in (120_000, -120_000, DAY_MS):
        lapsed = await store.lapse(book.redis, ACME, now_ms=now_ms() + wrong_by, settings=book.settings)
        assert abs(lapsed.clock_ms - now_ms()) < 60_000
    assert (await book.lapse(now_ms() + DAY_MS)).clock_ms > now_ms() + DAY_MS - 60_000
