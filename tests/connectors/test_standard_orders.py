"""Orders and acknowledgements of the generic body, row by row."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from connectors.standard import normalize
from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.events import Ack, OrderLine, OrderStatus, Scale, StockEvent, Version
from synchub.errors import PayloadRefused

TEN_US: Final = 1_795_255_200_000_000
TEN: Final = "2026-11-21T10:00:00Z"


def read(*, timestamp: str | None = TEN, **data: object) -> tuple[StockEvent, ...]:
    content: dict[str, object] = {"type": "stock.changed", "data": data}
    if timestamp is not None:
        content["timestamp"] = timestamp
    text = json.dumps(content).encode()
    return normalize("stock.changed", Delivery(account="a", headers={}, body=text, arrived_at_us=0))


def order(*, timestamp: str | None = TEN, sequence: int | None = None, **fields: object) -> OrderLine:
    row = {"order_id": "O1", "line": 1, "sku": "TEE", "quantity": "2", "status": "placed"} | fields
    (event,) = read(timestamp=timestamp, orders=[row], sequence=sequence)
    assert isinstance(event, OrderLine)
    return event


def ack(**fields: Any) -> Ack:
    (event,) = read(acks=[{"quantity": 1} | fields], sequence=7)
    assert isinstance(event, Ack)
    return event


def test_the_least_of_an_order() -> None:
    assert order(timestamp=None) == OrderLine(
        order="O1", line="1", item="TEE", quantity=2, status=OrderStatus.PLACED
    )


def test_the_time_of_the_delivery_bounds_a_change_and_the_time_of_the_order_does_not() -> None:
    event = order(ordered_at="2026-11-21T09:00:00Z")
    assert event.ordered_at_us == TEN_US - 3_600_000_000
    assert event.happened_at_us == TEN_US + 999_999
    assert order(ordered_at="2026-11-21T09:00:00Z", timestamp=None).happened_at_us is None


def test_the_row_s_own_time_is_the_closer_bound_and_the_version_without_a_sequence() -> None:
    event = order(happened_at="2026-11-21T09:59:59.123Z")
    assert event.happened_at_us == TEN_US - 876_001
    assert event.version == Version(scale=Scale.TIME, number=TEN_US - 877_000, resolution=1_000)


def test_a_sequence_is_the_version_where_there_is_one() -> None:
    event = order(happened_at="2026-11-21T09:59:59Z", sequence=9)
    assert event.version == Version(scale=Scale.SEQUENCE, number=9)


def test_a_cancelled_line_takes_nothing_whatever_its_quantity_says() -> None:
    event = order(status="cancelled", quantity=2)
    assert (event.status, event.quantity) == (OrderStatus.CANCELLED, 0)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ()),
        ({"reference": "k7.1"}, ("k7.1",)),
        ({"references": ["k7.1", "k7.2", "k7.1"]}, ("k7.1", "k7.2")),
        ({"reference": "k7.2", "references": ["k7.1", None]}, ("k7.2", "k7.1")),
        ({"reference": None, "references": []}, ()),
    ],
)
def test_an_order_may_name_the_reservations_that_it_came_from(
    fields: dict[str, Any], names: tuple[str, ...]
) -> None:
    assert order(**fields).references == names


@pytest.mark.parametrize(
    "fields",
    [
        {"quantity": -1},
        {"quantity": None},
        {"quantity": "many"},
        {"status": "cancelled", "quantity": "-1"},
        {"status": "shipped"},
        {"order_id": None},
        {"line": ""},
        {"sku": None},
        {"location_id": " WH1"},
        {"happened_at": "soon"},
        {"ordered_at": "2026-11-21"},
        {"reference": "a\u202eb"},
        {"references": ["r" * 129]},
        {"references": [f"r{number}" for number in range(17)]},
        {"references": None},
    ],
)
def test_an_order_of_another_form_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(PayloadRefused):
        order(**fields)


def test_an_ack_names_its_sale_by_order_and_line_or_by_reference_and_sku() -> None:
    version = Version(scale=Scale.SEQUENCE, number=7)
    assert ack(order_id="O1", line=1) == Ack(quantity=1, order="O1", line="1", version=version)
    assert ack(reference="k7.1", sku="TEE") == Ack(item="TEE", quantity=1, reference="k7.1", version=version)


@pytest.mark.parametrize("units", [-3, "-3", "-3.0"])
def test_a_negative_ack_gives_units_back(units: object) -> None:
    assert ack(order_id="O1", line=1, quantity=units).quantity == -3


def test_an_ack_says_where_and_under_which_key() -> None:
    event = ack(order_id="O1", line=1, location_id="WH2", key="shipment-1/1")
    assert (event.location, event.key) == ("WH2", "shipment-1/1")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"sku": "TEE"},
        {"order_id": "O1"},
        {"line": 1, "sku": "TEE"},
        {"reference": "k7.1"},
        {"order_id": "O1", "reference": "k7.1"},
        {"order_id": "O1", "line": 1, "quantity": None},
        {"order_id": "O1", "line": 1, "quantity": "0.5"},
        {"order_id": "O1", "line": 1, "key": ""},
        {"order_id": "O1", "line": 1, "key": ["a"]},
        {"order_id": "O1", "line": 1, "location_id": ""},
        {"order_id": "O1", "line": 1, "version": -1},
    ],
)
def test_an_ack_of_another_form_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(PayloadRefused):
        ack(**fields)
