"""No answer is older than its bound, and each rule that makes it so is needed.

The client's core runs through simulated hours in which links stall, lose and repeat
frames, stores stall and fail over with a loss, clocks drift, sets change and answers
come late. What is true is kept outside of it. Then every rule is switched off, alone,
and the same judge must notice.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from synchub_client.core import FeedCore
from synchub_client.held import Entry, Held
from tests.clients.driver import CALM, STEADY, Faults, Run
from tests.clients.world import DRIFT, Process, Truth

if TYPE_CHECKING:
    from synchub_client.anchor import Anchor
    from synchub_client.core import Link, Verdict
    from synchub_client.frames import Answer, Upd
    from synchub_client.held import Question
    from synchub_client.model import Item

ALL_OF_THEM = Faults(set_change=0)

MANNERS: dict[str, dict[str, Any]] = {
    "a set that changes": {},
    "everything": {"faults": ALL_OF_THEM},
    "a store that fails over and over": {"faults": replace(ALL_OF_THEM, fail_over=30)},
    "versions only": {"faults": ALL_OF_THEM, "thin": True},
    "versions of a set that changes": {"thin": True},
    "long connections": {"faults": STEADY, "by_message": True},
    "clocks far apart": {"faults": STEADY, "by_message": True, "drifts": (-DRIFT, DRIFT)},
}


def test_no_answer_in_a_hundred_thousand_is_older_than_its_bound() -> None:
    served = read_through = 0
    for seed, manner in enumerate(MANNERS.values()):
        tally = Run(seed, **manner).go(hours=3)
        assert tally.too_old == [], seed
        served += tally.served
        read_through += tally.read_through
    assert served >= 100_000
    assert read_through >= 10_000


def test_a_connection_lasts_for_many_hours_under_faults_and_stays_within_the_bound() -> None:
    tally = Run(5, faults=STEADY, by_message=True).go(hours=10)
    assert tally.too_old == []
    assert tally.longest_s > 9 * 3600
    assert tally.served > 50_000


@pytest.mark.parametrize("by_message", [True, False])
def test_over_a_perfect_link_nothing_is_ever_refused(by_message: bool) -> None:
    tally = Run(0, faults=CALM, by_message=by_message).go(hours=5)
    assert (tally.refused, tally.too_old) == (0, [])
    assert tally.served > 30_000


def test_without_a_new_anchor_a_perfect_link_ends_in_refusals() -> None:
    class NeverAnchorsAnew(FeedCore):
        def anchor_due_at(self, link: Link) -> float:
            del link
            return math.inf

    run = Run(0, faults=CALM, core=NeverAnchorsAnew, drifts=(0.0, 0.0), asks=False)
    run.go(hours=84 / 60)
    assert run.tally.served > 0
    before = run.tally.served
    run.agenda.run(run.agenda.now + 3600)
    assert run.tally.served == before
    assert run.tally.refused > 5000


# What a client could do instead, each a little nearer to what most clients do.


class TakesArrivalForFreshness(FeedCore):
    """Any traffic says that all is well."""

    def _moment(self, anchor: Anchor, asof_ms: int, now: float) -> float:
        del anchor, asof_ms
        return now


class IgnoresGaps(FeedCore):
    def _continues(self, frame: Upd) -> bool:
        del frame
        return self.is_complete


class BelievesAnyHeartbeat(FeedCore):
    """Looks at ``prev`` of changes only, as if heartbeats had none."""

    def _continues(self, frame: Upd) -> bool:
        return self.is_complete if not frame.items and not frame.inv else super()._continues(frame)


class KeepsWhatASetHasLost(FeedCore):
    def _leave_out(self, skus: tuple[str, ...]) -> None:
        del skus


class VouchesForTheUnconfirmed(FeedCore):
    """Lets ``asof`` speak for answers about SKUs that the feed has not confirmed."""

    def __init__(self, **choices: Any) -> None:
        super().__init__(**choices)
        self._held = _VouchedFor()


class _VouchedFor(Held):
    def look(self, sku: str, complete_at: float) -> tuple[Item | None, float]:
        item, known_at = super().look(sku, complete_at)
        return item, max(known_at, complete_at)


class TrustsClocks(FeedCore):
    """Takes the hub's seconds for its own."""

    def _moment(self, anchor: Anchor, asof_ms: int, now: float) -> float:
        return min(now, anchor.sent_at + (asof_ms - anchor.st_ms) / 1000)


