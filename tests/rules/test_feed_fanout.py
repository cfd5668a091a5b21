"""What a change costs: as much as there are readers who watch it, and one serialization for all of them."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from synchub.feed import audiences, frames, rules
from synchub.feed.fanout import Tail
from synchub.feed.model import Filter, Framing, Lens, Mode, ViewClass
from synchub.feed.readers import Reader
from synchub.kit.tasks import end
from synchub.stock.model import FeedEntry, Position
from tests.support.answers import an_answer, some_terms
from tests.support.feed_pipe import Pipe
from tests.support.wait import a_turn

if TYPE_CHECKING:
    from collections.abc import Callable

VIEW = ViewClass(
    merchant="acme", tier="standard", channel=None, revision="0.5", terms_of=lambda _sku: some_terms()
)
READERS, KEYS, SKUS = 2000, 200, 20_000


class Work:
    """Counts calls of what fan-out spends its time on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: Counter[str] = Counter()
        for module, name in ((rules, "matching"), (frames, "item"), (frames, "upd")):
            monkeypatch.setattr(module, name, self._counting(name, getattr(module, name)))

    def _counting(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self.calls[name] += 1
            return real(*args, **named)

        return call


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


def a_tail() -> Tail:
    return Tail("acme", Position(epoch="one", seq=0, feed_seq=0), 0)


def joined(tail: Tail, chosen: Filter, *, mode: Mode = Mode.UPD, hb_ms: int = 333) -> Pipe:
    pipe = Pipe()
    lens = Lens(
        filter=chosen,
        view=VIEW,
        hb_ms=hb_ms,
        framing=Framing.SSE_PLAIN,
        fingerprint=rules.fingerprint(chosen, VIEW, mode),
        mode=mode,
    )
    reader = Reader(pipe, lens, tail, agent="shopper", limit_bytes=65_536, owed_max=10, retry_ms=1)
    tail.enroll(reader)
    tail.join(reader, 0)
    return pipe


def publish(tail: Tail, *skus: str, ats: int = 10) -> None:
    entries: list[FeedEntry] = []
    for sku in skus:
        previous = tail.position + len(entries)
        answer = an_answer(sku, seq=previous + 1, ats=ats)
        entries.append(FeedEntry(seq=previous + 1, previous=previous, reported_ms=0, answer=answer))
    tail.publish(entries, asof_ms=1, now_ms=1)


def name(number: int) -> str:
    return f"SKU-{number % SKUS:05}"


def test_a_change_costs_nothing_for_readers_who_do_not_watch_it(work: Work) -> None:
    tail = a_tail()
    for number in range(READERS):
        own = frozenset(name(number * 7 + key * 97) for key in range(KEYS))
        joined(tail, Filter(skus=own))
    watching = len(tail._audiences._by_sku[name(0)])
    work.calls.clear()
    publish(tail, name(0))
    # 2,000 readers of 200 keys each among 20,000: a key has about 20 readers, and only they are worked for.
    assert 0 < watching < 60
    assert work.calls == {"item": 1, "upd": watching}


def test_readers_with_one_filter_cost_one_frame_whatever_their_number(work: Work) -> None:
    tail = a_tail()
    pipes = [joined(tail, Filter(skus=frozenset({"A", "B"}))) for _ in range(500)]
    publish(tail, "A", "B", "C")
    assert work.calls == {"item": 2, "upd": 1}
    assert len({bytes(pipe.taken) for pipe in pipes}) == 1


def test_an_item_is_serialized_once_for_all_who_see_it_alike(work: Work) -> None:
    tail = a_tail()
    for hb_ms in (166, 333, 1666):
        joined(tail, Filter(), hb_ms=hb_ms)
        joined(tail, Filter(prefix="A"), hb_ms=hb_ms)
        joined(tail, Filter(skus=frozenset({"A"})), hb_ms=hb_ms)
    publish(tail, "A")
    # Two filters are asked, each once for all who have it, and nine audiences get a frame of their own.
    assert work.calls == {"matching": 2, "item": 1, "upd": 9}


def test_readers_of_versions_cost_no_serialization(work: Work) -> None:
    tail = a_tail()
    joined(tail, Filter(), mode=Mode.INV)
    publish(tail, "A")
    assert work.calls == {"matching": 1, "upd": 1}


def test_long_lists_are_asked_and_leave_no_index(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audiences, "INDEXED_MAX", 3)
    tail = a_tail()
    long = Filter(skus=frozenset("ABCD"), set_id="fs_1")
    pipe = joined(tail, long)
    joined(tail, long)
    publish(tail, "A", "X")
    publish(tail, "X")
    assert not tail._audiences._by_sku
    assert work.calls == {"matching": 2, "item": 1, "upd": 1}
    assert len(pipe.frames()) == 1


def test_nothing_is_left_of_readers_that_have_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audiences, "INDEXED_MAX", 3)
    tail = a_tail()
    for chosen in (
        Filter(),
        Filter(prefix="A"),
        Filter(skus=frozenset("AB")),
        Filter(skus=frozenset("ABCDE")),
    ):
        joined(tail, chosen)
        joined(tail, chosen, mode=Mode.INV)
    for reader in tail.readers:
        tail.drop(reader)
    assert tail.is_idle
    kept = tail._audiences
    assert [*kept._by_lens, *kept._by_sku, *kept._asked, *tail._by_agent, *tail.catching_up] == []


