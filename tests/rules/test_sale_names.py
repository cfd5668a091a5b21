"""A sale's name survives being shown, copied and sent back, whatever it is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synchub.errors import InvalidRequest
from synchub.keyspace import SEPARATOR
from synchub.stock.model import Lacking, OpenSale
from synchub.stock.sale_names import duration_ms, names_of, shown_name, shown_sale, stored_name

PARTS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1), min_size=1
)


@given(letter=st.sampled_from("olchr"), parts=PARTS)
def test_a_shown_name_leads_back_to_the_stored_one(letter: str, parts: list[str]) -> None:
    name = SEPARATOR.join([letter, *parts])
    assert stored_name(shown_name(name)) == name


def test_a_shown_name_can_be_typed() -> None:
    assert shown_name(SEPARATOR.join(("o", "acme-shop", "10:1", "1", "TÉ E"))) == (
        "order:acme-shop:10%3A1:1:T%C3%89%20E"
    )


@pytest.mark.parametrize("text", ["", "order", "sale:1", "1001", ":x"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        stored_name(text)


def test_an_order_is_looked_for_under_its_surest_name_first() -> None:
    found = [shown_name(name) for name in names_of(sku="TEE", order="1001", line="1", account="shop")]
    assert found == ["order:shop:1001:1:TEE", "line:1001:1:TEE", "number:1001:TEE"]
    assert [shown_name(name) for name in names_of(sku="TEE", order="1001")] == ["number:1001:TEE"]


def test_a_sale_is_told_with_what_each_source_lacks() -> None:
    sale = OpenSale(
        names=(SEPARATOR.join(("h", "k.1", "TEE")),),
        sku="TEE",
        units=3,
        places=(("", 1), ("WH1", 2)),
        origin="",
        hold="k.1",
        age_ms=5,
        lacking=(Lacking(account="wms", item="TEE", place="WH1", units=2),),
    )
    assert shown_sale(sale) == {
        "name": "hold:k.1:TEE",
        "names": ["hold:k.1:TEE"],
        "sku": "TEE",
        "units": 3,
        "account": None,
        "reservation": "k.1",
        "age_ms": 5,
        "places": [{"location": None, "quantity": 1}, {"location": "WH1", "quantity": 2}],
        "pending": [{"account": "wms", "item": "TEE", "location": "WH1", "quantity": 2}],
    }


def test_times_are_read() -> None:
    assert [duration_ms(text, "x") for text in ("0s", "90m", "24h", "7d")] == [
        0,
        5_400_000,
        86_400_000,
        604_800_000,
    ]


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1.5h", "1w", "9999999999s"])
def test_another_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="90m, 24h or 7d"):
        duration_ms(text, "older_than")
