"""What the counts of a pair say, and what is stored of a choice."""

from __future__ import annotations

import pytest

from synchub.accounts.evidence_rules import Measured, Stored, Way, measured_of, stored_of, text_of


def test_nothing_measured_says_nothing() -> None:
    assert measured_of({}) == Measured()
    assert measured_of({"late": 2}) == Measured(late=2)


def test_of_a_thousand_sales_the_slowest_one_does_not_count() -> None:
    assert measured_of({"40": 999, "60": 1}) == Measured(sales=1000, lag_ms=1024)
    assert measured_of({"40": 998, "60": 2, "late": 1}) == Measured(sales=1000, lag_ms=32_768, late=1)


def test_steps_are_numbers_and_not_texts() -> None:
    assert measured_of({"8": 1, "40": 1}).lag_ms == 1024


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("never", Stored(way=Way.NEVER)),
        ("lag|50", Stored(way=Way.LAG, lag_ms=50)),
        ("lag|50|7", Stored(way=Way.LAG, lag_ms=50, suspended_ms=7)),
        ("lag|50|7|9", Stored(way=Way.LAG, lag_ms=50)),
    ],
)
def test_a_stored_choice_is_read(text: str, stored: Stored) -> None:
    assert stored_of(text) == stored


def test_only_times_and_never_are_stored() -> None:
    assert [text_of(way, 5) for way in Way] == [None, None, "lag|5", "never"]
