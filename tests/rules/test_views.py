"""What one asker is shown of an answer, and how it is written down."""

from __future__ import annotations

from typing import Any

import pytest

from synchub.availability.bodies import Told, rfc3339, stock_body
from synchub.availability.model import Pressure, Restock, State
from synchub.availability.rules import disclosed, restock, view, visible_units
from synchub.connector_kit.events import Incoming
from synchub.policies.model import Disclosure, OnStale
from tests.support.answers import AS_OF_MS, POSITION, a_cell, an_answer, some_terms, unknown_sku

NOW_MS = AS_OF_MS + 41
DAY_MS = 86_400_000


def told(answer: Any, **about: Any) -> Told:
    policies = about.pop("terms", some_terms())
    shown = view(answer, policies, now_ms=NOW_MS)
    given: dict[str, Any] = {
        "answer": answer,
        "shown": shown,
        "terms": policies,
        "position": POSITION,
        "checksum": "hmac-sha256:00",
        "asked_at_ms": NOW_MS,
    }
    return Told(**(given | about))


def arriving(quantity: int, days: float) -> Incoming:
    return Incoming(quantity=quantity, expected_at_us=int(AS_OF_MS + days * DAY_MS) * 1000)


class TestWhatIsVisible:
    @pytest.mark.parametrize(
        ("answer", "about", "visible"),
        [
            ({}, {}, 10),
            ({}, {"buffer_units": 3}, 7),
            ({}, {"buffer_units": 11}, 0),
            ({"ref": 101}, {"buffer_bp": 500}, 4),  # 5.05 are 6
            ({"ref": 199}, {"allowance_bp": 100}, 11),  # 1.99 is 1
            ({"lag": 2}, {"lag_units": 3}, 4),
            ({"ats": -2, "ref": 100}, {"allowance_bp": 500}, 3),
            ({}, {"channel_cap": 4}, 4),
            ({}, {"channel_cap": 0}, 0),
            ({"ats": -4}, {}, 0),
        ],
    )
    def test_buffers_are_kept_back_and_allowances_added(
        self, answer: dict[str, Any], about: dict[str, int], visible: int
    ) -> None:
        assert visible_units(an_answer(**answer), some_terms(**about)) == visible

    def test_nine_hundred_of_a_thousand_stay_nine_hundred_as_they_are_sold(self) -> None:
        about = some_terms(buffer_bp=1000)
        assert visible_units(an_answer(ats=1000, ref=1000), about) == 900
        assert visible_units(an_answer(ats=100, ref=1000), about) == 0

    def test_who_does_not_split_shipments_sees_the_best_location(self) -> None:
        places = (a_cell(3, place="WH1"), a_cell(6, held=2, place="WH2"))
        answer = an_answer(ats=7, held=2, cells=places)
        assert visible_units(answer, some_terms()) == 7
        assert visible_units(answer, some_terms(split=False)) == 4

    @pytest.mark.parametrize(
        ("units", "bucket"),
        [
            (0, 0),
            (1, 1),
            (4, 1),
            (5, 5),
            (9, 5),
            (10, 10),
            (49, 10),
            (50, 50),
            (99, 50),
            (100, 100),
            (10**9, 100),
        ],
    )
    def test_a_bucket_is_told_by_its_lower_end(self, units: int, bucket: int) -> None:
        assert disclosed(units, Disclosure.EXACT) == units
        assert disclosed(units, Disclosure.BUCKET) == bucket
        assert disclosed(units, Disclosure.NONE) is None

    def test_a_hidden_number_still_says_whether_it_covers_a_quantity(self) -> None:
        shown = view(an_answer(ats=7), some_terms(disclosure=Disclosure.NONE), now_ms=NOW_MS)
        assert (shown.available, shown.covers(7), shown.covers(8)) == (None, True, False)

    def test_a_backorder_covers_nothing(self) -> None:
        assert not view(an_answer(ats=0, backorder=True), some_terms(), now_ms=NOW_MS).covers(1)

    def test_what_is_assumed_to_be_there_covers_everything(self) -> None:
        shown = view(an_answer(ats=0, stale=True), some_terms(on_stale=OnStale.ASSUME_IN), now_ms=NOW_MS)
        assert (shown.available, shown.covers(10**6)) == (None, True)


class TestWhatAnAgentIsAskedToDo:
    @pytest.mark.parametrize(
        ("answer", "about", "pressure", "retry_after_ms"),
        [
            ({"ats": 5}, {}, Pressure.NONE, 0),
            ({"ats": 4}, {}, Pressure.SLOW_DOWN, 500),
            ({"ats": 40}, {"backpressure_below": 50}, Pressure.SLOW_DOWN, 500),
            ({"ats": 1}, {"backpressure_below": 0}, Pressure.NONE, 0),
            ({"ats": 0, "held": 2}, {}, Pressure.PREFER_ALTERNATIVES, 1000),
            ({"ats": 0}, {}, Pressure.PREFER_ALTERNATIVES, 0),
            ({"discontinued": True}, {}, Pressure.PREFER_ALTERNATIVES, 0),
            ({"ats": 0, "backorder": True}, {}, Pressure.BACKORDER_ONLY, 0),
            ({"ver": 0}, {}, Pressure.NONE, 0),
        ],
    )
    def test_it_is_told_how_hard_to_try(
        self, answer: dict[str, Any], about: dict[str, int], pressure: Pressure, retry_after_ms: int
    ) -> None:
        shown = view(an_answer(**answer), some_terms(**about), now_ms=NOW_MS)
        assert (shown.pressure, shown.retry_after_ms) == (pressure, retry_after_ms)

    @pytest.mark.parametrize(
        ("answer", "age_ms", "ttl_ms"),
        [
            ({}, 0, 2000),
            ({}, 899_000, 1000),
            ({}, 900_000, 0),
            ({}, 901_000, 0),
            ({"degraded": True}, 0, 500),
            ({"degraded": True, "stale": True}, 2_000_000, 500),
            ({"ats": 0, "held": 1}, 0, 500),
            ({"ats": 0, "known": False, "as_of_ms": 0}, 0, 500),
            ({"discontinued": True}, 2_000_000, 2000),
            ({"ver": 0, "known": False, "as_of_ms": 0}, 0, 2000),
        ],
    )
    def test_an_answer_lives_as_long_as_nothing_is_expected_to_happen(
        self, answer: dict[str, Any], age_ms: int, ttl_ms: int
    ) -> None:
        shown = view(an_answer(**answer), some_terms(), now_ms=AS_OF_MS + age_ms, max_age_ms=900_000)
        assert shown.ttl_ms == ttl_ms


