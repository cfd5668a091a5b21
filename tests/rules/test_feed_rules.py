"""Where a reader may continue, what it is granted, what it is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from synchub.feed import frames, rules
from synchub.feed.model import (
    Cover,
    FeedQuery,
    Filter,
    Framing,
    Lens,
    Mode,
    ResetReason,
    Resumption,
    Scope,
    SourceState,
    SourceStatus,
    ViewClass,
)
from synchub.stock.model import FeedEntry
from tests.support.answers import POSITION, an_answer, some_terms


def a_view(**changes: Any) -> ViewClass:
    told: dict[str, Any] = {"merchant": "acme", "tier": "standard", "channel": None, "revision": "0.5"}
    return ViewClass(terms_of=lambda _sku: some_terms(), **(told | changes))


VIEW = a_view()


def an_entry(seq: int, previous: int, sku: str = "TEE", **changes: Any) -> FeedEntry:
    return FeedEntry(seq=seq, previous=previous, reported_ms=0, answer=an_answer(sku, seq=seq, **changes))


def a_lens(framing: Framing = Framing.SSE_PLAIN, chosen: Filter | None = None, mode: Mode = Mode.UPD) -> Lens:
    chosen = chosen or Filter()
    return Lens(
        filter=chosen,
        view=VIEW,
        hb_ms=333,
        framing=framing,
        fingerprint=rules.fingerprint(chosen, VIEW, mode),
        mode=mode,
    )


def data_of(frame: bytes) -> Any:
    return json.loads(frame.decode().split("data: ")[1])


def a_query(cursor: str) -> FeedQuery:
    return FeedQuery(filter=Filter(), bound_ms=1000, cursor=cursor)


class TestBounds:
    @pytest.mark.parametrize(
        ("asked", "granted"),
        [(None, 1000), (1, 500), (500, 500), (1999, 1000), (2000, 2000), (10**8, 60_000)],
    )
    def test_the_longest_step_not_above_the_wish_is_granted(self, asked: int | None, granted: int) -> None:
        assert rules.granted_bound(asked, 1000) == granted

    def test_three_heartbeats_fit_into_a_bound(self) -> None:
        assert rules.heartbeat_ms(1000) == 333


class TestCursors:
    def test_a_cursor_reads_as_it_was_written(self) -> None:
        cursor = rules.read_cursor(rules.cursor_text("k7-_x", 1041, "abc"))
        assert cursor is not None
        assert (cursor.epoch, cursor.seq, cursor.fingerprint) == ("k7-_x", 1041, "abc")

    @pytest.mark.parametrize(
        "text", ["x", "a:b", "a:1", "a:1:", ":1:f", "a:-1:f", "a:1.5:f", "a:²:f", "a:" + "9" * 30 + ":f"]
    )
    def test_anything_else_is_no_cursor(self, text: str) -> None:
        assert rules.read_cursor(text) is None

    def test_filter_and_view_are_part_of_a_position(self) -> None:
        marks = {
            rules.fingerprint(Filter(), VIEW),
            rules.fingerprint(Filter(prefix="A"), VIEW),
            rules.fingerprint(Filter(skus=frozenset("A")), VIEW),
            rules.fingerprint(Filter(), a_view(tier="trusted")),
            rules.fingerprint(Filter(), a_view(channel="chat")),
            rules.fingerprint(Filter(), a_view(revision="1.5")),
        }
        assert len(marks) == 6

    def test_the_order_of_names_is_not(self) -> None:
        one, other = (rules.fingerprint(Filter(skus=frozenset(names)), VIEW) for names in ("AB", "BA"))
        assert one == other

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("one:48:f", None),
            ("one:50:f", None),
            ("one:10:f", None),
            ("rubbish", ResetReason.CURSOR),
            ("two:48:f", ResetReason.EPOCH),
            ("one:48:g", ResetReason.FILTER),
            ("one:51:f", ResetReason.AHEAD),
            ("one:9:f", ResetReason.TOO_OLD),
        ],
    )
    def test_a_position_continues_only_within_what_is_kept_of_its_own_history(
        self, text: str, reason: ResetReason | None
    ) -> None:
        assert rules.obstacle(rules.read_cursor(text), mark="f", head=POSITION, oldest=10) is reason

    def test_the_way_to_get_up_to_date_follows_from_the_obstacle(self) -> None:
        assert rules.resumption(a_query(""), None) is Resumption.SNAPSHOT
        assert rules.resumption(a_query("x"), None) is Resumption.REPLAY
        assert rules.resumption(a_query("x"), ResetReason.AHEAD) is Resumption.RESET


class TestLinks:
    def test_entries_that_follow_each_other_are_whole(self) -> None:
        assert rules.broken_link(4, [an_entry(7, 4), an_entry(8, 7)]) is None

    def test_an_entry_after_one_we_never_saw_is_a_gap(self) -> None:
        assert rules.broken_link(4, [an_entry(8, 7)]) is ResetReason.GAP
        assert rules.broken_link(4, [an_entry(5, 4), an_entry(8, 7)]) is ResetReason.GAP

    def test_an_entry_that_skips_what_we_saw_is_another_history(self) -> None:
        assert rules.broken_link(4, [an_entry(8, 3)]) is ResetReason.CONTINUITY


class TestFrames:
    def test_of_each_sku_only_the_last_answer_is_told(self) -> None:
        kept = rules.latest([an_entry(1, 0, ats=3), an_entry(2, 1, "CAP"), an_entry(3, 2, ats=9)])
        assert {sku: answer.ats for sku, answer in kept.items()} == {"TEE": 9, "CAP": 10}

    @pytest.mark.parametrize(
        ("chosen", "expected"),
        [
            (Filter(), {"TEE-1", "TEE-2", "CAP"}),
            (Filter(prefix="TEE-"), {"TEE-1", "TEE-2"}),
            (Filter(skus=frozenset({"CAP", "HAT"})), {"CAP"}),
            (Filter(skus=frozenset({"CAP", "A", "B", "C", "D"})), {"CAP"}),
        ],
    )
    def test_a_filter_lets_through_what_it_names(self, chosen: Filter, expected: set[str]) -> None:
        answers = {sku: an_answer(sku) for sku in ("TEE-1", "TEE-2", "CAP")}
        assert {answer.sku for answer in rules.matching(chosen, answers)} == expected

    def test_what_can_no_longer_be_sold_stands_first(self) -> None:
        answers = [an_answer("A"), an_answer("B", ats=0), an_answer("C", ats=2), an_answer("D", gone=True)]
        text = frames.upd(a_lens(), "one", Cover(4, 7, 99), frames.items(answers, VIEW)).decode()
        data = json.loads(text.split("data: ")[1])
        assert [item["sku"] for item in data["items"]] == ["B", "D", "A", "C"]

    def test_an_update_is_one_event_with_its_position_as_id(self) -> None:
        text = frames.upd(a_lens(), "one", Cover(4, 7, 99), frames.items([an_answer()], VIEW)).decode()
        name, position, data, *rest = text.split("\n")
        assert name == "event: upd"
        assert position == f"id: one:7:{a_lens().fingerprint}"
        assert json.loads(data.removeprefix("data: ")) == {
            "prev": 4,
            "seq": 7,
            "asof": 99,
            "rev": 1,
            "items": [
                {
                    "sku": "TEE",
                    "ver": 3,
                    "state": "IN_STOCK",
                    "available": 10,
                    "as_of": "2026-11-21T10:00:00.041Z",
                    "source": "depot",
                    "degraded": False,
                }
            ],
        }
        assert rest == ["", ""]

    def test_a_sku_with_line_breaks_cannot_forge_a_frame(self) -> None:
        text = frames.upd(a_lens(), "one", Cover(4, 7, 9), frames.items([an_answer("A\n\nevent: bye")], VIEW))
        assert text.count(b"\n\n") == 1
        assert text.count(b"event:") == 2

    def test_a_reset_makes_the_client_forget_its_position(self) -> None:
        text = frames.reset(a_lens(), "two", ResetReason.EPOCH)
        assert text == b'event: reset\nid:\ndata: {"epoch":"two","reason":"epoch"}\n\n'

    def test_a_chunk_holds_exactly_one_frame(self) -> None:
        plain = frames.hb(a_lens(), "one", Cover(4, 4, 99))
        chunk = frames.hb(a_lens(Framing.SSE_CHUNKED), "one", Cover(4, 4, 99))
        size, _, rest = chunk.partition(b"\r\n")
        assert int(size, 16) == len(plain)
        assert rest == plain + b"\r\n"

    def test_a_reader_of_versions_is_told_versions_and_no_items(self) -> None:
        told = data_of(frames.upd(a_lens(mode=Mode.INV), "one", Cover(4, 7, 99), (), [("TEE", 3)]))
        assert (told["inv"], "items" in told) == ([["TEE", 3]], False)
        told = data_of(frames.upd(a_lens(mode=Mode.INV), "one", Cover(4, 7, 99), ()))
        assert told["inv"] == []

    def test_a_frame_says_which_revision_of_its_set_it_is_of(self) -> None:
        lens = a_lens(chosen=Filter(skus=frozenset({"A"}), set_id="fs_1", rev=7))
        cover = Cover(4, 4, 99)
        written = (
            frames.upd(lens, "one", cover, ()),
            frames.hb(lens, "one", cover),
            frames.snap_end(lens, "one", 4, 99, 2, Scope.ADDED),
            frames.changed_set(lens, 1, ["B"]),
        )
        assert [data_of(frame)["rev"] for frame in written] == [7] * 4
        assert data_of(written[2])["parts"] == 2
        assert data_of(written[3])["prev_rev"] == 1

    def test_what_is_told_while_a_set_is_extended_is_no_position(self) -> None:
        cover = Cover(4, 7, 99, is_position=False)
        assert b"id:" not in frames.upd(a_lens(), "one", cover, ())

    def test_a_frame_says_that_nothing_was_verified_for_long(self) -> None:
        assert data_of(frames.hb(a_lens(), "one", Cover(4, 7, 99, is_degraded=True)))["degraded"] is True
        assert "degraded" not in data_of(frames.hb(a_lens(), "one", Cover(4, 7, 99)))


class TestPositionsOfSets:
    def test_another_revision_another_set_and_another_mode_are_other_positions(self) -> None:
        skus = frozenset({"A", "B"})
        chosen = [
            (Filter(skus=skus), Mode.UPD),
            (Filter(skus=skus), Mode.INV),
            (Filter(skus=skus, set_id="fs_1"), Mode.UPD),
            (Filter(skus=skus, set_id="fs_1", rev=2), Mode.UPD),
            (Filter(skus=skus, set_id="fs_2"), Mode.UPD),
        ]
        assert len({rules.fingerprint(one, VIEW, mode) for one, mode in chosen}) == len(chosen)

    def test_an_empty_set_lets_nothing_through(self) -> None:
        empty = Filter(set_id="fs_1")
        assert rules.matching(empty, {"A": an_answer("A")}) == []
        assert not rules.lets_through(empty, "A")
        assert rules.lets_through(Filter(), "A")


class TestSources:
    def state(self, heard_ms: int, wall_ms: int = 100_000) -> SourceState:
        return rules.source_state("depot", heard_ms, max_age_ms=5_000, wall_ms=wall_ms, monotonic_ms=700_000)

    def test_an_account_is_stale_when_it_is_silent_for_longer_than_its_evidence_counts(self) -> None:
        assert self.state(95_000).status is SourceStatus.FRESH
        assert self.state(94_999).status is SourceStatus.STALE
        assert self.state(0) == SourceState(account="depot", asof_ms=None, status=SourceStatus.UNKNOWN)

    def test_its_time_is_one_of_the_clock_of_the_frames(self) -> None:
        assert self.state(99_000).asof_ms == 699_000
        assert self.state(100_500).asof_ms == 700_000

    def test_a_change_of_status_is_told_at_once_and_a_time_only_now_and_then(self) -> None:
        before = {"depot": self.state(96_000)}
        assert rules.moved_sources(before, [self.state(94_000)], also_times=False)
        assert not rules.moved_sources(before, [self.state(99_000)], also_times=False)
        assert rules.moved_sources(before, [self.state(99_000)], also_times=True)
        assert not rules.moved_sources(before, [self.state(96_000)], also_times=True)
        assert rules.moved_sources({}, [self.state(0)], also_times=False)


def test_readers_are_told_that_nothing_was_verified_within_three_seconds() -> None:
    assert not rules.is_degraded(1_000, 3_000)
    assert rules.is_degraded(1_000, 3_001)
    assert rules.DEGRADED_AFTER_MS < 3_000
