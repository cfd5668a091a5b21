"""Reading Shopify's changes page by page: from prepared answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import connectors.shopify
from connectors.shopify import normalize, queries, read_quota
from connectors.shopify.addresses import global_id
from connectors.shopify.cursors import OVERLAP_S
from synchub.connector_kit.contract import Quota
from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.http import HttpAnswer
from synchub.connector_kit.manifest import load_manifest
from synchub.errors import CursorRefused, UpstreamFailed, UpstreamRefused
from tests.support.shopify import ShopAnswers, as_json, events_of

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER: Final = Path(connectors.shopify.__file__).parent
MANIFEST: Final = load_manifest(FOLDER / "manifest.toml")
SINCE_S: Final = 1_778_065_200
DATE: Final = "Wed, 06 May 2026 11:10:00 GMT"
DATE_S: Final = 1_778_065_800
TOO_DEAR: Final = {"errors": [{"message": "Query cost", "extensions": {"code": "MAX_COST_EXCEEDED"}}]}

WHOLE_ORDERS: Final = {
    path.stem: path.read_bytes()
    for path in sorted((FOLDER / "fixtures").glob("orders__*.json"))
    if path.name.count(".") == 1 and not path.name.startswith("orders__edited")
}


def connection(*nodes: object, end: str | None = None, more: bool = False) -> dict[str, Any]:
    return {"nodes": list(nodes), "pageInfo": {"hasNextPage": more, "endCursor": end}}


def items(*nodes: object, **page: Any) -> dict[str, Any]:
    return {"data": {"inventoryItems": connection(*nodes, **page)}}


def orders(*nodes: object, **page: Any) -> dict[str, Any]:
    return {"data": {"orders": connection(*nodes, **page)}}


def places(*nodes: object, **page: Any) -> dict[str, Any]:
    return {"data": {"locations": connection(*nodes, **page)}}


def place(number: int, *levels: object, **page: Any) -> dict[str, Any]:
    return {"id": global_id("Location", str(number)), "inventoryLevels": connection(*levels, **page)}


def level(item: int, quantity: int = 5, at: str = "2026-05-06T11:08:09Z") -> dict[str, Any]:
    return {
        "item": {"id": global_id("InventoryItem", str(item)), "sku": f"TEE-{item}", "tracked": True},
        "isActive": True,
        "updatedAt": at,
        "quantities": [{"name": "available", "quantity": quantity}],
    }


def cursor(**fields: object) -> str:
    known = {"form": 1, "since_s": SINCE_S, "begun_s": DATE_S}
    return json.dumps(known | fields)


# --- where a search begins and ends


async def test_a_search_goes_through_items_orders_and_levels_and_the_next_begins_where_it_began() -> None:
    shop = ShopAnswers(items(), orders(), places(place(1)), date=DATE)
    api = shop.client()
    begin = api.cursor_at(SINCE_S * 1000)
    first = await api.fetch_page(begin)
    second = await api.fetch_page(first.cursor)
    third = await api.fetch_page(second.cursor)
    assert [page.is_last for page in (first, second, third)] == [False, False, True]
    assert shop.queries == [queries.ITEMS_QUERY, queries.ORDERS_QUERY, queries.LOCATIONS_QUERY]
    since = json.loads(third.cursor)["since_s"]
    assert DATE_S - OVERLAP_S - 30 <= since < DATE_S - OVERLAP_S


def test_the_overlap_is_the_manifest_s() -> None:
    assert MANIFEST.polling is not None
    assert MANIFEST.polling.overlap_s == OVERLAP_S


async def test_where_the_platform_tells_no_time_ours_before_the_call_is_taken() -> None:
    shop = ShopAnswers(items())
    page = await shop.client().fetch_page("")
    assert json.loads(page.cursor)["begun_s"] > SINCE_S


async def test_without_a_time_everything_there_is_is_read_of_orders_what_is_open() -> None:
    shop = ShopAnswers(items(), orders(), places(), date=DATE)
    api, at = shop.client(), ""
    for _ in range(3):
        at = (await api.fetch_page(at)).cursor
    assert [asked["query"] for asked in shop.asked] == [None, "status:open", None]


async def test_a_location_with_more_than_its_share_is_read_on_before_the_next_ones() -> None:
    shop = ShopAnswers(
        places(place(1, level(1), end="L1", more=True), place(2, level(2)), end="P2", more=True),
        {"data": {"location": place(1, level(3), end="L2", more=True)}},
        {"data": {"location": place(1, level(4))}},
        places(place(3, level(5))),
    )
    api, at, found, is_last = shop.client(), cursor(stage="levels"), [], False
    while not is_last:
        page = await api.fetch_page(at)
        found += [record.key.split("/")[1:3] for record in page.records]
        at, is_last = page.cursor, page.is_last
    assert found == [["1", "1"], ["2", "2"], ["3", "1"], ["4", "1"], ["5", "3"]]
    assert [asked.get("after") for asked in shop.asked] == [None, "L1", "L2", "P2"]


async def test_a_location_that_was_deleted_between_its_pages_is_left() -> None:
    shop = ShopAnswers({"data": {"location": None}})
    rests = [{"location": global_id("Location", "1"), "after": "L1"}]
    page = await shop.client().fetch_page(cursor(stage="levels", rests=rests, are_places_done=True))
    assert (page.records, page.is_last) == ((), True)


async def test_an_end_that_is_the_beginning_again_ends_the_stage() -> None:
    shop = ShopAnswers(orders(end="same", more=True))
    page = await shop.client().fetch_page(cursor(stage="orders", after="same"))
    assert json.loads(page.cursor)["stage"] == "levels"


@pytest.mark.parametrize(
    "text",
    [
        cursor(form=2),
        cursor(stage="returns"),
        json.dumps({"form": 1, "stage": "orders"}),
        json.dumps({"form": 1, "since_s": -1}),
        json.dumps({"form": 1, "since_s": 10**30}),
        cursor(after="x" * 4096),
    ],
)
async def test_a_cursor_of_another_form_is_refused_without_a_call(text: str) -> None:
    shop = ShopAnswers()
    with pytest.raises(CursorRefused):
        await shop.client().fetch_page(text)
    assert shop.asked == []


async def test_ends_too_long_to_keep_are_a_failure() -> None:
    shop = ShopAnswers(items(end="x" * 5000, more=True))
    with pytest.raises(UpstreamFailed):
        await shop.client().fetch_page("")


# --- what it costs


def test_no_query_costs_more_than_one_may() -> None:
    shown = {
        "items": queries.items_cost(100),
        "orders": queries.orders_cost(16),
        "locations": queries.locations_cost(10),
        "location": queries.location_cost(250),
        "lines": queries.lines_cost(250),
        "fetch_levels": queries.levels_cost(25, 10),
    }
    assert all(cost <= 1000 for cost in shown.values()), shown
    assert shown["fetch_levels"] == 975


def test_the_documents_show_as_many_as_their_costs_count() -> None:
    assert f"lineItems(first: {queries.LINES_SHOWN})" in queries.ORDERS_QUERY
    assert f"refunds(first: {queries.REFUNDS_SHOWN})" in queries.ORDERS_QUERY
    assert f"refundLineItems(first: {queries.REFUND_LINES_SHOWN})" in queries.ORDERS_QUERY
    assert f"locations(first: {queries.LOCATIONS_SHOWN}," in queries.LOCATIONS_QUERY
    assert f"refunds(first: {queries.PARTS_MAX})" in queries.ORDER_PARTS_QUERY


async def test_each_call_says_what_it_costs_at_most() -> None:
    shop = ShopAnswers(items(), orders(), places(), {"data": {"nodes": []}})
    api, at = shop.client(), ""
    for _ in range(3):
        at = (await api.fetch_page(at)).cursor
    await api.fetch_levels(["1", "2"])
    assert shop.costs == [
        queries.items_cost(100),
        queries.orders_cost(16),
        queries.locations_cost(10),
        queries.levels_cost(2, 10),
    ]


async def test_where_there_may_be_little_less_is_reserved() -> None:
    shop = ShopAnswers(items(end="I1", more=True), items(), orders(end="O1", more=True), orders())
    api = shop.client()
    at = api.cursor_at(SINCE_S * 1000)
    for _ in range(4):
        at = (await api.fetch_page(at)).cursor
    assert [asked["first"] for asked in shop.asked] == [25, 100, 5, 16]


async def test_a_page_that_is_too_dear_is_asked_for_in_halves_and_stays_small() -> None:
    shop = ShopAnswers(TOO_DEAR, TOO_DEAR, items(end="I1", more=True), items())
    api = shop.client()
    page = await api.fetch_page("")
    await api.fetch_page(page.cursor)
    assert [asked["first"] for asked in shop.asked] == [100, 50, 25, 25]
    assert shop.costs[2] == queries.items_cost(25)


async def test_what_is_too_dear_one_by_one_is_refused() -> None:
    shop = ShopAnswers(*[TOO_DEAR] * 20)
    with pytest.raises(UpstreamRefused):
        await shop.client().fetch_page("")
    assert shop.asked[-1]["first"] == 1


def answered(body: bytes) -> Quota | None:
    return read_quota(HttpAnswer(status=200, headers={}, body=body))


def status(**fields: object) -> dict[str, Any]:
    known = {"maximumAvailable": 2000.0, "currentlyAvailable": 1984, "restoreRate": 100.0}
    return {"extensions": {"cost": {"throttleStatus": known | fields}}}


def test_an_answer_says_how_many_points_are_left() -> None:
    wanted = Quota(remaining=1984.0, capacity=2000.0, restored_per_s=100.0)
    assert answered(as_json({"data": {}} | status())) == wanted
    assert answered(as_json(status() | {"data": {}})) == wanted


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Busy</html>",
        as_json({"data": {"sku": '"throttleStatus":{"currentlyAvailable":9}'}}),
        as_json(status(currentlyAvailable=None)),
        as_json(status(restoreRate=0)),
        as_json(status(maximumAvailable="many")),
        b'{"throttleStatus":{"currentlyAvailable":1e999,"maximumAvailable":1,"restoreRate":1}}',
        b'{"throttleStatus":{"currentlyAvailable":1',
    ],
)
def test_an_answer_that_does_not_say_so_readably_says_nothing(body: bytes) -> None:
    assert answered(body) is None


# --- what is read


async def test_equal_times_are_told_apart_by_what_they_are_about_and_by_what_they_say() -> None:
    rows = [level(1, 5), level(2, 5), level(1, 4)]
    shop = ShopAnswers(places(place(1, *rows)), places(place(1, *rows)))
    once = await shop.client().fetch_page(cursor(stage="levels"))
    again = await shop.client().fetch_page(cursor(stage="levels"))
    assert len({record.key for record in once.records}) == 3
    assert once.records == again.records


async def test_one_bad_row_is_left_out_and_told() -> None:
    bad = level(2) | {"quantities": []}
    page = (
        await ShopAnswers(places(place(1, level(1), bad, level(3))))
        .client()
        .fetch_page(cursor(stage="levels"))
    )
    assert [record.key.split("/")[1] for record in page.records] == ["1", "3"]
    assert page.refused == ("One changed level cannot be used: A level has no available quantity.",)


async def test_an_order_of_many_lines_is_read_whole() -> None:
    lines = [
        {"id": global_id("LineItem", str(number)), "quantity": 1, "customAttributes": []}
        | {"variant": {"id": global_id("ProductVariant", "42")}}
        for number in range(1, 301)
    ]
    head = graphql_order(json.loads(WHOLE_ORDERS["orders__updated__edited"])) | {
        "cancelledAt": None,
        "refunds": [],
    }
    head["lineItems"] = connection(*lines[:10], end="10", more=True)
    shop = ShopAnswers(
        orders(head),
        {"data": {"node": {"parts": connection(*lines[10:260], end="260", more=True)}}},
        {"data": {"node": {"parts": connection(*lines[260:])}}},
    )
    page = await shop.client().fetch_page(cursor(stage="orders"))
    assert len(events_of(page.records)) == 300
    assert [asked.get("after") for asked in shop.asked] == [None, "10", "260"]


async def test_an_order_that_was_deleted_while_it_was_read_is_left_out() -> None:
    head = graphql_order(json.loads(WHOLE_ORDERS["orders__cancelled__before_shipping"]))
    shop = ShopAnswers(orders(head), {"data": {"node": None}})
    page = await shop.client().fetch_page(cursor(stage="orders"))
    assert (page.records, page.refused) == ((), ())


def graphql_order(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a webhook's order as the API shows it, by the two documents side by side."""
    place_id = body.get("location_id")
    return {
        "id": global_id("Order", str(body["id"])),
        "test": bool(body.get("test")),
        "createdAt": body["created_at"],
        "updatedAt": body["updated_at"],
        "processedAt": body.get("processed_at"),
        "cancelledAt": body.get("cancelled_at"),
        "sourceName": body.get("source_name"),
        "tags": [tag.strip() for tag in (body.get("tags") or "").split(",") if tag.strip()],
        "retailLocation": {"id": global_id("Location", str(place_id))} if place_id else None,
        "customAttributes": graphql_attributes(body.get("note_attributes") or []),
        "lineItems": connection(
            *(
                {
                    "id": global_id("LineItem", str(line["id"])),
                    "quantity": line["quantity"],
                    "variant": graphql_variant(line),
                    "customAttributes": graphql_attributes(line.get("properties") or []),
                }
                for line in body["line_items"]
            )
        ),
        "refunds": [
            {"refundLineItems": connection(*(refunded(row) for row in refund["refund_line_items"]))}
            for refund in body.get("refunds", [])[:2]
        ],
    }


