"""What an endpoint has missed is found without a queue, however long it was away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from synchub.keyspace import MerchantKeys
from synchub.redis import CoalescingRedis
from synchub.settings import FeedSettings, RedisSettings, Settings, SubscriptionSettings
from synchub.subscriptions import store as subscriptions
from synchub.subscriptions.backlog import Backlog
from synchub.subscriptions.catching_up import changed_since
from synchub.subscriptions.model import EVERYTHING, Filter, Missed, Spot
from tests.support.feed import EPOCH, Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.valkey import Valkey

KEYS: Final = MerchantKeys("acme")
ALL: Final = Filter()
AB: Final = Filter(skus=frozenset({"A", "B", "GHOST"}))


@pytest.fixture
def store(valkey: Valkey, redis_url: str) -> Iterator[Store]:
    with valkey.client() as client:
        yield Store(client).name_history()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[CoalescingRedis]:
    client = CoalescingRedis(RedisSettings(url=redis_url))
    yield client
    await client.close()


def settings(*, pending_max: int = 1000, snapshot_part: int = 2, read_max: int = 2) -> Settings:
    return Settings.model_construct(
        feed=FeedSettings(snapshot_part=snapshot_part, read_max=read_max),
        subscriptions=SubscriptionSettings(pending_max=pending_max),
    )


async def missed(
    redis: CoalescingRedis, seq: int, chosen: Filter = ALL, *, epoch: str = EPOCH, pending_max: int = 1000
) -> Missed:
    spot = Spot(epoch=epoch, seq=seq)
    return await changed_since(redis, KEYS, spot, chosen, settings(pending_max=pending_max))


def units(found: Missed) -> dict[str, int]:
    return {sku: answer.ats for sku, answer in found.changed.items()}


def fill(store: Store) -> None:
    """Five changes of four SKUs, at 1 to 5."""
    for sku, ats in (("A", 1), ("B", 2), ("A", 3), ("C", 4), ("D", 5)):
        store.change(sku, ats)


async def test_the_last_state_of_what_changed_after_a_position_is_found(
    redis: CoalescingRedis, store: Store
) -> None:
    fill(store)
    found = await missed(redis, 2)
    assert units(found) == {"A": 3, "C": 4, "D": 5}
    assert (found.reach, found.is_all, found.truncated) == (Spot(epoch=EPOCH, seq=5), True, False)


async def test_at_the_end_nothing_was_missed(redis: CoalescingRedis, store: Store) -> None:
    fill(store)
    found = await missed(redis, 5)
    assert (found.changed, found.reach.seq, found.is_all, found.truncated) == ({}, 5, True, False)


async def test_named_skus_are_found_by_their_names(redis: CoalescingRedis, store: Store) -> None:
    fill(store)
    assert units(await missed(redis, 2, AB)) == {"A": 3}
    assert (await missed(redis, 2, AB)).truncated is False
    # From before everything also what nobody ever reported: whoever asks for it learns that it is unknown.
    everything = await missed(redis, EVERYTHING, AB)
    assert units(everything) == {"A": 3, "B": 2, "GHOST": 0}
    assert everything.truncated is True


@pytest.mark.parametrize("chosen", [ALL, AB])
async def test_beyond_the_stream_states_stand_for_the_changes(
    redis: CoalescingRedis, store: Store, chosen: Filter
) -> None:
    fill(store)
    store.client.xtrim(KEYS.feed, maxlen=1, approximate=False)
    found = await missed(redis, 2, chosen)
    assert units(found) == {
        sku: ats for sku, ats in {"A": 3, "C": 4, "D": 5}.items() if chosen is ALL or sku == "A"
    }
    assert found.truncated is True
    assert found.reach.seq == 5
    # Where the stream still begins nothing is lost.
    assert (await missed(redis, 4, chosen)).truncated is False


async def test_a_stream_that_is_trimmed_while_it_is_read_loses_nothing(
    redis: CoalescingRedis, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    oldest = subscriptions.read_oldest

    async def trim_then(*about: Any) -> int | None:
        found = await oldest(*about)
        await redis.execute("XTRIM", KEYS.feed, "MAXLEN", 1)
        return found

    monkeypatch.setattr(subscriptions, "read_oldest", trim_then)
    found = await missed(redis, 0)
    assert units(found) == {"A": 3, "B": 2, "C": 4, "D": 5}
    assert found.truncated is True


async def test_an_empty_stream_has_lost_everything_but_its_end(redis: CoalescingRedis, store: Store) -> None:
    fill(store)
    store.client.delete(KEYS.feed)
    assert (await missed(redis, 4)).truncated is True
    assert units(await missed(redis, 4)) == {"D": 5}
    assert (await missed(redis, 5)).truncated is False


async def test_a_position_in_another_history_is_one_before_everything(
    redis: CoalescingRedis, store: Store
) -> None:
    fill(store)
    found = await missed(redis, 5, epoch="before")
    assert units(found) == {"A": 3, "B": 2, "C": 4, "D": 5}
    assert (found.reach.epoch, found.truncated) == (EPOCH, True)


@pytest.mark.parametrize("is_trimmed", [False, True])
@pytest.mark.parametrize("pending_max", [1, 2, 3])
async def test_more_than_the_limit_is_found_in_parts_and_in_order(
    redis: CoalescingRedis, store: Store, pending_max: int, *, is_trimmed: bool
) -> None:
    for number in range(1, 12):
        store.change(f"S{number * 7 % 11}", number)
    if is_trimmed:
        store.client.xtrim(KEYS.feed, maxlen=1, approximate=False)
    told: dict[str, int] = {}
    seq, parts = (EVERYTHING if is_trimmed else 0), 0
    while True:
        found = await missed(redis, seq, pending_max=pending_max)
        # One read of the stream may bring a few more.
        assert len(found.changed) <= pending_max + 1
        assert found.reach.seq > seq
        assert all(seq < answer.seq <= found.reach.seq for answer in found.changed.values())
        told |= units(found)
        parts += 1
        if found.is_all:
            break
        seq = found.reach.seq
    assert told == {f"S{number * 7 % 11}": number for number in range(1, 12)}
    assert parts >= 3


class Watched:
    """A backlog whose present the test says."""

    def __init__(self, redis: CoalescingRedis, *, chosen: Filter = ALL, pending_max: int = 1000) -> None:
        self.present = Spot(epoch=EPOCH, seq=0)
        self.backlog = Backlog(
            redis, KEYS, chosen, settings(pending_max=pending_max), lambda: self.present, asyncio.Semaphore(1)
        )

    def untold(self) -> dict[str, int]:
        part, _ = self.backlog.take(1000)
        return {answer.sku: answer.ats for answer in part}


async def answers_of(redis: CoalescingRedis) -> Missed:
    return await missed(redis, EVERYTHING)


async def test_what_is_noted_after_a_look_is_added_and_what_was_found_is_not_added_again(
    redis: CoalescingRedis, store: Store
) -> None:
    fill(store)
    watched = Watched(redis)
    spot = await watched.backlog.fill(Spot(epoch=EPOCH, seq=3))
    assert spot.seq == 3
    assert watched.untold() == {"C": 4, "D": 5}
    late = (await answers_of(redis)).changed
    watched.backlog.note(late["A"])
    assert watched.untold() == {"C": 4, "D": 5}
    store.change("C", 9)
    watched.backlog.note((await answers_of(redis)).changed["C"])
    watched.present = Spot(epoch=EPOCH, seq=6)
    part, upto = watched.backlog.take(1000)
    assert [(answer.sku, answer.ats) for answer in part] == [("D", 5), ("C", 9)]
    assert upto.seq == 6


async def test_what_changes_while_it_looks_falls_between_no_two_chairs(
    redis: CoalescingRedis, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    watched = Watched(redis)

    async def look(*about: Any) -> Missed:
        found = await changed_since(*about)
        await asyncio.to_thread(store.change, "B", 8)
        watched.backlog.note((await answers_of(redis)).changed["B"])
        watched.present = Spot(epoch=EPOCH, seq=6)
        return found

    monkeypatch.setattr("synchub.subscriptions.backlog.changed_since", look)
    await watched.backlog.fill(Spot(epoch=EPOCH, seq=3))
    assert watched.untold() == {"C": 4, "D": 5, "B": 8}
    assert watched.backlog.take(1000)[1].seq == 6
    assert not watched.backlog.is_behind


async def test_in_another_history_than_the_present_it_stays_behind(
    redis: CoalescingRedis, store: Store
) -> None:
    fill(store)
    watched = Watched(redis)
    watched.present = Spot(epoch="before", seq=9)
    spot = await watched.backlog.fill(Spot(epoch="before", seq=9))
    assert spot == Spot(epoch=EPOCH, seq=EVERYTHING)
    assert watched.backlog.is_behind
    assert watched.backlog.take(1000)[1] == Spot(epoch=EPOCH, seq=5)


async def test_what_was_told_is_struck_off_and_the_rest_is_not(redis: CoalescingRedis, store: Store) -> None:
    fill(store)
    watched = Watched(redis)
    await watched.backlog.fill(Spot(epoch=EPOCH, seq=0))
    part, upto = watched.backlog.take(2)
    assert ([answer.sku for answer in part], upto.seq) == (["B", "A"], 3)
    watched.backlog.strike_off(upto.seq)
    assert watched.untold() == {"C": 4, "D": 5}


async def test_a_backlog_that_grows_too_large_is_let_go_and_found_again(
    redis: CoalescingRedis, store: Store
) -> None:
    watched = Watched(redis, pending_max=2)
    assert (await watched.backlog.fill(Spot(epoch=EPOCH, seq=0))).seq == 0
    assert not watched.backlog.is_behind
    fill(store)
    for answer in sorted((await answers_of(redis)).changed.values(), key=lambda one: one.seq):
        watched.backlog.note(answer)
    assert (watched.backlog.size, watched.backlog.is_behind) == (0, True)
    told: dict[str, int] = {}
    spot = Spot(epoch=EPOCH, seq=0)
    while spot.seq < 5:
        spot = await watched.backlog.fill(spot)
        told |= watched.untold()
        _, upto = watched.backlog.take(1000)
        watched.backlog.strike_off(upto.seq)
        spot = upto
    assert told == {"A": 3, "B": 2, "C": 4, "D": 5}


async def test_with_nothing_that_matches_the_position_moves_on_with_the_present(
    redis: CoalescingRedis, store: Store
) -> None:
    fill(store)
    watched = Watched(redis, chosen=Filter(prefix="Z"))
    assert (await watched.backlog.fill(Spot(epoch=EPOCH, seq=0))).seq == 5
    watched.present = Spot(epoch=EPOCH, seq=40)
    assert (await watched.backlog.fill(Spot(epoch=EPOCH, seq=5))).seq == 40
