"""What an endpoint is told next, what its answer means, when it is tried again."""

from __future__ import annotations

from dataclasses import replace
from email.utils import formatdate
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synchub.errors import InvalidRequest
from synchub.stock.model import Answer
from synchub.subscriptions import rules
from synchub.subscriptions.model import (
    Asked,
    Filter,
    Outcome,
    SealedSecret,
    Spot,
    Standing,
    Status,
    Subscription,
)

NOW: Final = 1_795_255_200_000
DAY: Final = 86_400_000
URL: Final = "https://agent.example.com/stock"


def answer(sku: str, seq: int) -> Answer:
    return Answer(
        sku=sku,
        ver=1,
        seq=seq,
        ats=1,
        held=0,
        known=True,
        gone=False,
        discontinued=False,
        backorder=False,
        as_of_ms=NOW,
        by="depot",
        degraded=False,
        stale=False,
        lag=0,
        ref=0,
        cells=(),
    )


def subscription(*, expires_at_ms: int = NOW + DAY) -> Subscription:
    return Subscription(
        id="sub_1",
        merchant="acme",
        agent="acme-agent",
        key_hash="hash",
        url=URL,
        filter=Filter(),
        channel=None,
        secrets=(),
        created_at_ms=NOW,
        expires_at_ms=expires_at_ms,
    )


STANDING: Final = Standing(spot=Spot(epoch="one", seq=5))


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        [URL, "https://10.0.0.1:8443/x?y=z", "https://[2001:db8::1]/", "https://xn--bcher-kva.example/"],
    )
    def test_an_address_of_the_web_is_taken_as_it_is(self, url: str) -> None:
        assert rules.check_url(url, may_be_plain=False) == url

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "agent.example.com/stock",
            "ftp://agent.example.com/",
            "file:///etc/passwd",
            "gopher://agent.example.com/",
            "http://agent.example.com/stock",
            "https://",
            "https:///stock",
            "https://user:secret@agent.example.com/",
            "https://agent.example.com@10.0.0.1/",
            "https://agent.example.com/#part",
            "https://agent.example.com:0/",
            "https://agent.example.com:99999/",
            "https://agent.example.com/a b",
            "https://agent.example.com\\@10.0.0.1/",
            "https://agent.example.com/\r\nX-Evil: 1",
            "https://bücher.example/",
            "https://[::1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://127.0.0.0x1/",
            "https://1.2.3.4.5/",
            "https://agent.example.com/" + "x" * 2000,
        ],
    )
    def test_anything_else_is_refused(self, url: str) -> None:
        with pytest.raises(InvalidRequest):
            rules.check_url(url, may_be_plain=False)

    def test_without_encryption_only_where_that_is_allowed(self) -> None:
        assert rules.check_url("http://127.0.0.1/", may_be_plain=True)


class TestNextPart:
    def test_what_has_stood_longest_goes_first_and_says_how_far_it_goes(self) -> None:
        changed = {sku: answer(sku, seq) for sku, seq in {"A": 9, "B": 3, "C": 5}.items()}
        part, upto = rules.next_part(changed, 12, 2)
        assert ([one.sku for one in part], upto) == (["B", "C"], 5)

    def test_the_last_part_goes_as_far_as_is_known(self) -> None:
        part, upto = rules.next_part({"A": answer("A", 9)}, 12, 2)
        assert (len(part), upto) == (1, 12)

    def test_skus_that_nobody_reported_stay_together(self) -> None:
        changed = {sku: answer(sku, 0) for sku in "ABC"} | {"D": answer("D", 4)}
        part, upto = rules.next_part(changed, 12, 2)
        assert ([one.sku for one in part], upto) == (["A", "B", "C"], 0)

    @given(
        st.dictionaries(st.text("ABCDEF", min_size=1, max_size=3), st.integers(1, 10_000), min_size=1),
        st.integers(1, 5),
    )
    def test_part_after_part_everything_is_told_once_and_no_position_is_passed_untold(
        self, seqs: dict[str, int], most: int
    ) -> None:
        # Every change has a sequence of its own.
        ordered = sorted(seqs)
        changed = {sku: answer(sku, place + 1) for place, sku in enumerate(ordered)}
        told: list[str] = []
        reach, position = len(ordered) + 3, 0
        while changed:
            part, upto = rules.next_part(changed, reach, most)
            assert 0 < len(part) <= most
            assert upto > position
            position = upto
            told += [one.sku for one in part]
            changed = {sku: one for sku, one in changed.items() if one.seq > upto}
            assert {one.sku for one in part}.isdisjoint(changed)
        assert told == ordered
        assert position == reach


