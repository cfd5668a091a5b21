"""What an order of Shopify takes: open units, references, places and times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

import connectors.shopify
from connectors.shopify import normalize
from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.events import MAX_QUANTITY, OrderLine, OrderStatus, Scale, Version
from synchub.connector_kit.manifest import load_manifest
from synchub.errors import PayloadRefused

ORDER: Final = 820982911946154508
LINE: Final = 866550311766439020
VARIANT: Final = 271878346596990001
UPDATED_US: Final = 1_767_341_046_000_000
MANIFEST: Final = load_manifest(Path(connectors.shopify.__file__).with_name("manifest.toml"))


def line(number: int = LINE, quantity: object = 3, **fields: object) -> dict[str, object]:
    return {"id": number, "variant_id": VARIANT, "quantity": quantity, "properties": []} | fields


def refund(*rows: tuple[int, int, str | None]) -> dict[str, object]:
    return {
        "refund_line_items": [
            {"line_item_id": number, "quantity": units, "restock_type": kind} for number, units, kind in rows
        ]
    }


def shipment(units: int, status: str | None = "success", number: int = LINE) -> dict[str, object]:
    return {"status": status, "line_items": [{"id": number, "quantity": units}]}


def body(*lines: object, **fields: object) -> dict[str, Any]:
    return {
        "id": ORDER,
        "test": False,
        "created_at": "2026-01-02T03:04:05-05:00",
        "processed_at": "2026-01-02T03:04:04-05:00",
        "updated_at": "2026-01-02T03:04:06-05:00",
        "cancelled_at": None,
        "line_items": list(lines) or [line()],
        "refunds": [],
        "fulfillments": [],
    } | fields


def read(content: object, topic: str = "orders/updated") -> tuple[OrderLine, ...]:
    sent = Delivery(account="shop", headers={}, body=json.dumps(content).encode(), arrived_at_us=0)
    events = normalize(topic, sent)
    assert all(isinstance(event, OrderLine) for event in events)
    return tuple(event for event in events if isinstance(event, OrderLine))


def only(content: object, topic: str = "orders/updated") -> OrderLine:
    (event,) = read(content, topic)
    return event


# --- which sale


@pytest.mark.parametrize("topic", ["orders/create", "orders/updated", "orders/cancelled"])
def test_an_order_states_its_lines_under_every_topic_that_carries_it(topic: str) -> None:
    assert only(body(), topic) == OrderLine(
        order=str(ORDER),
        line=str(LINE),
        item=f"variant/{VARIANT}",
        quantity=3,
        status=OrderStatus.PLACED,
        ordered_at_us=1_767_341_044_000_000,
        happened_at_us=UPDATED_US + 999_999,
        version=Version(scale=Scale.TIME, number=UPDATED_US, resolution=1_000_000),
    )


def test_what_is_not_sold_from_a_variant_is_no_sale_of_stock() -> None:
    events = read(body(line(), line(LINE + 1, variant_id=None), {"id": LINE + 2, "quantity": 1}))
    assert [event.line for event in events] == [str(LINE)]


def test_a_test_order_takes_nothing() -> None:
    assert read(body(test=True)) == ()


@pytest.mark.parametrize("test", [None, False])
def test_any_other_order_counts(test: object) -> None:
    assert only(body(test=test)).quantity == 3


# --- how many units


@pytest.mark.parametrize(
    ("kind", "opened"),
    [
        ("cancel", 1),
        ("return", 3),
        ("no_restock", 3),
        ("legacy_restock", 3),
        ("something_new", 3),
        (None, 3),
    ],
)
def test_only_units_that_never_left_are_taken_off(kind: str | None, opened: int) -> None:
    assert only(body(refunds=[refund((LINE, 2, kind))])).quantity == opened


def test_several_refunds_add_up_and_those_of_other_lines_do_not_count() -> None:
    refunds = [refund((LINE, 1, "cancel"), (LINE + 1, 2, "cancel")), refund((LINE, 1, "cancel"))]
    assert only(body(refunds=refunds)).quantity == 1


def test_a_line_never_takes_less_than_nothing() -> None:
    event = only(body(refunds=[refund((LINE, 5, "cancel"))]))
    assert (event.quantity, event.status) == (0, OrderStatus.PLACED)


def test_shipping_takes_nothing_off() -> None:
    assert only(body(fulfillments=[shipment(3)])).quantity == 3


def test_a_current_quantity_that_fell_by_a_return_is_not_believed() -> None:
    assert only(body(line(current_quantity=0, fulfillable_quantity=0))).quantity == 3


def test_a_cancelled_order_takes_nothing() -> None:
    event = only(body(cancelled_at="2026-01-02T03:04:05-05:00"))
    assert (event.quantity, event.status) == (0, OrderStatus.CANCELLED)


@pytest.mark.parametrize(
    ("shipments", "opened"),
    [
        ([shipment(1)], 1),
        ([shipment(1), shipment(1, "pending")], 2),
        ([shipment(1, None)], 1),
        ([shipment(1), shipment(2, "cancelled")], 1),
        ([shipment(9)], 3),
    ],
)
def test_of_a_cancelled_order_what_had_left_stays_sold(shipments: list[object], opened: int) -> None:
    event = only(body(cancelled_at="2026-01-02T03:04:05-05:00", fulfillments=shipments))
    assert (event.quantity, event.status) == (opened, OrderStatus.PLACED)


@pytest.mark.parametrize(
    "shipments", [[shipment(1, "error")], [shipment(1, "failure")], [shipment(1, number=LINE + 1)]]
)
def test_a_shipment_that_did_not_happen_keeps_nothing_sold(shipments: list[object]) -> None:
    event = only(body(cancelled_at="2026-01-02T03:04:05-05:00", fulfillments=shipments))
    assert event.status is OrderStatus.CANCELLED


# --- under which names


def attribute(value: object, name: str = "synchub_reservation") -> dict[str, object]:
    return {"name": name, "value": value}


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"note_attributes": [attribute("k7.1")]}, ("k7.1",)),
        ({"note_attributes": [attribute("k7.1", "_synchub_reservation")]}, ("k7.1",)),
        ({"note_attributes": [attribute("k7.1,k7.2  k7.1")]}, ("k7.1", "k7.2")),
        ({"tags": "vip, synchub_reservation:k7.3,synchub_reservation"}, ("k7.3",)),
        ({"note_attributes": [attribute("k7.1")], "tags": "synchub_reservation:k7.1"}, ("k7.1",)),
        ({"note_attributes": [attribute("k7.1", "reservation")]}, ()),
        ({"note_attributes": None, "tags": None}, ()),
        ({"note_attributes": "synchub_reservation"}, ()),
        ({"note_attributes": ["synchub_reservation", None, {}, {"name": []}, attribute(7)]}, ()),
        ({"note_attributes": [attribute("a\u202eb"), attribute("x" * 129), attribute("")]}, ()),
        ({"reference": "wholesale"}, ()),
    ],
)
def test_only_a_usable_reservation_is_a_reference(fields: dict[str, object], names: tuple[str, ...]) -> None:
    assert only(body(**fields)).references == names


def test_a_line_s_own_property_names_only_that_line() -> None:
    content = body(line(properties=[attribute("k7.2")]), line(LINE + 1), note_attributes=[attribute("k7.1")])
    assert [event.references for event in read(content)] == [("k7.1", "k7.2"), ("k7.1",)]


def test_a_buyer_cannot_write_names_without_end() -> None:
    written = attribute(" ".join(f"k7.{number}" for number in range(1000)))
    assert len(only(body(note_attributes=[written])).references) == 16


# --- where and when


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"source_name": "pos", "location_id": 24826418}, "24826418"),
        ({"source_name": "pos", "location_id": None}, None),
        ({"source_name": "web", "location_id": 24826418}, None),
        ({"location_id": 24826418}, None),
    ],
)
def test_only_an_order_at_a_till_says_where_its_units_lie(
    fields: dict[str, object], location: str | None
) -> None:
    assert only(body(**fields)).location == location


def test_without_a_time_of_processing_the_order_was_placed_when_it_was_created() -> None:
    assert only(body(processed_at=None)).ordered_at_us == 1_767_341_045_000_000


def test_a_finer_time_is_a_finer_version_and_a_closer_bound() -> None:
    event = only(body(updated_at="2026-01-02T08:04:06.250Z"))
    assert event.version == Version(scale=Scale.TIME, number=UPDATED_US + 250_000, resolution=1_000)
    assert event.happened_at_us == UPDATED_US + 250_999


# --- what is refused or of no concern


@pytest.mark.parametrize(
    "fields",
    [
        {"id": 0},
        {"id": "820982911946154508"},
        {"updated_at": None},
        {"updated_at": "2026-01-02T03:04:06"},
        {"created_at": None},
        {"processed_at": "yesterday"},
        {"line_items": None},
        {"line_items": [line(quantity=-1)]},
        {"line_items": [line(quantity="3")]},
        {"line_items": [line(quantity=1.5)]},
        {"line_items": [line(quantity=MAX_QUANTITY + 1)]},
        {"line_items": [line(quantity=True)]},
        {"line_items": [line(variant_id="278032119674290015")]},
        {"line_items": [line(number=2**64)]},
        {"refunds": [refund((LINE, -1, "cancel"))]},
        {"fulfillments": [shipment(-1)]},
        {"test": "false"},
    ],
)
def test_an_order_that_is_not_of_the_documented_form_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(PayloadRefused):
        read(body(**fields))


@pytest.mark.parametrize("missing", ["id", "created_at", "updated_at", "line_items"])
def test_an_order_that_lacks_a_field_is_refused(missing: str) -> None:
    content = body()
    del content[missing]
    with pytest.raises(PayloadRefused, match=missing):
        read(content)


def test_a_subscription_that_leaves_out_what_may_be_absent_is_enough() -> None:
    content = body()
    for name in ("refunds", "fulfillments", "test", "processed_at", "cancelled_at"):
        del content[name]
    assert only(content).quantity == 3


@pytest.mark.parametrize(
    ("topic", "content"),
    [
        ("orders/edited", {"order_edit": {"order_id": ORDER, "line_items": {"additions": []}}}),
        ("refunds/create", {"id": 1, "order_id": ORDER, **refund((LINE, 1, "cancel"))}),
    ],
)
def test_differences_are_accepted_and_left_to_the_order_that_follows(
    topic: str, content: dict[str, object]
) -> None:
    assert read(content, topic) == ()
    with pytest.raises(PayloadRefused):
        read({"id": ORDER}, topic)


def test_an_order_of_a_hundred_lines_is_not_too_large() -> None:
    assert MANIFEST.receive.max_body_bytes >= 100 * 4096
