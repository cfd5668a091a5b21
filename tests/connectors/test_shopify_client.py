"""Reading Shopify's levels: what is asked, what is made of the answer, and what a bad answer is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from connectors.shopify.addresses import API_VERSION, endpoint, global_id, number_of
from synchub.connector_kit.events import (
    Catalogue,
    CatalogueStatus,
    Level,
    LevelStatus,
    Scale,
    StockEvent,
    Version,
)
from synchub.errors import PayloadRefused, UpstreamFailed, UpstreamRefused, UpstreamThrottled
from tests.support.shopify import ShopAnswers

if TYPE_CHECKING:
    from collections.abc import Mapping

ITEM: Final = "271878346596884015"
VARIANT: Final = "278032119674290015"
PRODUCT: Final = "788032119674292922"
UPDATED_US: Final = 1_767_341_045_000_000


def level_node(location: int = 1, available: int | None = 7, *, active: bool = True) -> dict[str, object]:
    return {
        "location": {"id": global_id("Location", str(location))},
        "isActive": active,
        "updatedAt": "2026-01-02T08:04:05Z",
        "quantities": [] if available is None else [{"name": "available", "quantity": available}],
    }


def variant_node(number: str = VARIANT, product: str = PRODUCT, **fields: object) -> dict[str, object]:
    ids = {"id": global_id("ProductVariant", number), "product": {"id": global_id("Product", product)}}
    return ids | fields


def item_node(
    *levels: dict[str, object], next_page: str | None = None, **fields: object
) -> dict[str, object]:
    return {
        "id": global_id("InventoryItem", ITEM),
        "sku": "TEE-1",
        "tracked": True,
        "variants": {"nodes": [variant_node()]},
        "inventoryLevels": {
            "nodes": list(levels),
            "pageInfo": {"hasNextPage": next_page is not None, "endCursor": next_page},
        },
    } | fields


def answer(*nodes: object) -> dict[str, object]:
    return {"data": {"nodes": list(nodes)}}


def catalogue(sku: str | None = "TEE-1", group: str | None = f"product/{PRODUCT}") -> Catalogue:
    return Catalogue(item=ITEM, sku=sku, group=group, status=CatalogueStatus.ACTIVE)


def variant(sku: str | None = "TEE-1", number: str = VARIANT, product: str = PRODUCT) -> Catalogue:
    return Catalogue(item=f"variant/{number}", sku=sku, group=f"product/{product}")


def level(location: str = "1", quantity: int | None = 7, status: LevelStatus = LevelStatus.KNOWN) -> Level:
    return Level(
        item=ITEM,
        location=location,
        quantity=quantity,
        status=status,
        version=Version(scale=Scale.TIME, number=UPDATED_US, resolution=1_000_000),
        source_time_us=UPDATED_US,
    )


async def fetched(*nodes: object) -> tuple[StockEvent, ...]:
    return await ShopAnswers(answer(*nodes)).client().fetch_levels([ITEM])


async def test_a_read_item_has_its_sku_its_product_and_a_level_per_location() -> None:
    events = await fetched(item_node(level_node(1, 7), level_node(2, -3)))
    assert events == (catalogue(), variant(), level("1", 7), level("2", -3))


async def test_the_token_goes_only_to_the_shop_s_own_domain() -> None:
    shop = ShopAnswers(answer())
    await shop.client().fetch_levels([ITEM])
    assert shop.url == f"https://example.myshopify.com/admin/api/{API_VERSION}/graphql.json"
    assert shop.headers["x-shopify-access-token"] == "shpat_secret"


async def test_each_item_is_asked_for_once_by_its_global_id() -> None:
    shop = ShopAnswers(answer())
    await shop.client().fetch_levels([ITEM, "no-number", ITEM])
    assert shop.asked == [{"ids": [f"gid://shopify/InventoryItem/{ITEM}"], "first": 10, "after": None}]


async def test_nothing_is_asked_when_no_item_can_be_the_shop_s() -> None:
    shop = ShopAnswers()
    assert await shop.client().fetch_levels(["TEE-1", ""]) == ()
    assert shop.asked == []


async def test_an_item_that_the_shop_does_not_have_is_absent() -> None:
    assert await fetched(None) == ()


async def test_an_untracked_item_has_levels_without_a_number() -> None:
    events = await fetched(item_node(level_node(1, 0), tracked=False))
    assert events == (catalogue(), variant(), level("1", None, LevelStatus.UNTRACKED))


async def test_an_inactive_level_is_closed_whatever_number_it_kept() -> None:
    events = await fetched(item_node(level_node(1, 5, active=False)))
    assert events == (catalogue(), variant(), level("1", None, LevelStatus.CLOSED))


@pytest.mark.parametrize("sku", [None, "", "a\u202eb", "x" * 129])
async def test_an_item_without_a_usable_sku_still_has_its_levels(sku: str | None) -> None:
    assert await fetched(item_node(level_node(), sku=sku)) == (
        catalogue(sku=None),
        variant(sku=None),
        level(),
    )


async def test_an_item_of_several_products_belongs_to_none() -> None:
    events = await fetched(item_node(variants={"nodes": [variant_node("11", "1"), variant_node("12", "2")]}))
    assert events == (
        catalogue(group=None),
        variant(number="11", product="1"),
        variant(number="12", product="2"),
    )


async def test_an_item_without_variants_is_only_itself() -> None:
    assert await fetched(item_node(variants=None)) == (catalogue(group=None),)


async def test_a_variant_that_an_order_named_is_asked_for_its_sku() -> None:
    shop = ShopAnswers(answer(item_node(level_node())), answer(variant_node(sku="TEE-1"), None))
    events = await shop.client().fetch_levels([f"variant/{VARIANT}", ITEM, "variant/9", "variant/x"])
    assert events == (catalogue(), variant(), level(), variant())
    assert shop.asked[1] == {
        "ids": [f"gid://shopify/ProductVariant/{VARIANT}", "gid://shopify/ProductVariant/9"]
    }


async def test_a_variant_alone_is_one_call() -> None:
    shop = ShopAnswers(answer(variant_node(sku=None)))
    assert await shop.client().fetch_levels([f"variant/{VARIANT}"]) == (variant(sku=None),)
    assert len(shop.asked) == 1


@pytest.mark.parametrize("node", [{}, variant_node(), variant_node(sku="A") | {"id": VARIANT}])
async def test_an_unreadable_variant_is_the_platform_s_failure(node: object) -> None:
    with pytest.raises(UpstreamFailed):
        await ShopAnswers(answer(node)).client().fetch_levels([f"variant/{VARIANT}"])


async def test_further_locations_are_read_page_by_page() -> None:
    shop = ShopAnswers(
        answer(item_node(level_node(1), next_page="c1")),
        answer(item_node(level_node(2), next_page="c2")),
        answer(item_node(level_node(3))),
    )
    events = await shop.client().fetch_levels([ITEM])
    assert events == (catalogue(), variant(), level("1"), level("2"), level("3"))
    assert [asked["after"] for asked in shop.asked] == [None, "c1", "c2"]


async def test_an_item_that_goes_between_two_pages_keeps_what_was_read() -> None:
    shop = ShopAnswers(answer(item_node(level_node(1), next_page="c1")), answer(None))
    assert await shop.client().fetch_levels([ITEM]) == (catalogue(), variant(), level("1"))


async def test_pages_without_end_fail_the_read() -> None:
    shop = ShopAnswers(*[answer(item_node(level_node(1), next_page="again"))] * 30)
    with pytest.raises(UpstreamFailed):
        await shop.client().fetch_levels([ITEM])
    assert len(shop.asked) == 21


def throttled(cost: Mapping[str, object], code: str | None = "THROTTLED") -> dict[str, object]:
    status = {"maximumAvailable": 2000.0, "currentlyAvailable": 66, "restoreRate": 100.0}
    error: dict[str, object] = {"message": "Throttled"}
    if code:
        error["extensions"] = {"code": code}
    known = {"requestedQueryCost": 975, "actualQueryCost": None, "throttleStatus": status}
    return {"errors": [error], "extensions": {"cost": known | dict(cost)}}


@pytest.mark.parametrize("code", ["THROTTLED", None])
async def test_a_throttled_query_says_when_its_points_will_be_there(code: str | None) -> None:
    with pytest.raises(UpstreamThrottled) as refusal:
        await ShopAnswers(throttled({}, code)).client().fetch_levels([ITEM])
    assert refusal.value.retry_after_s == 10  # (975 - 66) points at 100 a second


@pytest.mark.parametrize(
    ("cost", "retry_after_s"),
    [
        ({"throttleStatus": None}, 5),
        ({"requestedQueryCost": 10**9}, 60),
        ({"requestedQueryCost": 1}, 1),
    ],
)
async def test_a_throttled_query_waits_within_bounds(cost: dict[str, object], retry_after_s: int) -> None:
    with pytest.raises(UpstreamThrottled) as refusal:
        await ShopAnswers(throttled(cost)).client().fetch_levels([ITEM])
    assert refusal.value.retry_after_s == retry_after_s


@pytest.mark.parametrize("code", ["ACCESS_DENIED", "MAX_COST_EXCEEDED"])
async def test_a_query_that_the_shop_will_not_run_is_refused(code: str) -> None:
    refusal = {"errors": [{"message": "No.", "extensions": {"code": code}}], "data": {"nodes": [None]}}
    with pytest.raises(UpstreamRefused, match=code):
        await ShopAnswers(refusal).client().fetch_levels([ITEM])


@pytest.mark.parametrize(
    "unreadable",
    [
        b"<html><body>Oops</body></html>",
        b"",
        b"[]",
        b'{"data": {"nodes": [',
        {"data": None},
        {"data": {}},
        {"errors": "Not found"},
        {"errors": [{"message": "Internal error", "extensions": {"code": "INTERNAL_SERVER_ERROR"}}]},
        answer({}),
        answer(item_node(level_node(available=None))),
        answer(item_node(level_node() | {"updatedAt": "soon"})),
        answer(item_node(level_node() | {"location": {"id": "24826418"}})),
    ],
)
async def test_an_answer_of_another_form_is_the_platform_s_failure(unreadable: object) -> None:
    with pytest.raises(UpstreamFailed):
        await ShopAnswers(unreadable).client().fetch_levels([ITEM])


async def test_without_a_token_nothing_is_read() -> None:
    with pytest.raises(UpstreamRefused):
        await ShopAnswers().client(access_token="").fetch_levels([ITEM])


@pytest.mark.parametrize(
    "shop_domain",
    [
        "",
        "example.com",
        "https://example.myshopify.com",
        "example.myshopify.com.evil.org",
        "http://10.0.0.1:80",
    ],
)
def test_a_token_is_not_sent_to_any_other_host(shop_domain: str) -> None:
    with pytest.raises(UpstreamRefused):
        endpoint(shop_domain)


def test_a_local_emulator_may_stand_for_the_shop() -> None:
    assert endpoint("http://127.0.0.1:8123") == f"http://127.0.0.1:8123/admin/api/{API_VERSION}/graphql.json"


def test_a_global_id_is_known_by_its_number() -> None:
    assert number_of(global_id("InventoryItem", ITEM)) == ITEM
    with pytest.raises(PayloadRefused):
        number_of("gid://shopify/InventoryItem/")