def graphql_variant(line: Mapping[str, Any]) -> dict[str, str] | None:
    number = line.get("variant_id")
    return {"id": global_id("ProductVariant", str(number))} if number else None


def graphql_attributes(rows: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"key": row["name"], "value": row["value"]} for row in rows]


def refunded(row: Mapping[str, Any]) -> dict[str, Any]:
    line = {"id": global_id("LineItem", str(row["line_item_id"]))}
    return {"quantity": row["quantity"], "restockType": row["restock_type"].upper(), "lineItem": line}


def further_answers(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the API tells of the order's refunds and shipments one by one."""
    refunds, shipments = body.get("refunds", []), body.get("fulfillments", [])
    if len(refunds) < queries.REFUNDS_SHOWN and not body.get("cancelled_at"):
        return []
    parts = {
        "refunds": [{"id": global_id("Refund", str(refund["id"]))} for refund in refunds],
        "fulfillments": [
            {"id": global_id("Fulfillment", str(shipment["id"])), "status": shipment["status"].upper()}
            for shipment in shipments
        ],
    }
    answers = [parts, *({"parts": connection(*map(refunded, one["refund_line_items"]))} for one in refunds)]
    if body.get("cancelled_at"):
        answers += [{"parts": connection(*map(shipped, one["line_items"]))} for one in shipments]
    return [{"data": {"node": answer}} for answer in answers]


def shipped(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"quantity": row["quantity"], "lineItem": {"id": global_id("LineItem", str(row["id"]))}}


@pytest.mark.parametrize("name", WHOLE_ORDERS)
async def test_an_order_found_by_a_search_says_what_its_webhook_says(name: str) -> None:
    body = json.loads(WHOLE_ORDERS[name])
    sent = Delivery(account="shop", headers={}, body=WHOLE_ORDERS[name], arrived_at_us=0)
    shop = ShopAnswers(orders(graphql_order(body)), *further_answers(body))
    page = await shop.client().fetch_page(cursor(stage="orders"))
    assert events_of(page.records) == list(normalize("orders/updated", sent))
    assert shop.answers == []