class TestWhenItComesBack:
    def test_the_first_arrival_that_leaves_more_than_is_owed_counts(self) -> None:
        incoming = [arriving(4, days=2), arriving(3, days=1)]
        owing = an_answer(ats=-5, backorder=True)
        expected = restock(owing, some_terms(), incoming, now_ms=NOW_MS)
        assert expected == Restock(expected_at_ms=AS_OF_MS + 2 * DAY_MS, units=2)

    def test_what_is_kept_back_is_not_promised(self) -> None:
        careful = some_terms(buffer_units=3)
        assert restock(an_answer(ats=0), careful, [arriving(3, days=1)], now_ms=NOW_MS) is None
        capped = some_terms(channel_cap=0)
        assert restock(an_answer(ats=0), capped, [arriving(3, days=1)], now_ms=NOW_MS) is None

    def test_an_arrival_that_is_due_is_in_the_number_or_late(self) -> None:
        assert restock(an_answer(ats=0), some_terms(), [arriving(9, days=0)], now_ms=NOW_MS) is None

    def test_a_backorder_says_when_and_how_many(self) -> None:
        expected = Restock(expected_at_ms=AS_OF_MS + DAY_MS, units=7)
        body = stock_body(told(an_answer(ats=0, backorder=True), restock=expected))
        assert body["backorder_commitment"] == {"expected_at": "2026-11-22T10:00:00.041Z", "quantity": 7}
        assert body["restock_at"] == "2026-11-22T10:00:00.041Z"

    def test_a_backorder_without_an_arrival_promises_no_day(self) -> None:
        body = stock_body(told(an_answer(ats=0, backorder=True)))
        assert body["backorder_commitment"] == {"expected_at": None, "quantity": None}

    @pytest.mark.parametrize(
        "answer", [{}, {"ats": 0, "backorder": False}, {"discontinued": True}, {"known": False}]
    )
    def test_nothing_is_promised_where_no_backorder_can_be_placed(self, answer: dict[str, Any]) -> None:
        body = stock_body(told(an_answer(**({"backorder": True} | answer))))
        assert body["backorder_commitment"] is None

    def test_a_hidden_number_is_hidden_in_promises_too(self) -> None:
        expected = Restock(expected_at_ms=AS_OF_MS + DAY_MS, units=7)
        hidden = some_terms(disclosure=Disclosure.BUCKET)
        body = stock_body(told(an_answer(ats=0, backorder=True), terms=hidden, restock=expected))
        assert body["backorder_commitment"] == {"expected_at": "2026-11-22T10:00:00.041Z", "quantity": 5}


class TestTheBody:
    def test_it_has_the_documented_fields(self) -> None:
        assert stock_body(told(an_answer())) == {
            "sku": "TEE",
            "state": "IN_STOCK",
            "available": 10,
            "as_of": "2026-11-21T10:00:00.041Z",
            "age_ms": 41,
            "seq": 50,
            "epoch": "one",
            "ver": 3,
            "ttl_ms": 2000,
            "checksum": "hmac-sha256:00",
            "source": "depot",
            "degraded": False,
            "policy": {"version": 0, "on_stale": "answer", "on_unknown": "assume_out", "decided_by": None},
            "backpressure": {"level": "none", "retry_after_ms": 0},
            "fallback_options": [],
            "backorder_commitment": None,
            "waitlist": None,
            "restock_at": None,
        }

    def test_it_says_whether_the_wanted_quantity_is_covered(self) -> None:
        body = stock_body(told(an_answer(), wanted=11))
        assert (body["quantity"], body["covers"]) == (11, False)

    def test_it_names_what_can_be_had_instead(self) -> None:
        body = stock_body(told(an_answer(ats=0), fallbacks=(told(an_answer("TEE-BLUE", ats=2)),)))
        assert body["fallback_options"] == [
            {"sku": "TEE-BLUE", "state": "LOW_STOCK", "available": 2, "checksum": "hmac-sha256:00"}
        ]

    def test_it_says_which_policy_stood_in_for_evidence(self) -> None:
        out = some_terms(version=4, on_stale=OnStale.ASSUME_OUT)
        body = stock_body(told(an_answer(stale=True), terms=out))
        assert body["state"] == State.OUT_OF_STOCK
        assert body["policy"] == {
            "version": 4,
            "on_stale": "assume_out",
            "on_unknown": "assume_out",
            "decided_by": "on_stale",
        }

    def test_without_evidence_there_is_no_age(self) -> None:
        body = stock_body(told(unknown_sku()))
        assert (body["as_of"], body["age_ms"], body["source"]) == (None, None, None)

    def test_an_age_is_never_negative(self) -> None:
        assert stock_body(told(an_answer(), asked_at_ms=0))["age_ms"] == 0

    def test_a_time_has_milliseconds_and_its_zone(self) -> None:
        assert rfc3339(1_795_255_200_007) == "2026-11-21T10:00:00.007Z"
