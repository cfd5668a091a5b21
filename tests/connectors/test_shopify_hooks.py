"""Shopify's subscriptions and the canary: from prepared answers, and with a shop that forgets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

import connectors.shopify
from connectors.shopify import queries
from connectors.shopify.hooks import ORDER_FIELDS, ORDER_TOPICS, TOPICS
from synchub.connector_kit.contract import HookState
from synchub.connector_kit.events import Catalogue, Heartbeat, Level
from synchub.connector_kit.manifest import load_manifest
from synchub.errors import UpstreamRefused
from tests.support.shopify import (
    ShopAnswers,
    all_pages,
    client,
    control,
    emulator,
    events_of,
    receiver,
    set_level,
)

MANIFEST: Final = load_manifest(Path(connectors.shopify.__file__).with_name("manifest.toml"))
URL: Final = "https://hub.example/hooks/acc_shop"
CANARY: Final = "271878346596884000"
DENIED: Final = {
    "errors": [{"message": "no", "extensions": {"code": "ACCESS_DENIED"}, "path": ["webhookSubscriptions"]}]
}
DONE: Final[dict[str, Any]] = {"data": {"outcome": {"userErrors": []}}}


def hook(topic: str, **fields: object) -> dict[str, object]:
    known = {
        "id": f"gid://shopify/WebhookSubscription/{TOPICS.index(topic) + 1}",
        "topic": topic.replace("/", "_").upper(),
        "uri": URL,
        "format": "JSON",
        "filter": None,
        "includeFields": list(ORDER_FIELDS) if topic in ORDER_TOPICS else [],
    }
    return known | fields


def listed(*hooks: object, end: str | None = None) -> dict[str, Any]:
    page = {"hasNextPage": end is not None, "endCursor": end}
    return {"data": {"webhookSubscriptions": {"nodes": list(hooks), "pageInfo": page}}}


def refused(message: str = "no") -> dict[str, Any]:
    return {"data": {"outcome": {"userErrors": [{"message": message}]}}}


ALL: Final = tuple(hook(topic) for topic in TOPICS)


def test_the_topics_are_those_of_the_manifest_that_say_something() -> None:
    assert set(TOPICS) == {topic for topic, offer in MANIFEST.topics.items() if offer.emits}


async def test_all_topics_at_this_address_are_sound() -> None:
    shop = ShopAnswers(listed(*ALL[:4], end="4"), listed(*ALL[4:]))
    report = await shop.client().check_subscription(URL)
    assert (report.state, report.topics) == (HookState.SOUND, ())
    assert [asked["after"] for asked in shop.asked] == [None, "4"]


async def test_a_subscription_at_another_address_is_not_ours() -> None:
    elsewhere = hook(TOPICS[0], uri="https://other.example/hooks/acc_shop")
    report = await ShopAnswers(listed(elsewhere, *ALL[1:])).client().check_subscription(URL)
    assert (report.state, report.topics) == (HookState.MISSING, (TOPICS[0],))


@pytest.mark.parametrize(
    ("topic", "fields"),
    [
        ("inventory_levels/update", {"format": "XML"}),
        ("inventory_levels/update", {"filter": "available:0"}),
        ("inventory_levels/update", {"includeFields": ["available"]}),
        ("orders/create", {"includeFields": ["id", "line_items"]}),
    ],
)
async def test_a_subscription_that_sends_less_or_otherwise_is_mended(
    topic: str, fields: dict[str, object]
) -> None:
    wrong = hook(topic, **fields)
    right = [one for one in ALL if one["topic"] != wrong["topic"]]
    shop = ShopAnswers(listed(wrong, *right), listed(wrong, *right), DONE, listed(*ALL))
    before = await shop.client().check_subscription(URL)
    assert (before.state, before.topics) == (HookState.MISSING, (topic,))
    assert topic in before.detail.partition("another format")[2]
    after = await shop.client().repair_subscription(URL)
    assert after.state is HookState.SOUND
    change = shop.asked[2]
    assert shop.queries[2] == queries.RESUBSCRIBE
    assert (change["id"], change["hook"]["format"], change["hook"]["filter"]) == (wrong["id"], "JSON", "")


async def test_an_order_subscription_with_all_fields_is_right_too() -> None:
    whole = [one | {"includeFields": []} for one in ALL]
    report = await ShopAnswers(listed(*whole)).client().check_subscription(URL)
    assert report.state is HookState.SOUND


async def test_only_what_is_missing_is_subscribed_to_and_of_orders_only_what_is_read() -> None:
    shop = ShopAnswers(listed(*ALL[:-2]), DONE, DONE, listed(*ALL))
    report = await shop.client().repair_subscription(URL)
    assert report.state is HookState.SOUND
    assert [asked["topic"] for asked in shop.asked[1:3]] == ["ORDERS_UPDATED", "ORDERS_CANCELLED"]
    assert shop.asked[1]["hook"] == {"uri": URL, "format": "JSON", "includeFields": list(ORDER_FIELDS)}
    assert shop.costs[1:3] == [10, 10]


async def test_nothing_is_changed_where_nothing_is_missing() -> None:
    shop = ShopAnswers(listed(*ALL))
    assert (await shop.client().repair_subscription(URL)).state is HookState.SOUND
    assert shop.answers == []


async def test_a_refused_subscription_is_told_without_the_address() -> None:
    shop = ShopAnswers(listed(*ALL[:-1]), refused(f"{URL} is not allowed"), listed(*ALL[:-1]))
    report = await shop.client().repair_subscription(URL)
    assert (report.state, report.topics) == (HookState.MISSING, ("orders/cancelled",))
    assert "refused a subscription to orders/cancelled" in report.detail
    assert "hub.example" not in report.detail


async def test_one_that_somebody_else_made_meanwhile_is_no_refusal() -> None:
    taken = refused("Address for this topic has already been taken")
    shop = ShopAnswers(listed(*ALL[:-1]), taken, listed(*ALL))
    report = await shop.client().repair_subscription(URL)
    assert (report.state, report.detail) == (HookState.SOUND, "")


async def test_a_missing_permission_is_refused_and_named() -> None:
    with pytest.raises(UpstreamRefused, match="ACCESS_DENIED at webhookSubscriptions"):
        await ShopAnswers(DENIED).client().check_subscription(URL)


async def test_the_subscriptions_of_the_app_s_own_file_are_left_to_it() -> None:
    shop = ShopAnswers()
    api = shop.client(subscriptions="app")
    for report in (await api.check_subscription(URL), await api.repair_subscription(URL)):
        assert report.state is HookState.SOUND
        assert "own file" in report.detail
    assert shop.asked == []


# --- an emulated shop


async def test_a_shop_that_ended_the_subscriptions_is_repaired_and_sends_again() -> None:
    async with (
        receiver() as hub,
        emulator(hub.url, "--skus=3", "--paused", "--fault=disable@0s-600s") as shop,
        client(shop) as api,
    ):
        assert await set_level(shop, "TEE-0001", "WH1", 5) == 0
        report = await api.check_subscription(hub.url)
        assert (report.state, set(report.topics)) == (HookState.MISSING, set(TOPICS))
        assert (await api.repair_subscription(hub.url)).state is HookState.SOUND
        assert await set_level(shop, "TEE-0001", "WH1", 6) == 200
        assert (await api.repair_subscription(hub.url)).state is HookState.SOUND
        assert (await api.check_subscription(hub.url)).state is HookState.SOUND
    assert [event.quantity for event in hub.events if isinstance(event, Level)] == [6]


async def test_subscriptions_at_another_address_do_not_bring_deliveries_back() -> None:
    async with (
        receiver() as hub,
        emulator(hub.url, "--skus=3", "--paused", "--fault=disable@0s-600s") as shop,
        client(shop) as api,
    ):
        assert (await api.repair_subscription(f"{hub.url}/other")).state is HookState.SOUND
        assert await set_level(shop, "TEE-0001", "WH1", 5) == 0
        assert (await api.check_subscription(hub.url)).state is HookState.MISSING


async def test_a_hub_that_fails_eight_deliveries_in_a_row_loses_its_subscriptions() -> None:
    async with (
        receiver() as hub,
        emulator(hub.url, "--skus=3", "--paused", "--tries=1", "--disable-after=8") as shop,
        client(shop) as api,
    ):
        hub.is_failing = True
        for number in range(7):
            await set_level(shop, "TEE-0001", "WH1", number)
        assert (await api.check_subscription(hub.url)).state is HookState.SOUND
        await set_level(shop, "TEE-0001", "WH1", 7)
        assert (await api.check_subscription(hub.url)).state is HookState.MISSING
        hub.is_failing = False
        assert await set_level(shop, "TEE-0001", "WH1", 8) == 0
        assert (await api.repair_subscription(hub.url)).state is HookState.SOUND
        assert await set_level(shop, "TEE-0001", "WH1", 9) == 200


# --- the canary


def found(*skus: str) -> dict[str, Any]:
    nodes = [
        {"id": f"gid://shopify/InventoryItem/{number}", "sku": sku} for number, sku in enumerate(skus, 1)
    ]
    return {"data": {"inventoryItems": {"nodes": nodes}}}


async def test_the_canary_is_looked_for_once_and_changed_each_time() -> None:
    shop = ShopAnswers(found("SYNCHUB-CANARY-2", "SYNCHUB-CANARY"), DONE, DONE)
    api = shop.client()
    assert await api.ask_canary()
    assert await api.ask_canary()
    assert shop.queries == [queries.CANARY_QUERY, queries.CANARY_CHANGE, queries.CANARY_CHANGE]
    assert {asked["id"] for asked in shop.asked[1:]} == {"gid://shopify/InventoryItem/2"}
    assert all(6 <= len(asked["input"]["harmonizedSystemCode"]) <= 13 for asked in shop.asked[1:])
    assert all(set(asked["input"]) == {"harmonizedSystemCode"} for asked in shop.asked[1:])


async def test_a_shop_without_a_canary_is_not_changed() -> None:
    shop = ShopAnswers(found("SYNCHUB-CANARY-2"), found())
    api = shop.client()
    assert not await api.ask_canary()
    assert not await api.ask_canary()


async def test_a_canary_that_cannot_be_changed_is_told_and_looked_for_again() -> None:
    shop = ShopAnswers(found("SYNCHUB-CANARY"), refused(), found())
    api = shop.client()
    with pytest.raises(UpstreamRefused):
        await api.ask_canary()
    assert not await api.ask_canary()


async def test_the_canary_makes_the_shop_send_a_sign_of_life_and_nothing_about_stock() -> None:
    async with receiver() as hub, emulator(hub.url, "--skus=3", "--paused") as shop, client(shop) as api:
        assert await api.ask_canary()
        await hub.has(1)
        assert hub.events == [Heartbeat()]
        assert await api.fetch_levels([CANARY, "variant/278032119674290000"]) == ()
        records, _ = await all_pages(api, "")
        there = await control(shop, "truth")
    skus = {event.sku for event in events_of(records) if isinstance(event, Catalogue)}
    assert skus == set(there["skus"].values()) == {"TEE-0001", "TEE-0002", "TEE-0003"}


async def test_a_shop_that_announces_everything_leaves_the_canary_out() -> None:
    async with receiver() as hub, emulator(hub.url, "--skus=3") as shop:
        await hub.has(6)
        there = await control(shop, "truth")
    assert CANARY not in there["skus"]
    assert "SYNCHUB-CANARY" not in {event.sku for event in hub.events if isinstance(event, Catalogue)}


async def test_an_emulated_shop_need_not_have_a_canary() -> None:
    without = ("--paused", "--credential=canary=none")
    async with emulator("http://127.0.0.1:9/hook", *without) as shop, client(shop) as api:
        assert not await api.ask_canary()
