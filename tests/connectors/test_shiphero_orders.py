"""What ShipHero says about orders: only an allocation acknowledges, only its end takes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

import connectors.shiphero
from connectors.shiphero import normalize
from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.events import Ack, StockEvent, Tickle
from synchub.connector_kit.manifest import load_manifest
from synchub.errors import PayloadRefused

ALLOCATED: Final = "Order Allocated"
DEALLOCATED: Final = "Order Deallocated"
CANCELED: Final = "Order Canceled"
SHIPPED: Final = "Shipment Update"
WAREHOUSE: Final = "76733"
SHOP_ORDER: Final = "820982911946154508"
MANIFEST: Final = load_manifest(Path(connectors.shiphero.__file__).with_name("manifest.toml"))


def line(number: object = 55, quantity: object = 2, **fields: object) -> dict[str, object]:
    return {"id": number, "partner_line_item_id": "L1", "sku": "TEE-RED-M", "quantity": quantity} | fields


def body(*lines: object, **fields: object) -> dict[str, Any]:
    return {
        "allocation_reference": 362137624,
        "warehouse_id": 76733,
        "order_id": 204159062,
        "partner_order_id": SHOP_ORDER,
        "line_items": list(lines) or [line()],
    } | fields


def read(topic: str, content: object) -> tuple[StockEvent, ...]:
    text = json.dumps(content).encode()
    return normalize(topic, Delivery(account="wms", headers={}, body=text, arrived_at_us=0))


def ack(quantity: int = 2, number: int = 55, **fields: Any) -> Ack:
    known: dict[str, Any] = {
        "item": "TEE-RED-M",
        "location": WAREHOUSE,
        "order": SHOP_ORDER,
        "line": "L1",
        "reference": SHOP_ORDER,
        "key": f"362137624/{number}",
        "batch": "362137624",
    }
    return Ack(quantity=quantity, **(known | fields))


READ: Final = Tickle(item="TEE-RED-M", location=WAREHOUSE)


def test_an_allocation_acknowledges_each_line_and_asks_for_a_read_of_each_sku() -> None:
    events = read(ALLOCATED, body(line(), line(56, 1, partner_line_item_id="L2")))
    assert events == (ack(), ack(1, 56, line="L2"), READ)


def test_a_number_may_be_written_as_text() -> None:
    assert read(ALLOCATED, body(line(quantity="2.0")))[0] == ack()


@pytest.mark.parametrize("given", [None, ""])
def test_an_order_made_in_shiphero_goes_by_its_own_number(given: object) -> None:
    told = read(ALLOCATED, body(line(partner_line_item_id=given), partner_order_id=given))
    assert told == (ack(order="204159062", reference="204159062", line=None), READ)


def test_one_allocation_told_twice_has_one_key_and_two_allocations_have_two() -> None:
    again = body() | {"allocated_at": "2026-01-02T03:05:00"}
    other = body(allocation_reference=362137625)
    first, second, third = (read(ALLOCATED, one)[0] for one in (body(), again, other))
    assert isinstance(first, Ack)
    assert isinstance(third, Ack)
    assert first == second
    assert first.key != third.key


def test_an_allocation_of_nothing_says_nothing() -> None:
    assert read(ALLOCATED, body() | {"line_items": []}) == ()


def test_the_end_of_an_allocation_takes_back_what_was_acknowledged_under_it() -> None:
    (event,) = read(DEALLOCATED, body())
    key = "deallocated/362137624"
    assert event == Ack(quantity=None, order=SHOP_ORDER, reference=SHOP_ORDER, key=key, batch="362137624")


def test_a_cancelled_order_takes_back_all_of_it() -> None:
    (event,) = read(CANCELED, body())
    assert event == Ack(quantity=None, order=SHOP_ORDER, reference=SHOP_ORDER, key="canceled/204159062")


def test_a_shipment_says_nothing_because_its_units_were_off_the_level_before() -> None:
    assert read(SHIPPED, {"fulfillment": {"shipment_id": 1, "line_items": [line()]}}) == ()


def test_what_lowers_the_reported_number_is_what_acknowledges() -> None:
    assert MANIFEST.reports.lowered_by == "order allocation"
    acknowledging = {topic for topic, offer in MANIFEST.topics.items() if "ack" in offer.emits}
    assert acknowledging == {ALLOCATED, DEALLOCATED, CANCELED}
    assert MANIFEST.evidence.offers == ("ref", "lag")


@pytest.mark.parametrize(
    ("topic", "fields"),
    [
        (ALLOCATED, {"allocation_reference": None}),
        (ALLOCATED, {"warehouse_id": None}),
        (ALLOCATED, {"order_id": [], "partner_order_id": None}),
        (ALLOCATED, {"partner_order_id": []}),
        (ALLOCATED, {"partner_order_id": "a\u202eb"}),
        (ALLOCATED, {"line_items": None}),
        (ALLOCATED, {"line_items": [line(quantity=-1)]}),
        (ALLOCATED, {"line_items": [line(quantity="0.5")]}),
        (ALLOCATED, {"line_items": [line(quantity=None)]}),
        (ALLOCATED, {"line_items": [line(quantity=True)]}),
        (ALLOCATED, {"line_items": [line(sku=None)]}),
        (ALLOCATED, {"line_items": [line(number=None)]}),
        (ALLOCATED, {"line_items": [line(partner_line_item_id={})]}),
        (DEALLOCATED, {"allocation_reference": {}}),
        (CANCELED, {"order_id": None}),
        (CANCELED, {"partner_order_id": {}}),
    ],
)
def test_whatever_is_not_documented_is_refused(topic: str, fields: dict[str, object]) -> None:
    with pytest.raises(PayloadRefused):
        read(topic, body() | fields)


@pytest.mark.parametrize("content", [{}, {"fulfillment": None}, {"fulfillment": {}}])
def test_a_shipment_of_another_form_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(PayloadRefused):
        read(SHIPPED, content)
