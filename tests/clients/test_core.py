"""The rules of a client one by one, in their smallest cases."""

from __future__ import annotations

import math
from typing import Any

import pytest

from synchub_client.anchor import RHO, Anchor, anchor_life_s
from synchub_client.clock import Clock
from synchub_client.core import FeedCore, Link, Verdict
from synchub_client.errors import Stale, Unknown
from synchub_client.frames import Answer, Bye, Frame, Hello, Reset, SetChanged, Snap, SnapEnd, SourceTold, Upd
from synchub_client.held import ASIDE_MAX
from synchub_client.model import Change, ChangeKind, Item, Mode, Source, Watch
from synchub_client.pacing import PAUSE_MAX_S, pause_s

START = 1000.0
ST = 50_000


def item(sku: str = "TEE", ver: int = 1, available: int = 5) -> Item:
    return Item(sku=sku, ver=ver, state="IN_STOCK", available=available)


def hello(epoch: str = "e", *, resume: str = "snapshot", st: int = ST) -> Hello:
    return Hello(epoch=epoch, st=st, hb_ms=333, bound_ms=1000, resume=resume, retry_ms=1000)


def upd(prev: int, seq: int, *items: Item, after_ms: int = 100, **about: Any) -> Upd:
    return Upd(prev=prev, seq=seq, asof=ST + after_ms, items=items, **{"rev": 1, "id": f"e:{seq}:m", **about})


def end(seq: int, *, after_ms: int = 0, **about: Any) -> SnapEnd:
    return SnapEnd(seq=seq, asof=ST + after_ms, **{"rev": 1, "id": f"e:{seq}:m", **about})


class Feed:
    """A core with a connection, at 10 ms after the request unless told otherwise."""

    def __init__(self, **watch: Any) -> None:
        self.core = FeedCore(bound_s=1.0, watch=Watch(**watch))
        self.now = START + 0.01
        self.link = self.core.open(START)

    def take(self, *frames: Frame, link: Link | None = None) -> Verdict:
        verdict = Verdict.GO_ON
        for frame in frames:
            verdict = self.core.accept(link or self.link, frame, self.now)
            if verdict is not Verdict.GO_ON:
                break
        return verdict

    def ready(self, *items: Item, seq: int = 10) -> Feed:
        assert self.take(hello(), Snap(part=0, items=items), end(seq)) is Verdict.GO_ON
        self.core.take_changes()
        self.now = START + 0.2
        return self

    def get(self, sku: str = "TEE") -> Item:
        return self.core.get(sku, self.now)

    def answer(self, told: Item, *, epoch: str = "e", seq: int = 10, took_s: float = 0.0) -> Item | None:
        question = self.core.ask(told.sku, self.now - took_s)
        return self.core.settle(question, Answer(item=told, epoch=epoch, seq=seq), self.now)


class TestSnapshots:
    def test_half_a_snapshot_is_no_state(self) -> None:
        feed = Feed()
        feed.take(hello(), Snap(part=0, items=(item(),)))
        with pytest.raises(Stale, match="nothing is known"):
            feed.get()

    def test_its_end_swaps_it_in(self) -> None:
        assert Feed().ready(item()).get() == item()

    def test_a_missing_part_is_a_gap(self) -> None:
        assert Feed().take(hello(), Snap(part=1, items=())) is Verdict.RECONNECT

    def test_a_missing_last_part_is_a_gap_where_the_hub_counts_them(self) -> None:
        assert Feed().take(hello(), Snap(part=0, items=()), end(3, parts=2)) is Verdict.RECONNECT

    def test_a_missing_end_is_a_gap(self) -> None:
        assert Feed().take(hello(), Snap(part=0, items=()), upd(3, 3)) is Verdict.RECONNECT

    def test_one_that_nobody_announced_is_refused_and_the_position_forgotten(self) -> None:
        feed = Feed().ready(item())
        assert feed.take(Snap(part=0, items=())) is Verdict.RECONNECT
        assert feed.core.cursor == ""

    def test_what_it_no_longer_holds_is_gone(self) -> None:
        feed = Feed().ready(item(), item("CAP"))
        link = feed.core.open(START + 0.1)
        feed.take(hello(), Snap(part=0, items=(item(),)), end(11), link=link)
        with pytest.raises(Unknown):
            feed.get("CAP")
        assert feed.core.take_changes() == [Change(sku="CAP", kind=ChangeKind.REMOVED, item=None)]

    def test_the_first_frame_must_be_hello(self) -> None:
        assert Feed().take(upd(0, 1)) is Verdict.RECONNECT

    def test_a_replay_of_nothing_is_refused(self) -> None:
        assert Feed().take(hello(resume="replay")) is Verdict.RECONNECT