class TestAnswers:
    @pytest.mark.parametrize(
        ("status", "outcome"),
        [
            (200, Outcome.DELIVERED),
            (299, Outcome.DELIVERED),
            (100, Outcome.FAILED),
            (301, Outcome.REDIRECTED),
            (400, Outcome.REFUSED),
            (410, Outcome.GONE),
            (429, Outcome.THROTTLED),
            (500, Outcome.FAILED),
            (503, Outcome.FAILED),
            (600, Outcome.FAILED),
        ],
    )
    def test_only_2xx_is_success(self, status: int, outcome: Outcome) -> None:
        assert rules.outcome_of(status, has_retry_after=False) is outcome

    def test_503_with_a_time_is_a_wish_and_no_failure(self) -> None:
        assert rules.outcome_of(503, has_retry_after=True) is Outcome.THROTTLED

    @pytest.mark.parametrize(
        ("text", "wait_ms"),
        [
            ("7", 7000),
            ("0.5", 500),
            (formatdate(NOW / 1000 + 60, usegmt=True), 60_000),
            (formatdate(NOW / 1000 - 60, usegmt=True), 0),
            ("", 0),
            ("soon", 0),
            ("-5", 0),
            ("nan", 0),
            ("inf", 0),
        ],
    )
    def test_a_wish_to_wait_is_read_as_seconds_or_as_a_date(self, text: str, wait_ms: int) -> None:
        assert rules.retry_after_ms(text, NOW) == wait_ms


class TestPauses:
    @given(st.integers(1, 200), st.integers(0, 10**9), st.floats(0, 1))
    def test_no_pause_is_longer_than_the_longest(self, failures: int, asked_ms: int, chance: float) -> None:
        pause = rules.pause_ms(failures, asked_ms, base_ms=1000, most_ms=60_000, chance=chance)
        assert min(asked_ms, 60_000) <= pause <= 60_000

    def test_the_ceiling_doubles_and_the_jitter_is_full(self) -> None:
        def ceiling(failures: int, chance: float) -> int:
            return rules.pause_ms(failures, 0, base_ms=1000, most_ms=60_000, chance=chance)

        assert [ceiling(number, 1) for number in range(1, 9)] == [
            *(1000, 2000, 4000, 8000, 16_000, 32_000),
            *(60_000, 60_000),
        ]
        assert ceiling(5, 0) == 0

    def test_it_has_failed_too_long_when_nothing_came_through_for_the_whole_span(self) -> None:
        failing = replace(STANDING, failing_since_ms=NOW)
        assert not rules.has_failed_too_long(failing, NOW + 99, 100)
        assert rules.has_failed_too_long(failing, NOW + 100, 100)
        assert not rules.has_failed_too_long(STANDING, NOW, 100)


