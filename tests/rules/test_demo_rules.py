"""Only what can be followed without doubt is measured, and nothing is measured twice."""

from __future__ import annotations

import pytest

from synchub.demo.latency import Latencies
from synchub.demo.model import Heard, Told, Truth
from synchub.demo.rules import disagreeing, percentile, planned_fault, totals
from synchub.errors import InvalidRequest

SKU = "TEE-0001"


def told(
    previous: int, quantity: int, at_us: int, *, account: str = "marketplace", sent: bool = True
) -> Told:
    return Told(
        account=account,
        sku=SKU,
        location="L",
        previous=previous,
        quantity=quantity,
        at_us=at_us,
        sent=sent,
    )


def heard(available: int, at_us: int) -> Heard:
    return Heard(sku=SKU, available=available, at_us=at_us)


def measured(*events: Told | Heard, total: int = 10) -> tuple[list[float], list[float]]:
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
    assert measured(*doubt, told(4, 5, 10_000), heard(9, 12_000)) == ([2.0], [])


def test_a_change_is_not_measured_while_the_agent_knows_another_number() -> None:
    assert measured(heard(7, 1), told(6, 5, 1_000), heard(9, 2_000)) == ([], [])


def test_a_change_that_was_never_sent_is_not_measured() -> None:
    assert measured(heard(10, 1), told(6, 5, 1_000, sent=False), heard(9, 2_000)) == ([], [])


def test_the_same_number_again_leaves_the_change_open() -> None:
    assert measured(heard(10, 1), told(6, 5, 1_000), heard(10, 1_500), heard(9, 2_000)) == ([1.0], [])


def test_a_rise_without_versions_counts_as_fetched_and_a_fall_does_not() -> None:
    rise = measured(heard(10, 1), told(5, 6, 1_000, account="warehouse"), heard(11, 3_000))
    fall = measured(heard(10, 1), told(6, 5, 1_000, account="warehouse"), heard(9, 3_000))
    assert (rise, fall) == (([], [2.0]), ([2.0], []))


def test_a_rise_within_the_same_second_of_a_coarse_clock_counts_as_fetched() -> None:
    tie = (told(6, 5, 1_000, account="shop"), heard(9, 2_000), told(5, 6, 500_000, account="shop"))
    later = (told(6, 5, 1_000, account="shop"), heard(9, 2_000), told(5, 6, 1_500_000, account="shop"))
    assert measured(heard(10, 1), *tie, heard(10, 501_000)) == ([1.0], [1.0])
    assert measured(heard(10, 1), *later, heard(10, 1_501_000)) == ([1.0, 1.0], [])


def test_totals_add_up_and_disagreement_names_the_skus() -> None:
    truths = [
        Truth(levels={"A": 1, "B": 2}, locations=("x",), counts={}),
        Truth(levels={"A": 3}, locations=("y",), counts={}),
    ]
    assert totals(truths) == {"A": 4, "B": 2}
    assert disagreeing(totals(truths), {"A": 4, "C": 9}) == {"B"}


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