class TestCovers:
    def test_a_frame_that_continues_is_taken(self) -> None:
        feed = Feed().ready(item())
        assert feed.take(upd(10, 12, item(ver=2, available=1))) is Verdict.GO_ON
        assert feed.get().available == 1
        assert feed.core.cursor == "e:12:m"

    def test_a_frame_that_overlaps_is_taken_by_its_versions(self) -> None:
        feed = Feed().ready(item(ver=4, available=4), item("CAP"))
        feed.take(upd(7, 11, item(ver=3, available=3), item("CAP", 2, 9)))
        assert (feed.get().available, feed.get("CAP").available) == (4, 9)

    def test_a_hole_is_seen_and_changes_nothing(self) -> None:
        feed = Feed().ready(item())
        assert feed.take(upd(11, 12, item(ver=2, available=1))) is Verdict.RECONNECT
        assert (feed.get().available, feed.core.cursor) == (5, "e:10:m")
        assert "missing" in feed.link.fault

    def test_a_heartbeat_shows_a_hole_too(self) -> None:
        assert Feed().ready(item()).take(upd(11, 11)) is Verdict.RECONNECT

    def test_a_frame_of_another_history_is_refused_and_the_position_forgotten(self) -> None:
        feed = Feed().ready(item())
        assert feed.take(upd(10, 12, id="other:12:m")) is Verdict.RECONNECT
        assert feed.core.cursor == ""

    def test_a_frame_without_position_leaves_the_cursor(self) -> None:
        feed = Feed().ready(item())
        feed.take(upd(10, 12, id=""))
        assert (feed.core.seq, feed.core.cursor) == (12, "e:10:m")


class TestAge:
    def test_it_counts_from_asof_and_not_from_arrival(self) -> None:
        feed = Feed().ready(item())
        feed.take(upd(10, 10, after_ms=100))
        feed.now = START + 1.05
        assert feed.get() == item()
        feed.now = START + 1.11
        with pytest.raises(Stale) as refused:
            feed.get()
        assert refused.value.age_s == pytest.approx(1.011, abs=1e-3)

    def test_heartbeats_that_verify_nothing_keep_nothing_young(self) -> None:
        feed = Feed().ready(item())
        for tenth in range(2, 13):
            feed.now = START + tenth / 10
            assert feed.take(upd(10, 10, after_ms=100, degraded=tenth > 9)) is Verdict.GO_ON
        with pytest.raises(Stale):
            feed.get()
        assert feed.core.is_degraded

    def test_the_anchor_loses_what_the_clocks_may_drift(self) -> None:
        anchor = Anchor(START, ST)
        assert anchor.moment(ST + 500_000) - START == pytest.approx(500 - 0.1, abs=0.005)

    @pytest.mark.parametrize("elapsed_ms", [-60_000, -500, -1, 0, 1, 500, 600_000])
    @pytest.mark.parametrize("drifts", [(-RHO, RHO), (RHO, -RHO), (0.0, 0.0), (RHO, RHO)])
    @pytest.mark.parametrize("fraction", [0.0, 0.4, 0.999])
    def test_its_moment_is_never_later_than_the_true_one(
        self, elapsed_ms: int, drifts: tuple[float, float], fraction: float
    ) -> None:
        ours, hubs = drifts
        taken_ms, asof_ms = ST + fraction, ST + fraction + elapsed_ms
        true_s = (asof_ms - taken_ms) / 1000 / (1 + hubs)
        anchor = Anchor(START, math.floor(taken_ms))
        # The hub took the request at the very moment at which we sent it.
        assert anchor.moment(math.floor(asof_ms)) <= START + true_s * (1 + ours)

    def test_a_word_about_the_future_is_refused(self) -> None:
        feed = Feed().ready(item())
        assert feed.take(upd(10, 12, item(ver=2), after_ms=5000)) is Verdict.RECONNECT
        assert feed.get().ver == 1

    def test_an_anchor_is_due_before_it_has_lost_a_tenth(self) -> None:
        assert anchor_life_s(1.0) == pytest.approx(500)
        assert Feed().core.anchor_due_at(Link(START, "")) == pytest.approx(START + 500)

    def test_a_slow_answer_to_an_anchor_request_makes_nothing_worse(self) -> None:
        feed = Feed().ready(item())
        before = feed.link.anchor
        feed.core.renew_anchor(feed.link, sent_at=START + 1, st_ms=ST + 3000)
        assert feed.link.anchor is before
        feed.core.renew_anchor(feed.link, sent_at=START + 3, st_ms=ST + 3001)
        assert feed.link.anchor == Anchor(START + 3, ST + 3001)