def test_what_cannot_be_sold_any_more_stands_first_in_what_everybody_gets() -> None:
    tail = a_tail()
    pipe = joined(tail, Filter())
    entries = [
        FeedEntry(seq=at + 1, previous=at, reported_ms=0, answer=an_answer(sku, seq=at + 1, ats=ats))
        for at, (sku, ats) in enumerate([("A", 9), ("B", 0), ("C", 4), ("D", 0)])
    ]
    tail.publish(entries, asof_ms=1, now_ms=1)
    [(_, _, data)] = pipe.frames()
    assert [item["sku"] for item in data["items"]] == ["B", "D", "A", "C"]


async def test_heartbeats_of_many_audiences_let_the_loop_turn() -> None:
    tail = a_tail()
    count = 5 * audiences.CONNECTIONS_PER_TURN
    pipes = [joined(tail, Filter(skus=frozenset({name(number)}))) for number in range(count)]
    turned: list[int] = []

    async def watch() -> None:
        while True:
            turned.append(sum(bool(pipe.taken) for pipe in pipes))
            await a_turn()

    watching = asyncio.create_task(watch())
    turns = audiences.Turns()
    for audience in tail.audiences:
        await audience.beat("one", 0, 1, is_degraded=False, turns=turns)
    await end(watching)
    assert all(pipe.taken for pipe in pipes)
    steps = [after - before for before, after in itertools.pairwise([0, *turned])]
    assert max(steps) <= audiences.CONNECTIONS_PER_TURN


async def test_a_heartbeat_that_an_update_has_overtaken_is_told_to_nobody_else() -> None:
    tail = a_tail()
    count = 2 * audiences.CONNECTIONS_PER_TURN
    pipes = [joined(tail, Filter()) for _ in range(count)]
    [audience] = tail.audiences

    async def change_something() -> None:
        entry = FeedEntry(seq=1, previous=0, reported_ms=0, answer=an_answer("A", seq=1, ats=9))
        tail.publish([entry], asof_ms=1, now_ms=1)

    changing = asyncio.create_task(change_something())
    await audience.beat("one", 0, 1, is_degraded=False, turns=audiences.Turns())
    await changing
    told = [[kind for kind, _, _ in pipe.frames()] for pipe in pipes]
    assert sorted(map(tuple, told)) == sorted(
        [("hb", "upd")] * audiences.CONNECTIONS_PER_TURN + [("upd",)] * audiences.CONNECTIONS_PER_TURN
    )
