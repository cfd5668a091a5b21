"""Open sales on a real store: who is told of them, page by page, and what settling one does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from synchub.errors import NotFound
from synchub.keyspace import MerchantKeys
from synchub.redis import CoalescingRedis
from synchub.stock import operations as stock
from synchub.stock import sales, store
from synchub.stock.sale_names import names_of, shown_name
from tests.support.registry import settings_for
from tests.support.rows import ack, order, push, read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.settings import Settings
    from synchub.stock.model import OpenSale
    from tests.support.rows import Row

ACME: Final = MerchantKeys("acme")
NOON_MS: Final = 1_795_255_200_000
HOUR_MS: Final = 3_600_000
WMS_ROLE: Final = "A|1|1000000000|s|m|0|0|1|0"
SHOP_ROLE: Final = "C|1|1000000000|s|m|0|1|0|0"


class Books:
    """One merchant with a warehouse that acknowledges and a shop that sells."""

    def __init__(self, redis: CoalescingRedis, settings: Settings) -> None:
        self.redis = redis
        self.settings = settings

    async def apply(self, *rows: Row, at: int = NOON_MS) -> None:
        await store.apply_rows(self.redis, ACME, rows, now_ms=at, settings=self.settings)

    async def sells(self, *skus: str, at: int = NOON_MS, units: int = 1, name: str = "") -> None:
        """Let the shop sell; each SKU by an order of its own."""
        rows = [order(units, at=at, version=at, item=sku, name=name or f"O-{sku}") for sku in skus]
        await self.apply(*rows, at=at)

    async def sales(self, older_than_ms: int = 0) -> list[OpenSale]:
        page = await stock.list_sales(self.redis, ACME, older_than_ms=older_than_ms, limit=100)
        assert page.next_sku == ""
        return list(page.sales)

    async def number(self, sku: str) -> int:
        return (await stock.read(self.redis, ACME, [sku])).answers[0].ats


@pytest.fixture
async def books(redis_url: str) -> AsyncIterator[Books]:
    settings = settings_for(redis_url)
    timeless = settings.stock.model_copy(update={"clock": "proposed"})
    redis = CoalescingRedis(settings.redis)
    await redis.execute("HSET", ACME.roles, "wms", WMS_ROLE, "shop", SHOP_ROLE)
    yield Books(redis, settings.model_copy(update={"stock": timeless}))
    await redis.close()


async def test_a_merchant_without_sales_has_none(books: Books) -> None:
    assert await books.sales() == []
    await books.apply(push(10, at=NOON_MS, version=1, item="TEE"))
    assert await books.sales() == []


async def test_a_sale_is_told_with_its_names_its_age_and_who_lacks_it(books: Books) -> None:
    await books.apply(push(10, at=NOON_MS, version=1, item="TEE"))
    await books.sells("TEE", units=3)
    await books.apply(push(4, at=NOON_MS + HOUR_MS, version=1, item="MUG"), at=NOON_MS + HOUR_MS)
    [sale] = await books.sales()
    assert (sale.sku, sale.units, sale.places, sale.origin) == ("TEE", 3, (("WH1", 3),), "shop")
    assert sale.age_ms == HOUR_MS
    assert [(one.account, one.place, one.units) for one in sale.lacking] == [("wms", "WH1", 3)]
    assert shown_name(sale.names[0]).startswith("order:shop:O-TEE:")


async def test_what_every_level_contains_is_not_open(books: Books) -> None:
    await books.apply(push(10, at=NOON_MS, version=1, item="TEE"))
    await books.sells("TEE", units=3)
    told = ack(3, at=NOON_MS + 10, version=2, item="TEE", name="O-TEE", line="1")
    await books.apply(told, push(7, at=NOON_MS + 20, version=2, item="TEE"), at=NOON_MS + 20)
    assert await books.sales() == []


async def test_a_part_that_is_contained_is_not_lacking(books: Books) -> None:
    await books.apply(push(10, at=NOON_MS, version=1, item="TEE"))
    await books.sells("TEE", units=3)
    told = ack(1, at=NOON_MS + 10, version=2, item="TEE", name="O-TEE", line="1")
    await books.apply(told, push(9, at=NOON_MS + 20, version=2, item="TEE"), at=NOON_MS + 20)
    [sale] = await books.sales()
    assert (sale.units, sale.lacking[0].units) == (3, 2)


async def test_a_sale_where_nobody_counts_stock_is_open_and_lacks_nobody(books: Books) -> None:
    await books.sells("TEE")
    [sale] = await books.sales()
    assert (sale.places, sale.lacking) == ((("", 1),), ())


async def test_only_sales_older_than_asked_for_are_told(books: Books) -> None:
    await books.sells("TEE", at=NOON_MS)
    await books.sells("MUG", at=NOON_MS + HOUR_MS)
    assert [sale.sku for sale in await books.sales(older_than_ms=HOUR_MS)] == ["TEE"]
    assert await books.sales(older_than_ms=HOUR_MS + 1) == []


async def test_pages_show_every_sale_once_and_each_is_bounded(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sales, "SKUS_AT_ONCE", 2)
    skus = [f"SKU-{number}" for number in range(7)]
    await books.sells(*skus)
    for number in range(3):
        await books.sells("SKU-3", name=f"more-{number}", at=NOON_MS + number)
    found: list[OpenSale] = []
    sku, place = "", 0
    for _ in range(20):
        page = await stock.list_sales(books.redis, ACME, sku=sku, place=place, limit=2)
        assert len(page.sales) <= 2
        found += page.sales
        sku, place = page.next_sku, page.next_place
        if not sku:
            break
    assert len(found) == len({sale.names[0] for sale in found}) == 10
    assert sorted({sale.sku for sale in found}) == skus


async def test_open_and_overdue_sales_are_counted_over_all_pages(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sales, "SKUS_AT_ONCE", 2)
    await books.sells(*(f"OLD-{number}" for number in range(5)))
    await books.sells(*(f"NEW-{number}" for number in range(4)), at=NOON_MS + HOUR_MS)
    count = await stock.count_sales(books.redis, ACME, overdue_after_ms=HOUR_MS)
    assert (count.open, count.overdue) == (9, 5)


async def test_settling_a_sale_gives_the_number_back_and_leaves_an_entry(books: Books) -> None:
    await books.apply(push(10, at=NOON_MS, version=1, item="TEE"))
    await books.sells("TEE", units=3)
    assert await books.number("TEE") == 7
    [sale] = await books.sales()
    settled = await stock.settle_sale(
        books.redis, ACME, sale.names, cause="settled:ann:sent by hand", settings=books.settings
    )
    assert settled.seq > 0
    assert (await books.number("TEE"), await books.sales()) == (10, [])
    [(name, fields)] = await books.redis.execute("XREVRANGE", ACME.ledger, "+", "-", "COUNT", "1")
    told = dict(zip(fields[::2], fields[1::2], strict=True))
    assert name == f"{settled.seq}-0".encode()
    assert (told[b"field"], told[b"from"], told[b"to"]) == (b"settled", b"3", b"0")
    assert told[b"cause"] == b"settled:ann:sent by hand"


async def test_settling_again_changes_nothing(books: Books) -> None:
    await books.sells("TEE")
    names = names_of(sku="TEE", order="O-TEE")
    first = await stock.settle_sale(books.redis, ACME, names, cause="x", settings=books.settings)
    head = (await stock.read_head(books.redis, ACME)).seq
    again = await stock.settle_sale(books.redis, ACME, names, cause="x", settings=books.settings)
    assert (first.seq > 0, again.seq) == (True, 0)
    assert (await stock.read_head(books.redis, ACME)).seq == head


async def test_a_settled_sale_stays_settled_when_its_order_is_told_again(books: Books) -> None:
    await books.apply(push(10, at=NOON_MS, version=1, item="TEE"))
    await books.sells("TEE", units=3)
    await stock.settle_sale(
        books.redis, ACME, names_of(sku="TEE", order="O-TEE"), cause="x", settings=books.settings
    )
    await books.sells("TEE", units=3, at=NOON_MS + 1)
    await books.apply(read(9, at=NOON_MS + 2, version=2, item="TEE"), at=NOON_MS + 2)
    assert await books.number("TEE") == 9


async def test_a_sale_that_nobody_knows_cannot_be_settled(books: Books) -> None:
    with pytest.raises(NotFound):
        await stock.settle_sale(
            books.redis, ACME, names_of(sku="TEE", order="1"), cause="x", settings=books.settings
        )