class TestConnections:
    def test_what_is_held_survives_the_connection_until_the_bound_runs_out(self) -> None:
        feed = Feed().ready(item())
        feed.core.open(START + 0.3)
        feed.now = START + 0.9
        assert feed.get() == item()
        feed.now = START + 1.1
        with pytest.raises(Stale):
            feed.get()

    def test_a_replay_goes_on_where_the_last_connection_ended(self) -> None:
        feed = Feed().ready(item())
        link = feed.core.open(START + 0.1)
        assert link.cursor == "e:10:m"
        # Another process, another clock.
        feed.take(hello(resume="replay", st=7), link=link)
        frame = Upd(prev=10, seq=14, asof=8, rev=1, items=(item(ver=2),), id="e:14:m")
        assert feed.take(frame, link=link) is Verdict.GO_ON
        assert feed.get().ver == 2

    def test_the_old_connection_counts_until_the_new_one_says_hello(self) -> None:
        feed = Feed().ready(item())
        link = feed.core.open(START + 0.1)
        feed.take(upd(10, 12, item(ver=2)))
        assert feed.get().ver == 2
        feed.take(hello(resume="replay"), link=link)
        feed.take(upd(12, 13, item(ver=9)))
        assert feed.get().ver == 2
        assert feed.take(upd(10, 13, item(ver=3)), link=link) is Verdict.GO_ON
        assert feed.get().ver == 3

    def test_another_epoch_drops_everything(self) -> None:
        feed = Feed().ready(item())
        link = feed.core.open(START + 0.1)
        feed.take(hello("f", resume="reset"), link=link)
        with pytest.raises(Stale):
            feed.get()

    def test_a_reset_drops_everything_and_forgets_the_position(self) -> None:
        feed = Feed().ready(item(ver=9))
        feed.take(Reset(epoch="f", reason="epoch"))
        assert feed.core.cursor == ""
        with pytest.raises(Stale):
            feed.get()
        feed.take(Snap(part=0, items=(item(ver=2),)), end(3, id="f:3:m"))
        assert feed.get().ver == 2

    @pytest.mark.parametrize(("reconnect", "verdict"), [(True, Verdict.LEAVE), (False, Verdict.END)])
    def test_a_bye_says_whether_to_come_back(self, reconnect: bool, verdict: Verdict) -> None:
        assert Feed().ready().take(Bye(reason="x", retry_ms=5, reconnect=reconnect)) is verdict