class KeepsTheFirstAnchor(FeedCore):
    """Compares the times of one process with those of another."""

    _first: Anchor | None = None

    def _moment(self, anchor: Anchor, asof_ms: int, now: float) -> float:
        self._first = self._first or anchor
        return min(now, self._first.moment(asof_ms))


class CountsAnswersFromTheirArrival(FeedCore):
    def settle(self, question: Question, answer: Answer, now: float) -> Item | None:
        return super().settle(replace(question, sent_at=now), answer, now)


class KeepsAnswersThatWereOvertaken(FeedCore):
    """Does not look whether something newer was told while it asked."""

    def __init__(self, **choices: Any) -> None:
        super().__init__(**choices)
        self._held = _Overwritten()

    def settle(self, question: Question, answer: Answer, now: float) -> Item | None:
        return super().settle(question, replace(answer, seq=max(answer.seq, self.seq)), now)


class _Overwritten(Held):
    def add_answer(self, item: Item, question: Question, *, is_followed: bool, old_before: float) -> bool:
        if self.awaits(item.sku):
            self._followed[item.sku] = Entry(item, item.ver, question.sent_at)
            return True
        return super().add_answer(item, question, is_followed=is_followed, old_before=old_before)


class HearsNoInvalidation(FeedCore):
    def _updated(self, link: Link, anchor: Anchor, frame: Upd, now: float) -> Verdict:
        return super()._updated(link, anchor, replace(frame, inv=()), now)


class RemembersAnotherHistory(FeedCore):
    """Keeps what it holds when the history has changed its name."""

    def _drop_all(self, epoch: str) -> None:
        self.epoch, self.cursor = epoch, ""

    def settle(self, question: Question, answer: Answer, now: float) -> Item | None:
        return super().settle(question, replace(answer, epoch=self.epoch), now)


@pytest.mark.parametrize(
    ("core", "manner"),
    [
        (TakesArrivalForFreshness, "everything"),
        (IgnoresGaps, "everything"),
        (BelievesAnyHeartbeat, "everything"),
        (KeepsWhatASetHasLost, "a set that changes"),
        (VouchesForTheUnconfirmed, "a set that changes"),
        (TrustsClocks, "clocks far apart"),
        (KeepsTheFirstAnchor, "everything"),
        (CountsAnswersFromTheirArrival, "everything"),
        (KeepsAnswersThatWereOvertaken, "versions only"),
        (HearsNoInvalidation, "versions only"),
        (RemembersAnotherHistory, "everything"),
    ],
)
def test_a_client_without_the_rule_answers_too_late(core: type[FeedCore], manner: str) -> None:
    assert first_failure(manner, core=core)


# What a hub could do instead.


class PongIsProof(Process):
    """The store still says PONG, so it moves ``asof``."""

    def while_stalled(self) -> None:
        self.asof = self.clock.ms(self.world.agenda.now)


class CutIsComplete(Process):
    """Takes a reply that COUNT has cut short for all there was."""

    def counts_when_cut(self) -> bool:
        return True


class SnapshotIsOfNow(Process):
    """Dates a snapshot from its sending."""

    def snapshot_asof(self, began: float, ended: float) -> int:
        del began
        return self.clock.ms(ended)


class NoticesNothing(Process):
    """Goes on under the same name after the store has lost something."""

    def is_other_history(self) -> bool:
        return False


class ForgetsItsPast(Truth):
    """Loses changes and calls it the same history."""

    def fail_over(self, lost: int, epoch: str) -> None:
        del epoch
        super().fail_over(max(lost, 4), self.epoch)


@pytest.mark.parametrize(
    ("hub", "manner"),
    [
        ({"process": PongIsProof}, "everything"),
        ({"process": CutIsComplete}, "everything"),
        ({"process": SnapshotIsOfNow}, "a store that fails over and over"),
        ({"process": NoticesNothing, "truth": ForgetsItsPast}, "everything"),
        ({"answers_lag": 3.0}, "everything"),
    ],
    ids=["pong", "count", "snap_end", "fork", "replica"],
)
def test_a_hub_without_the_rule_makes_clients_answer_too_late(hub: dict[str, Any], manner: str) -> None:
    assert first_failure(manner, **hub)


def first_failure(manner: str, **broken: Any) -> list[str]:
    """Run until the first answer that is too old."""
    for seed in range(3):
        found = Run(seed, **MANNERS[manner], **broken).go(hours=6, enough=1).too_old
        if found:
            return found
    return []