class TestStatus:
    def test_a_grant_is_over_at_its_end(self) -> None:
        until = subscription(expires_at_ms=NOW)
        assert rules.status_of(until, STANDING, NOW - 1) is Status.ACTIVE
        assert rules.status_of(until, STANDING, NOW) is Status.EXPIRED

    def test_an_end_outlasts_the_grant_and_every_wish(self) -> None:
        ended = replace(STANDING, status=Status.ENDED, asked=Asked(renew="x"))
        assert rules.status_of(subscription(expires_at_ms=NOW), ended, NOW) is Status.ENDED

    def test_a_disabled_one_is_active_as_soon_as_it_is_renewed(self) -> None:
        disabled = replace(STANDING, status=Status.DISABLED)
        assert rules.status_of(subscription(), disabled, NOW) is Status.DISABLED
        asked = replace(disabled, asked=Asked(renew="x"))
        assert rules.status_of(subscription(), asked, NOW) is Status.ACTIVE

    def test_what_is_over_is_kept_for_a_week(self) -> None:
        expired = subscription(expires_at_ms=NOW)
        assert not rules.is_forgotten(expired, STANDING, NOW + 7 * DAY - 1)
        assert rules.is_forgotten(expired, STANDING, NOW + 7 * DAY)
        ended = replace(STANDING, status=Status.ENDED, changed_at_ms=NOW)
        assert rules.is_forgotten(subscription(), ended, NOW + 7 * DAY)
        assert not rules.is_forgotten(
            subscription(expires_at_ms=NOW + 30 * DAY),
            replace(STANDING, status=Status.DISABLED),
            NOW + 8 * DAY,
        )


class TestPositions:
    def test_a_cursor_is_read_as_it_was_written(self) -> None:
        spot = Spot(epoch="B2Hn34Pw9dqFmQNy", seq=1041)
        assert rules.read_cursor(rules.cursor_text(spot)) == spot

    def test_a_cursor_of_the_feed_will_do(self) -> None:
        assert rules.read_cursor("one:41:b0f48b6b5d76b2f6") == Spot(epoch="one", seq=41)

    @pytest.mark.parametrize(
        "text", ["", ":", "one", "one:", "one:x", ":4", "a b:4", "one:-1", "one:" + "9" * 17]
    )
    def test_nothing_else_is_a_cursor(self, text: str) -> None:
        with pytest.raises(InvalidRequest):
            rules.read_cursor(text)

    def test_a_position_before_the_oldest_change_has_lost_some(self) -> None:
        assert rules.is_before(Spot(epoch="one", seq=4), 5)
        assert not rules.is_before(Spot(epoch="one", seq=5), 5)
        assert rules.is_before(Spot(epoch="one", seq=-1), 0)


class TestGrants:
    @pytest.mark.parametrize(
        ("asked_ms", "granted_ms"), [(None, DAY), (2 * DAY, DAY), (DAY // 2, DAY // 2), (1, 60_000)]
    )
    def test_no_more_than_the_limit_is_granted_and_no_less_than_a_minute(
        self, asked_ms: int | None, granted_ms: int
    ) -> None:
        assert rules.granted_ms(asked_ms, DAY) == granted_ms

    def test_the_same_asked_for_twice_has_one_name(self) -> None:
        def named(key: str = "k", url: str = URL, skus: str = "AB", channel: str | None = None) -> str:
            return rules.identity("acme", key, url, Filter(skus=frozenset(skus)), channel)

        names = {named(), named(key="j"), named(url=URL + "2"), named(skus="A"), named(channel="web")}
        assert len(names) == 5
        assert named(skus="AB") == named(skus="BA")

    def test_an_old_secret_signs_beside_the_present_one_until_its_time_is_over(self) -> None:
        secrets = (SealedSecret(ciphertext="new"), SealedSecret(ciphertext="old", until_ms=NOW))
        assert [one.ciphertext for one in rules.signing(secrets, NOW - 1)] == ["new", "old"]
        assert [one.ciphertext for one in rules.signing(secrets, NOW)] == ["new"]

    @pytest.mark.parametrize(
        ("chosen", "sku", "fits"),
        [
            (Filter(), "TEE", True),
            (Filter(prefix="TE"), "TEE", True),
            (Filter(prefix="TE"), "CAP", False),
            (Filter(skus=frozenset({"TEE"})), "TEE", True),
            (Filter(skus=frozenset({"TEE"})), "TEE-1", False),
        ],
    )
    def test_a_filter_lets_through_what_it_names(self, chosen: Filter, sku: str, *, fits: bool) -> None:
        assert rules.matches(chosen, sku) is fits