class TestSets:
    def named(self) -> Feed:
        return Feed(skus=frozenset({"TEE", "CAP"})).ready(item(), item("CAP"))

    def test_what_a_set_has_lost_is_gone_at_once(self) -> None:
        feed = self.named()
        feed.take(SetChanged(rev=2, removed=("CAP",)))
        with pytest.raises(Stale):
            feed.get("CAP")
        assert feed.get() == item()

    def test_what_it_has_gained_counts_from_the_end_of_its_snapshot(self) -> None:
        feed = self.named()
        feed.take(SetChanged(rev=2, removed=()), Snap(part=0, items=(item("MUG"),)))
        with pytest.raises(Unknown):
            feed.get("MUG")
        assert feed.take(upd(10, 12, item(ver=2), rev=2, id="")) is Verdict.GO_ON
        assert feed.take(end(12, scope="added", rev=2, parts=1)) is Verdict.GO_ON
        assert (feed.get("MUG").ver, feed.get().ver, feed.core.cursor) == (1, 2, "e:12:m")

    def test_meanwhile_the_position_to_come_back_to_is_the_old_one(self) -> None:
        feed = self.named()
        feed.take(SetChanged(rev=2, removed=()), upd(10, 12, rev=2, id="e:12:new"))
        assert feed.core.cursor == "e:10:m"

    def test_a_frame_for_another_revision_is_a_gap(self) -> None:
        assert self.named().take(upd(10, 12, rev=2)) is Verdict.RECONNECT

    def test_an_old_frame_again_says_nothing(self) -> None:
        feed = self.named()
        feed.take(SetChanged(rev=2, removed=()))
        assert feed.take(upd(10, 12, item(ver=2), rev=1)) is Verdict.GO_ON
        assert (feed.get().ver, feed.core.seq) == (1, 10)

    def test_a_change_of_the_set_that_is_missing_is_a_gap_where_the_hub_says_so(self) -> None:
        assert self.named().take(SetChanged(rev=4, removed=(), prev_rev=3)) is Verdict.RECONNECT

    def test_an_answer_about_an_unconfirmed_sku_is_as_old_as_its_question(self) -> None:
        feed = self.named()
        assert feed.answer(item("MUG", 3)) == item("MUG", 3)
        asked_at = feed.now
        feed.now = START + 1.1
        feed.take(upd(10, 10, after_ms=1050))
        assert feed.get() == item()
        feed.now = asked_at + 1.01
        with pytest.raises(Stale):
            feed.get("MUG")


class TestAnswers:
    def test_an_answer_counts_from_its_question(self) -> None:
        feed = Feed()
        assert feed.answer(item(), took_s=0.9) == item()
        feed.now += 0.2
        with pytest.raises(Stale):
            feed.get()

    def test_the_feed_keeps_an_answer_young_about_what_it_follows(self) -> None:
        feed = Feed().ready()
        assert feed.answer(item("NEW", 4), seq=11) == item("NEW", 4)
        feed.now = START + 2
        feed.take(upd(10, 12, after_ms=1950))
        assert feed.get("NEW").ver == 4

    @pytest.mark.parametrize(
        "about",
        [{"took_s": 1.01}, {"epoch": "f"}, {"seq": 9}],
        ids=["took too long", "another history", "behind our position"],
    )
    def test_an_answer_out_of_date_is_dropped(self, about: dict[str, Any]) -> None:
        feed = Feed().ready(item())
        assert feed.answer(item(ver=2), **about) is None
        assert feed.get().ver == 1

    def test_an_answer_older_than_what_was_told_meanwhile_is_dropped(self) -> None:
        feed = Feed().ready(item())
        question = feed.core.ask("TEE", feed.now)
        feed.take(upd(10, 12, item(ver=3)))
        assert feed.core.settle(question, Answer(item=item(ver=2), epoch="e", seq=12), feed.now) is None
        assert feed.get().ver == 3

    def test_an_answer_to_a_question_from_before_a_reset_is_dropped(self) -> None:
        feed = Feed().ready(item())
        question = feed.core.ask("TEE", feed.now)
        feed.take(Reset(epoch="e", reason="policy"), Snap(part=0, items=()), end(12))
        assert feed.core.settle(question, Answer(item=item(ver=2), epoch="e", seq=12), feed.now) is None

    def test_answers_about_what_is_not_followed_are_bounded(self) -> None:
        feed = Feed(skus=frozenset({"TEE"})).ready(item())
        for number in range(ASIDE_MAX + 5):
            feed.answer(item(f"S{number}"))
        assert feed.get(f"S{ASIDE_MAX + 4}").ver == 1
        with pytest.raises(Unknown):
            feed.get("S0")


