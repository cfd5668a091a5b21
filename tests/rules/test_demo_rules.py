"""Only what can be followed without doubt is measured, and nothing is measured twice."""

from __future__ import annotations

import pytest

from synchub.demo.latency import Latencies
from synchub.demo.model import Heard, Told, Traded, Truth
from synchub.demo.rules import disagreeing, percentile, planned_fault, totals
from synchub.errors import InvalidRequest

SKU = "TEE-0001"


def told(
    previous: int,
    quantity: int,
    at_us: int,
    *,
    account: str = "warehouse",
    sent: bool = True,
    by_order: bool = False,
) -> Told:
    return Told(
        account=account,
        sku=SKU,
        location="L",
        previous=previous,
        quantity=quantity,
        at_us=at_us,
        sent=sent,
        by_order=by_order,
    )


def heard(available: int, at_us: int) -> Heard:
    return Heard(sku=SKU, available=available, at_us=at_us)


def traded(at_us: int) -> Traded:
    return Traded(sku=SKU, at_us=at_us)


def measured(*events: Told | Heard | Traded, total: int = 10) -> tuple[list[float], list[float]]:
    latencies = Latencies({SKU: total})
    latencies.take(events)
    return latencies.by_webhook_ms(), latencies.by_fetch_ms()


def test_a_change_that_is_heard_alone_is_measured() -> None:
    assert measured(heard(10, 1), told(6, 5, 1_000), heard(9, 4_500)) == ([3.5], [])


def test_the_order_in_which_events_are_handed_over_does_not_matter() -> None:
    assert measured(heard(9, 4_500), told(6, 5, 1_000), heard(10, 1)) == ([3.5], [])


def test_two_changes_on_their_way_at_once_are_not_measured() -> None:
    events = (heard(10, 1), told(6, 5, 1_000), told(5, 4, 2_000), heard(8, 3_000))
    assert measured(*events) == ([], [])


def test_after_a_doubt_measuring_goes_on_once_the_agent_knows_the_truth() -> None:
    doubt = (heard(10, 1), told(6, 5, 1_000), told(5, 4, 2_000), heard(8, 3_000))
    assert measured(*doubt, told(4, 3, 10_000), heard(7, 12_000)) == ([2.0], [])


def test_a_change_is_not_measured_while_the_agent_knows_another_number() -> None:
    assert measured(heard(7, 1), told(6, 5, 1_000), heard(9, 2_000)) == ([], [])


def test_a_change_that_was_never_sent_is_not_measured() -> None:
    assert measured(heard(10, 1), told(6, 5, 1_000, sent=False), heard(9, 2_000)) == ([], [])


def test_the_same_number_again_leaves_the_change_open() -> None:
    assert measured(heard(10, 1), told(6, 5, 1_000), heard(10, 1_500), heard(9, 2_000)) == ([1.0], [])


def test_a_rise_without_versions_counts_as_fetched_and_a_fall_does_not() -> None:
    rise = measured(heard(10, 1), told(5, 6, 1_000), heard(11, 3_000))
    fall = measured(heard(10, 1), told(6, 5, 1_000), heard(9, 3_000))
    assert (rise, fall) == (([], [2.0]), ([2.0], []))


def test_what_a_channel_shows_is_neither_measured_nor_counted() -> None:
    shown = told(6, 5, 1_000, account="shop")
    assert measured(heard(10, 1), shown, heard(9, 2_000), told(6, 5, 3_000), heard(9, 4_000)) == ([], [])


def test_a_sku_that_is_traded_is_not_measured_until_its_number_has_moved() -> None:
    during = (heard(10, 1), told(6, 5, 1_000), traded(1_500), heard(9, 2_000))
    before = (heard(10, 1), traded(500), told(6, 5, 1_000), heard(9, 2_000))
    assert measured(*during) == measured(*before) == ([], [])
    assert measured(*before, told(5, 4, 10_000), heard(8, 11_000)) == ([1.0], [])


def test_a_level_that_an_order_has_moved_is_not_measured() -> None:
    assert measured(heard(10, 1), told(6, 5, 1_000, by_order=True), heard(9, 2_000)) == ([], [])


def test_totals_are_the_warehouses_and_disagreement_names_the_skus() -> None:
    truths = [
        Truth(account="warehouse", levels={"A": 1, "B": 2}, locations=("x",), counts={}),
        Truth(account="shop", levels={"A": 3}, locations=("y",), counts={}),
    ]
    assert totals(truths) == {"A": 1, "B": 2}
    assert disagreeing(totals(truths), {"A": 1, "C": 9}) == {"B"}


def test_of_less_than_nothing_an_agent_rightly_knows_nothing() -> None:
    assert disagreeing({"A": -1, "B": -1}, {"A": 0, "B": 1}) == {"B"}


def test_percentiles_are_values_that_occurred() -> None:
    ordered = [float(number) for number in range(1, 101)]
    assert (percentile(ordered, 0.5), percentile(ordered, 0.99), percentile([], 0.5)) == (50, 99, None)
    assert percentile([7.0], 0.99) == 7


def test_a_fault_names_kind_account_and_window() -> None:
    fault = planned_fault("stall:shop@5s-25s")
    assert (fault.kind.value, fault.account, fault.from_s, fault.to_s) == ("stall", "shop", 5, 25)


@pytest.mark.parametrize(
    "text", ["", "stall", "stall:shop", "stall@1s-2s", "stall:shop@2s-1s", "x:shop@1s-2s"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        planned_fault(text)
