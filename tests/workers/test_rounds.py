"""Changes of a merchant reach the lanes that watch the SKU, and a hole in them is noticed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from synchub.kit.breaker import Limits
from synchub.settings import Settings, SubscriptionSettings
from synchub.stock.model import Answer, FeedEntry
from synchub.subscriptions.dispatching import Round
from synchub.subscriptions.lanes import Lane
from synchub.subscriptions.model import Asked, Filter, Spot, Standing
from tests.rules.test_subscriptions import answer, subscription
from tests.support.wait import a_turn

if TYPE_CHECKING:
    from synchub.subscriptions.equipment import Equipment


class Listening:
    """Stands where a lane would, and writes down what it is told."""

    def __init__(self, chosen: Filter, name: str) -> None:
        self.subscription = replace(subscription(), id=name, filter=chosen)
        self.noted: list[str] = []
        self.falls = 0

    def note(self, told: Answer) -> None:
        """A change."""
        self.noted.append(told.sku)

    def fall_behind(self) -> None:
        """Something is missing."""
        self.falls += 1


def entry(sku: str, seq: int, previous: int) -> FeedEntry:
    return FeedEntry(seq=seq, previous=previous, reported_ms=0, answer=answer(sku, seq))


async def _round(*lanes: Listening) -> Round:
    one = Round("acme", Spot(epoch="one", seq=5))
    for lane in lanes:
        one.add(cast("Lane", lane), asyncio.create_task(a_turn()))
    await a_turn()
    return one


async def test_each_lane_is_told_what_it_watches() -> None:
    named = Listening(Filter(skus=frozenset({"A1", "B1"})), "named")
    prefixed, whole = Listening(Filter(prefix="A"), "prefixed"), Listening(Filter(), "whole")
    one = await _round(named, prefixed, whole)
    one.hand_on([entry("A1", 6, 5), entry("A2", 8, 6), entry("B1", 9, 8)])
    assert [lane.noted for lane in (named, prefixed, whole)] == [
        ["A1", "B1"],
        ["A1", "A2"],
        ["A1", "A2", "B1"],
    ]
    assert [lane.falls for lane in (named, prefixed, whole)] == [0, 0, 0]
    assert one.spot == Spot(epoch="one", seq=9)


@pytest.mark.parametrize("previous", [4, 6])
async def test_an_entry_that_does_not_follow_ours_has_every_lane_look_for_itself(previous: int) -> None:
    lane = Listening(Filter(skus=frozenset({"Z"})), "lane")
    one = await _round(lane)
    one.hand_on([entry("A", 9, previous)])
    assert lane.falls == 1


async def test_a_lane_that_has_gone_is_told_nothing() -> None:
    lane, other = Listening(Filter(skus=frozenset({"A"})), "lane"), Listening(Filter(prefix="A"), "other")
    one = await _round(lane, other)
    await asyncio.gather(one.drop("lane"), one.drop("other"))
    one.hand_on([entry("A", 6, 5)])
    assert (lane.noted, other.noted, one.lanes, one.tasks) == ([], [], {}, {})


async def test_a_wish_that_was_met_is_not_met_again_because_it_was_read_too_early() -> None:
    about = SimpleNamespace(
        breaker=Limits(), redis=None, settings=Settings.model_construct(subscriptions=SubscriptionSettings())
    )
    equipment = cast("Equipment", SimpleNamespace(**vars(about), looks=asyncio.Semaphore(1)))
    met = Standing(spot=Spot(epoch="one", seq=5), asked=Asked(test="msg_1", redrive="a one 3"))
    lane = Lane(subscription(), met, equipment, lambda: met.spot)
    lane._is_done(met, test="msg_1")
    lane.renew(subscription(), met)
    assert lane.standing.asked == Asked(redrive="a one 3")
    lane.renew(subscription(), replace(met, asked=Asked(test="msg_2")))
    assert lane.standing.asked == Asked(test="msg_2")