class TestInvalidation:
    def test_what_is_invalidated_is_told_no_more(self) -> None:
        feed = Feed().ready(item(ver=2))
        feed.take(upd(10, 12, inv=(("TEE", 3),)))
        with pytest.raises(Stale):
            feed.get()
        assert feed.core.take_changes() == [Change(sku="TEE", kind=ChangeKind.INVALIDATED, item=None)]
        assert feed.answer(item(ver=2), seq=12) is None
        assert feed.answer(item(ver=3), seq=12) == item(ver=3)
        assert feed.get().ver == 3

    def test_the_same_version_may_look_different_to_one_agent(self) -> None:
        feed = Feed().ready(item(ver=2))
        question = feed.core.ask("TEE", feed.now)
        feed.take(upd(10, 12, item(ver=3), inv=(("TEE", 3),)))
        answer = Answer(item=item(ver=3), epoch="e", seq=12)
        assert feed.core.settle(question, answer, feed.now) is None
        assert feed.take(upd(10, 12, item(ver=3))) is Verdict.GO_ON
        with pytest.raises(Stale):
            feed.get()
        assert feed.core.settle(feed.core.ask("TEE", feed.now), answer, feed.now) == item(ver=3)

    def test_an_invalidation_of_what_is_not_held_is_remembered(self) -> None:
        feed = Feed(mode=Mode.INV).ready()
        feed.take(upd(10, 12, inv=(("TEE", 3),)))
        assert feed.answer(item(ver=2), seq=12) is None

    def test_a_feed_of_versions_holds_what_was_asked(self) -> None:
        feed = Feed(mode=Mode.INV, skus=frozenset({"TEE"}))
        feed.core.expect(frozenset({"TEE"}), 1)
        feed.ready()
        with pytest.raises(Stale):
            feed.get()
        feed.answer(item())
        feed.now = START + 2
        feed.take(upd(10, 12, after_ms=1950))
        assert feed.get() == item()

    def test_of_a_set_it_vouches_for_what_the_told_revision_is_known_to_hold(self) -> None:
        feed = Feed(mode=Mode.INV, skus=frozenset({"TEE"})).ready()
        feed.core.expect(frozenset({"TEE", "CAP"}), 2)
        feed.answer(item("CAP"))
        feed.now = START + 1
        feed.take(SetChanged(rev=2, removed=()), upd(10, 12, after_ms=950, rev=2, id=""))
        feed.take(end(12, scope="added", rev=2))
        feed.answer(item(), seq=12)
        feed.now = START + 3
        feed.take(upd(12, 12, after_ms=2950, rev=2))
        assert feed.get() == item()
        feed.take(SetChanged(rev=3, removed=("TEE",)))
        feed.answer(item(), seq=12)
        feed.now = START + 5
        feed.take(upd(12, 12, after_ms=4950, rev=3))
        with pytest.raises(Stale):
            feed.get()


def test_nothing_held_is_unknown_only_while_that_is_certain() -> None:
    feed = Feed().ready(item())
    with pytest.raises(Unknown):
        feed.get("NONE")
    feed.now = START + 5
    with pytest.raises(Stale):
        feed.get("NONE")


def test_sources_are_remembered() -> None:
    feed = Feed().ready()
    depot = Source(account="depot", status="stale", asof=4)
    feed.take(SourceTold(source=depot))
    assert feed.core.sources == {"depot": depot}


def test_everything_followed_is_listed_only_while_it_is_fresh() -> None:
    feed = Feed().ready(item())
    assert feed.core.items(feed.now) == {"TEE": item()}
    assert feed.core.items(feed.now + 2) == {}


def test_the_clock_adds_what_the_wall_clock_has_gained_and_takes_nothing_back() -> None:
    steady, wall = [10.0], [500.0]
    clock = Clock(lambda: steady[0], lambda: wall[0])
    steady[0], wall[0] = 11.0, 501.01
    assert clock() == 11.0
    wall[0] += 60
    assert clock() == pytest.approx(71.0)
    assert clock.jumps == 1
    wall[0] -= 3600
    assert clock() == pytest.approx(71.0)


def test_pauses_are_drawn_from_all_of_a_growing_span() -> None:
    assert pause_s(0, retry_ms=1000, chance=0.0) == 0
    assert pause_s(0, retry_ms=1000, chance=0.999) == pytest.approx(0.999)
    assert pause_s(3, retry_ms=1000, chance=0.5) == 4
    assert pause_s(40, retry_ms=1000, chance=1.0) == PAUSE_MAX_S
    assert pause_s(0, retry_ms=1000, chance=0.5, at_least_s=5) == 5.5
