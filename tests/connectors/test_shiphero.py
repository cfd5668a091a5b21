"""ShipHero beyond what every connector must do: its numbers, its credits, its emulator."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import AsyncMock

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import connectors.shiphero
from connectors.shiphero import Client, normalize, verify
from connectors.shiphero.levels import MAX_PAGES
from synchub.connector_kit.contract import Access
from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.events import Level, LevelStatus, StockEvent, Tickle
from synchub.connector_kit.http import AiohttpPlatformHttp, HttpAnswer
from synchub.connector_kit.manifest import load_manifest
from synchub.errors import (
    PayloadRefused,
    SignatureRefused,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamThrottled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET: Final = "sh_secret"
TOKEN: Final = "eyJ0eXAiOiJKV1QifQ.secret.token"
UPDATE: Final = "Inventory Update"
CHANGE: Final = "Inventory Change"
WH1: Final = "76733"
WH2: Final = "76734"
MANIFEST: Final = load_manifest(Path(connectors.shiphero.__file__).with_name("manifest.toml"))


def delivery(body: object, **headers: str) -> Delivery:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Delivery(account="wms", headers=named, body=text, arrived_at_us=0)


def row(sku: object = "TEE-RED-M", **here: object) -> dict[str, object]:
    warehouse: dict[str, object] = {"warehouse_id": 76733, "inventory": "13", "sell_ahead": 0}
    return {"sku": sku, "inventory": "113", "sell_ahead": 20, "updated_warehouse": warehouse | here}


def update(*rows: object) -> Delivery:
    return delivery({"webhook_type": UPDATE, "account_id": 63898, "inventory": list(rows)})


def known(quantity: int, *, sku: str = "TEE-RED-M", location: str = WH1) -> Level:
    return Level(item=sku, location=location, quantity=quantity)


# --- who sent it


def test_the_signature_of_a_recorded_body_is_accepted_under_any_active_secret() -> None:
    body = (
        b'{"account_id":1,"account_uuid":"QWNjb3VudDox","webhook_type":"Inventory Update","inventory":['
        b'{"sku":"A1","inventory":"3","backorder_quantity":"0","on_hand":"5","virtual":false,"sell_ahead":0,'
        b'"qty_in_totes":0,"reserve":0,"updated_warehouse":{"warehouse_id":9,"warehouse_uuid":"V2FyZWhvdXNlOjk=",'
        b'"identifier":"Primary","inventory":"3","backorder_quantity":"0","on_hand":"5","sell_ahead":0,'
        b'"qty_in_totes":0,"reserve":0,"non_sellable":0},"non_sellable":0}]}'
    )
    signature = "QqoSDxB+b5+mZanz6g1YXMuFSC2idmKb7j1npOKDMhE="
    verify(delivery(body, x_shiphero_hmac_sha256=signature), ["old", SECRET], now_ms=0)


@pytest.mark.parametrize(
    "signature", ["", "=", "nonsense", "ü", "QqoSDxB+b5+mZanz6g1YXMuFSC2idmKb7j1npOKDMhF="]
)
def test_a_missing_or_malformed_signature_is_refused(signature: str) -> None:
    with pytest.raises(SignatureRefused):
        verify(delivery(b"{}", x_shiphero_hmac_sha256=signature), [SECRET], now_ms=0)


# --- which delivery it is


def test_equal_bytes_under_two_message_ids_are_two_facts() -> None:
    body = {"webhook_type": UPDATE, "inventory": []}
    first, second = delivery(body, x_shiphero_message_id="1"), delivery(body, x_shiphero_message_id="2")
    assert MANIFEST.dedupe_id(first) != MANIFEST.dedupe_id(second)


def test_one_message_id_is_one_delivery() -> None:
    first, second = (
        delivery({"a": 1}, x_shiphero_message_id="1"),
        delivery({"a": 2}, x_shiphero_message_id="1"),
    )
    assert MANIFEST.dedupe_id(first) == MANIFEST.dedupe_id(second)


def test_a_delivery_without_message_id_is_known_by_its_topic_and_bytes() -> None:
    first, again, other = update(row()), update(row()), update(row(inventory="12"))
    assert MANIFEST.dedupe_id(first) == MANIFEST.dedupe_id(again) != MANIFEST.dedupe_id(other)


def test_the_topic_is_read_from_the_body() -> None:
    assert MANIFEST.topic_of(delivery({"webhook_type": CHANGE})) == CHANGE


def test_the_answer_is_the_json_that_shiphero_reads() -> None:
    answer = MANIFEST.answer
    assert answer.content_type == "application/json"
    assert json.loads(answer.body) == {"code": "200", "Status": "Success", "Message": "Success"}


# --- what it says


def test_the_level_is_the_warehouses_own_number_and_never_the_accounts_total() -> None:
    assert normalize(UPDATE, update(row(inventory="13"))) == (known(13),)


@pytest.mark.parametrize(
    ("inventory", "sell_ahead", "expected"),
    [
        ("13", 0, 13),
        ("13", 10, 3),
        ("10", 10, 0),
        ("4", 10, -6),
        ("-2", 0, -2),
        (13, "10", 3),
        ("13.0", 1, 12),
    ],
)
def test_sell_ahead_is_taken_out_of_the_level(inventory: object, sell_ahead: object, expected: int) -> None:
    events = normalize(UPDATE, update(row(inventory=inventory, sell_ahead=sell_ahead)))
    assert events == (known(expected),)


@pytest.mark.parametrize("missing", ["inventory", "sell_ahead"])
def test_a_null_makes_the_level_unknown_and_never_zero(missing: str) -> None:
    (event,) = normalize(UPDATE, update(row(**{missing: None})))
    assert event == Level(item="TEE-RED-M", location=WH1, quantity=None, status=LevelStatus.UNKNOWN)


def test_every_row_gives_a_level_in_the_order_of_the_delivery() -> None:
    events = normalize(UPDATE, update(row("B", inventory="2"), row("A", inventory="1", warehouse_id=76734)))
    assert events == (known(2, sku="B"), known(1, sku="A", location=WH2))


def test_a_virtual_row_is_read_like_any_other() -> None:
    assert normalize(UPDATE, update(row() | {"virtual": True})) == (known(13),)


def test_no_level_claims_a_version() -> None:
    (event,) = normalize(UPDATE, update(row()))
    assert isinstance(event, Level)
    assert (event.version, event.source_time_us) == (None, None)


def test_a_change_in_a_bin_asks_for_a_read_and_is_never_counted() -> None:
    body = {
        "sku": "TEE-RED-M",
        "warehouse_id": 76733,
        "quantity": 8,
        "old_quantity": 10,
        "previous_on_hand": 110,
    }
    assert normalize(CHANGE, delivery(body)) == (Tickle(item="TEE-RED-M", location=WH1),)


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("Order Canceled", {"inventory": []}),
        ("", {"inventory": []}),
        (UPDATE, {}),
        (UPDATE, {"inventory": None}),
        (UPDATE, {"inventory": [{"sku": "A", "inventory": "3"}]}),
        (UPDATE, {"inventory": [row(inventory="many")]}),
        (UPDATE, {"inventory": [row(inventory="1.5")]}),
        (UPDATE, {"inventory": [row(inventory=True)]}),
        (UPDATE, {"inventory": [row(inventory="9" * 18)]}),
        (UPDATE, {"inventory": [row(inventory="-1000000000000", sell_ahead=1)]}),
        (UPDATE, {"inventory": [row(warehouse_id=None)]}),
        (UPDATE, {"inventory": [row(sku=None)]}),
        (UPDATE, {"inventory": [row(sku=" A")]}),
        (UPDATE, {"inventory": [row(), row(sku="")]}),
        (CHANGE, {"warehouse_id": 76733}),
        (CHANGE, {"sku": "A"}),
        (CHANGE, []),
    ],
)
def test_whatever_is_not_documented_is_refused_as_a_whole(topic: str, body: object) -> None:
    with pytest.raises(PayloadRefused):
        normalize(topic, delivery(body))


# --- reading over GraphQL


def node(sku: str = "A", warehouse: object = 76733, **numbers: object) -> dict[str, object]:
    known_numbers = {"on_hand": 48, "allocated": 20, "reserve_inventory": 25}
    return {"sku": sku, "warehouse": {"legacy_id": warehouse}, **(known_numbers | numbers)}


def listing(*nodes: Mapping[str, object], cursor: str | None = None) -> dict[str, object]:
    page = {"hasNextPage": cursor is not None, "endCursor": cursor}
    return {"complexity": 2, "data": {"pageInfo": page, "edges": [{"node": one} for one in nodes]}}


def problem(**fields: object) -> dict[str, object]:
    return {
        "data": {"l0": None},
        "errors": [{"message": "Something happened", "request_id": "5da7"} | fields],
    }


@dataclass
class ShipHero:
    """Stands in for the API: gives its answers in turn and remembers what it was asked."""

    answers: list[web.Response]
    asked: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        self.tokens.append(request.headers.get("authorization", ""))
        return self.answers.pop(0)

    async def fetch(self, *items: str, **credentials: str) -> tuple[StockEvent, ...]:
        app = web.Application()
        app.router.add_post("/graphql", self.answer)
        async with TestServer(app) as server, aiohttp.ClientSession(trust_env=False) as session:
            given = {"access_token": TOKEN, "api_url": str(server.make_url("/graphql"))} | credentials
            access = Access(http=AiohttpPlatformHttp(session), credentials=given)
            return await Client(access).fetch_levels(items)


def says(answer: object, status: int = 200, **headers: str) -> web.Response:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(text=text, status=status, headers=named)


async def fetch(*items: str, answer: object) -> tuple[StockEvent, ...]:
    response = answer if isinstance(answer, web.Response) else says(answer)
    return await ShipHero([response]).fetch(*items)


async def test_a_read_level_is_on_hand_less_allocated_less_reserve() -> None:
    events = await fetch("A", answer={"data": {"l0": listing(node())}})
    assert events == (known(3, sku="A"),)


async def test_several_skus_are_read_in_one_request_without_their_names_in_its_text() -> None:
    shiphero = ShipHero([says({"data": {"l0": listing(node("A")), "l1": listing(node('B"}'))}})])
    events = await shiphero.fetch("A", 'B"}', customer_account_id="Q3VzdG9tZXI6MQ==")
    assert events == (known(3, sku="A"), known(3, sku='B"}'))
    (asked,) = shiphero.asked
    assert asked["variables"] == {"customer": "Q3VzdG9tZXI6MQ==", "s0": "A", "s1": 'B"}'}
    assert 'B"}' not in asked["query"]
    assert asked["query"].count("warehouse_products(") == 2
    assert shiphero.tokens == [f"Bearer {TOKEN}"]


async def test_a_sku_in_many_warehouses_is_read_page_by_page() -> None:
    first = {"l0": listing(node("A", 1), cursor="c1"), "l1": listing(node("B", 1))}
    shiphero = ShipHero([says({"data": first}), says({"data": {"l0": listing(node("A", "2"))}})])
    events = await shiphero.fetch("A", "B")
    assert events == tuple(known(3, sku=sku, location=at) for sku, at in (("A", "1"), ("B", "1"), ("A", "2")))
    assert shiphero.asked[1]["variables"] == {"s0": "A", "a0": "c1"}


async def test_pages_without_end_fail_instead_of_leaving_warehouses_out() -> None:
    pages = [says({"data": {"l0": listing(node("A", page), cursor=f"c{page}")}}) for page in range(MAX_PAGES)]
    with pytest.raises(UpstreamFailed):
        await ShipHero(pages).fetch("A")


async def test_nothing_to_read_makes_no_request() -> None:
    shiphero = ShipHero([])
    assert await shiphero.fetch() == ()
    assert shiphero.asked == []


async def test_reads_go_to_the_public_api_unless_told_otherwise() -> None:
    http = AsyncMock(spec=AiohttpPlatformHttp)
    http.send.return_value = HttpAnswer(
        status=200, headers={}, body=json.dumps({"data": {"l0": listing()}}).encode()
    )
    await Client(Access(http=http, credentials={"access_token": TOKEN})).fetch_levels(["A"])
    assert http.send.await_args.args == ("POST", "https://public-api.shiphero.com/graphql")


@pytest.mark.parametrize("missing", ["on_hand", "allocated", "reserve_inventory"])
async def test_a_null_in_a_read_makes_the_level_unknown(missing: str) -> None:
    (event,) = await fetch("A", answer={"data": {"l0": listing(node() | {missing: None})}})
    assert event == Level(item="A", location=WH1, quantity=None, status=LevelStatus.UNKNOWN)


@pytest.mark.parametrize("second", [listing(), None], ids=["an empty list", "null with error code 5"])
async def test_a_sku_that_shiphero_does_not_know_is_absent_and_spoils_nothing(
    second: dict[str, object] | None,
) -> None:
    answer: dict[str, object] = {"data": {"l0": listing(node()), "l1": second}}
    if second is None:
        answer["errors"] = [{"message": "Product not found", "field": "l1", "code": 5}]
    assert await fetch("A", "B", answer=answer) == (known(3, sku="A"),)


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"code": 30, "time_remaining": "7 seconds"}, 7),
        ({"code": 30, "time_remaining": "1 minutes, 7 seconds"}, 67),
        ({"extensions": {"code": 30, "time_remaining": "12 seconds"}}, 12),
        ({"code": 30}, 10),
        ({"code": 30, "time_remaining": "soon"}, 10),
        ({"code": 30, "time_remaining": "900000 seconds"}, 300),
    ],
)
async def test_too_few_credits_are_a_throttle_although_the_status_is_200(
    fields: dict[str, object], seconds: int
) -> None:
    with pytest.raises(UpstreamThrottled) as refused:
        await fetch("A", answer=problem(**fields))
    assert refused.value.retry_after_s == seconds


async def test_too_many_requests_are_a_throttle() -> None:
    with pytest.raises(UpstreamThrottled) as refused:
        await fetch("A", answer=says("", 429, Retry_After="9"))
    assert refused.value.retry_after_s == 9


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_needs_the_merchant(status: int) -> None:
    with pytest.raises(UpstreamRefused):
        await fetch("A", answer=says({"message": "Unauthorized"}, status))


@pytest.mark.parametrize("message", ["Token has expired", "Not authorized", "Missing scope products:read"])
async def test_a_refusal_with_status_200_needs_the_merchant_too(message: str) -> None:
    with pytest.raises(UpstreamRefused):
        await fetch("A", answer=problem(message=message))


async def test_an_account_without_token_is_refused_before_any_request() -> None:
    shiphero = ShipHero([])
    with pytest.raises(UpstreamRefused):
        await shiphero.fetch("A", access_token="")
    assert shiphero.asked == []


async def test_one_sku_twice_in_one_warehouse_is_refused_because_a_3pl_token_mixes_merchants() -> None:
    with pytest.raises(UpstreamRefused, match="customer_account_id"):
        await fetch("A", answer={"data": {"l0": listing(node(), node(on_hand=1))}})


async def test_one_sku_of_two_merchants_is_refused_in_different_warehouses_too() -> None:
    rows = (node(account_id="QWNjb3VudDox"), node(warehouse=76734, account_id="QWNjb3VudDoy"))
    with pytest.raises(UpstreamRefused, match="customer_account_id"):
        await fetch("A", answer={"data": {"l0": listing(*rows)}})


async def test_a_problem_with_the_quota_is_no_problem_of_the_read() -> None:
    trouble = {"message": "Missing required scope(s)", "field": "user_quota", "code": 7}
    answer = {"data": {"l0": listing(node()), "user_quota": None}, "errors": [trouble]}
    assert await fetch("A", answer=answer) == (known(3, sku="A"),)


async def test_a_problem_with_the_quota_does_not_make_a_sku_unknown() -> None:
    trouble = {"message": "Missing required scope(s)", "field": "user_quota", "code": 7}
    with pytest.raises(UpstreamFailed):
        await fetch("A", answer={"data": {"l0": None}, "errors": [trouble]})


async def test_a_page_that_ends_where_it_began_fails() -> None:
    pages = [says({"data": {"l0": listing(node("A", page), cursor="c")}}) for page in range(2)]
    with pytest.raises(UpstreamFailed):
        await ShipHero(pages).fetch("A")


@pytest.mark.parametrize(
    "answer",
    [
        "<html><body>Maintenance</body></html>",
        "",
        "[]",
        '{"data":{"l0":',
        "{}",
        {"data": None},
        {"data": {}},
        {"data": {"l0": None}},
        {"data": {"l0": {"data": None}}},
        {"data": {"l0": listing({"sku": "A"})}},
        {"data": {"l0": listing(node(on_hand="many"))}},
        {"data": {"l0": listing(node(warehouse=None))}},
        {"errors": [{"message": "Unexpected Error", "code": 1}]},
        {"errors": "broken"},
    ],
)
async def test_html_half_an_answer_or_another_form_is_a_failure_of_the_platform(answer: object) -> None:
    with pytest.raises(UpstreamFailed):
        await fetch("A", answer=answer)


@pytest.mark.parametrize("status", [302, 500, 503])
async def test_another_status_is_a_failure_of_the_platform(status: int) -> None:
    with pytest.raises(UpstreamFailed):
        await fetch("A", answer=says("<html></html>", status))


async def test_no_failure_repeats_the_token_or_the_platforms_words() -> None:
    with pytest.raises(UpstreamRefused) as refused:
        await fetch("A", answer=problem(message=f"The token {TOKEN} may not read A"))
    assert TOKEN not in f"{refused.value!r} {refused.value.detail}"
