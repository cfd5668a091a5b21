"""A store is lost with all that it had, and the archive brings back what it holds: no more, and never twice.

Of two merchants to whom the same happens one loses everything. What it is told after the
restore must lead both to the same numbers.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest

from synchub.errors import InvalidRequest, NotFound
from synchub.kit.clock import now_ms
from synchub.recovery.operations import Recovery
from synchub.redis import CoalescingRedis
from synchub.settings import (
    ArchiveSettings,
    FeedSettings,
    RedisSettings,
    ReservationSettings,
    Settings,
    StockSettings,
)
from synchub.stock.rules import mapping_row
from tests.support.archive import Ledger
from tests.support.reference_answer import Role
from tests.support.reference_holds import Wish
from tests.support.rows import ack, catalogue, delta, order, push, read
from tests.support.sales_driver import SalesDriver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from redis import Redis

    from synchub.recovery.model import Plan, Restored
    from tests.support.rows import Row
    from tests.support.valkey import Valkey

DAY_MS: Final = 86_400_000
SKUS: Final = ("TEE", "MUG")
PLACES: Final = ("WH1", "WH2")
LOST: Final = "acme"
KEPT: Final = "other"

_T = TypeVar("_T")


class Day:
    """Two merchants to whom the same happens, and the archive of the one that loses everything."""

    def __init__(self, client: Redis, url: str, folder: Path) -> None:
        self._client: Any = client
        self._url = url
        self.folder = folder
        self.now = now_ms() - DAY_MS
        self.both = (SalesDriver(client, LOST), SalesDriver(client, KEPT))
        self.lost, self.kept = self.both
        # Its clock is what callers say, as the drivers' is.
        self.settings = Settings.model_construct(
            redis=RedisSettings(),
            stock=StockSettings(clock="proposed"),
            reservations=ReservationSettings(),
            feed=FeedSettings(),
            archive=ArchiveSettings(folder=folder),
        )

    def connect(self, **roles: Role) -> None:
        for account, role in roles.items():
            for each in self.both:
                each.set_role(account, role)

    def tell(self, *rows: Row) -> None:
        """Let both hear it, a second later."""
        self.now += 1000
        for each in self.both:
            each.apply(rows, self.now)

    def buy(self, *wishes: Wish, order_id: str = "", lines: tuple[Wish, ...] = ()) -> None:
        """Let an agent of each hold and buy."""
        self.now += 1000
        for each in self.both:
            held = each.grant(wishes, self.now)
            if held.first == "held":
                each.commit(held.hold, self.now, order=order_id, lines=lines)

    def archive(self) -> None:
        self._with_redis(lambda redis: Ledger(redis=redis, folder=self.folder, merchant=LOST).archive_all())

    def wipe(self) -> None:
        """Take away everything that the store has of the merchant."""
        for key in self._client.scan_iter(match=f"{{{LOST}}}:*"):
            self._client.delete(key)

    def plan(self) -> Plan:
        return self._with_redis(lambda redis: self._recovery(redis).plan())

    def restore(self, tell: Callable[[int, int], None] = lambda _done, _total: None) -> Restored:
        async def work(redis: CoalescingRedis) -> Restored:
            recovery = self._recovery(redis)
            await recovery.plan()
            return await recovery.apply(tell)

        restored = self._with_redis(work)
        self.now = max(self.now, now_ms())
        return restored

    def _recovery(self, redis: CoalescingRedis) -> Recovery:
        return Recovery(redis, self.folder, LOST, self.settings)

    def _with_redis(self, act: Callable[[CoalescingRedis], Awaitable[_T]]) -> _T:
        async def do() -> _T:
            redis = CoalescingRedis(RedisSettings(url=self._url))
            try:
                return await act(redis)
            finally:
                await redis.close()

        return asyncio.run(do())

    def numbers(self, of: SalesDriver, *skus: str) -> list[tuple[int, dict[str, int]]]:
        return [(of.answer(sku).ats, of.open(sku)) for sku in skus or SKUS]


WMS: Final = Role(kind="A", rank=1, max_age=DAY_MS, own_items=True, own_places=True, fetches=True, ref=True)
SHOP: Final = Role(kind="C", max_age=DAY_MS, own_items=True, own_places=True)


@pytest.fixture
def day(valkey: Valkey, tmp_path: Path) -> Iterator[Day]:
    valkey.flush()
    with valkey.client() as client:
        day = Day(client, valkey.url, tmp_path / "archive")
        day.connect(wms=WMS, shop=SHOP)
        yield day


def wiped(day: Day) -> Plan:
    """Archive, lose everything, connect the accounts again, and look what could be brought back."""
    day.archive()
    day.wipe()
    day.lost.set_role("wms", WMS)
    day.lost.set_role("shop", SHOP)
    return day.plan()


def level(units: int, day: Day, version: int, **about: Any) -> Row:
    return push(units, at=day.now, version=version, **about)


def test_sales_and_levels_are_there_again_and_the_numbers_are_the_same(day: Day) -> None:
    day.tell(*(level(20, day, 1, item=sku, location=place) for sku in SKUS for place in PLACES))
    day.buy(Wish("TEE", 3), Wish("MUG", 1))
    day.buy(Wish("TEE", 4), order_id="1001", lines=(Wish("TEE", 2),))
    day.buy(Wish("TEE", 30), order_id="1002")
    day.tell(order(2, at=day.now, item="MUG", name="1003", version=1))
    day.tell(ack(1, at=day.now, version=2, name="1003", line="1", item="MUG", location="WH2"))
    day.tell(level(19, day, 2, item="MUG", location="WH2"))
    before = day.numbers(day.lost)
    plan = wiped(day)
    assert (plan.sales, plan.units, plan.sources, plan.skus, plan.unknown_accounts) == (5, 38, 4, 2, ())
    restored = day.restore()
    assert (restored.sales, restored.sources, restored.differing) == (5, 4, ())
    assert day.numbers(day.lost) == before == day.numbers(day.kept)


def test_what_comes_again_under_any_name_is_the_same_sale(day: Day) -> None:
    day.tell(level(20, day, 1, item="TEE"))
    day.buy(Wish("TEE", 3), order_id="1001")
    day.tell(order(2, at=day.now, item="TEE", name="1002", version=1, references=("R-7",)))
    wiped(day)
    day.restore()
    day.tell(order(3, at=day.now, item="TEE", name="1001", version=1))
    day.tell(order(2, at=day.now, item="TEE", name="1002", version=1, op="again"))
    day.tell(ack(2, at=day.now, version=2, references=("R-7",), item="TEE"))
    day.tell(level(18, day, 2, item="TEE"))
    assert day.numbers(day.lost, "TEE") == day.numbers(day.kept, "TEE") == [(15, {"WH1": 5})]


def test_doing_it_again_changes_nothing_and_a_second_loss_is_none(day: Day) -> None:
    day.tell(level(20, day, 1, item="TEE"))
    day.buy(Wish("TEE", 3), order_id="1001")
    day.buy(Wish("TEE", 2))
    wiped(day)
    day.restore()
    head = day.lost.head
    again = day.restore()
    assert (again.sales, again.sales_known, again.sources, day.lost.head) == (0, 2, 0, head)
    # What was brought back is archived in turn, and is not looked for any more.
    day.archive()
    assert (day.plan()).sales == 0
    assert (wiped(day)).sales == 2
    day.restore()
    assert day.numbers(day.lost, "TEE") == [(15, {"WH1": 5})]


def test_what_ended_in_the_middle_is_finished_by_the_next(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synchub.recovery.rules.LINES_AT_ONCE", 3)
    day.tell(level(50, day, 1, item="TEE"), level(50, day, 1, item="MUG"))
    for _ in range(8):
        day.buy(Wish("TEE", 1), Wish("MUG", 2))
    before = day.numbers(day.lost)
    wiped(day)

    class Killed(Exception):
        """The command was ended."""

    def end(done: int, _total: int) -> None:
        # In between nobody is shown more than there is: what was sold comes before what there is.
        assert all(now <= was for (now, _), (was, _) in zip(day.numbers(day.lost), before, strict=True))
        if done >= 3:
            raise Killed

    with pytest.raises(Killed):
        day.restore(end)
    restored = day.restore()
    assert 0 < restored.sales < 16
    assert restored.sales_known == 16 - restored.sales
    assert day.numbers(day.lost) == before


def test_a_younger_store_keeps_what_it_has_heard_since(day: Day) -> None:
    day.tell(level(20, day, 1, item="TEE"), level(7, day, 1, item="MUG"))
    day.buy(Wish("TEE", 3), order_id="1001")
    day.tell(order(1, at=day.now, item="TEE", name="1002", version=1))
    wiped(day)
    day.tell(level(30, day, 2, item="TEE"))
    day.tell(order(1, at=day.now, item="TEE", name="1002", version=1, op="again"))
    restored = day.restore()
    assert (restored.sales, restored.sales_known) == (1, 1)
    assert (restored.sources, restored.sources_known) == (1, 1)
    assert day.numbers(day.lost) == day.numbers(day.kept)


def test_what_was_settled_voided_cancelled_or_joined_stays_so(day: Day) -> None:
    day.tell(level(20, day, 1, item="TEE"))
    day.buy(Wish("TEE", 3))
    day.tell(order(4, at=day.now, item="TEE", name="1001", version=1))
    day.tell(order(1, at=day.now, item="TEE", name="1001", version=2))
    day.now += 1000
    for each in day.both:
        held = each.grant([Wish("TEE", 2)], day.now).hold
        each.commit(held, day.now)
        # The platform tells of it by another number, and later that it was bought with the hold.
        each.apply([order(2, at=day.now, item="TEE", name="1002", version=1)], day.now)
        each.apply([order(2, at=day.now, item="TEE", name="1002", version=2, references=(held,))], day.now)
    before = day.numbers(day.lost, "TEE")
    wiped(day)
    restored = day.restore()
    assert restored.differing == ()
    assert day.numbers(day.lost, "TEE") == before == day.numbers(day.kept, "TEE")


def test_sales_that_went_along_with_their_item_are_where_they_went(day: Day) -> None:
    day.tell(level(20, day, 1, item="TEE"))
    for number in range(3):
        day.tell(order(2, at=day.now, item="TEE", name=f"100{number}", version=1, references=(f"R{number}",)))
    day.tell(ack(2, at=day.now, version=2, name="1000", line="1", item="TEE"))
    day.tell(order(1, at=day.now, item="TEE", name="1001", version=2))
    for account in ("wms", "shop"):
        row = mapping_row(account, "TEE", "MUG", at_ms=day.now)
        day.tell(row)
    day.tell(level(18, day, 3, item="TEE"))
    before = day.numbers(day.lost)
    wiped(day)
    for account in ("wms", "shop"):
        day.lost.map_item(account, "TEE", "MUG")
    restored = day.restore()
    assert (restored.sales, restored.differing) == (3, ())
    assert day.numbers(day.lost, "MUG") == before[1:] == day.numbers(day.kept, "MUG")
    assert day.lost.open("TEE") == {}
    day.tell(ack(2, at=day.now, version=4, references=("R2",), item="TEE"))
    day.tell(level(16, day, 4, item="TEE"))
    assert day.numbers(day.lost, "MUG") == day.numbers(day.kept, "MUG")


def test_what_is_held_is_not_brought_back_and_is_told(day: Day) -> None:
    day.tell(level(20, day, 1, item="TEE"))
    day.now += 1000
    for each in day.both:
        each.grant([Wish("TEE", 4)], day.now)
    plan = wiped(day)
    assert (plan.holds, plan.sales) == (1, 0)
    assert (day.restore()).differing == ()
    assert (day.lost.answer("TEE").ats, day.lost.answer("TEE").held) == (20, 0)


def test_numbers_of_accounts_that_are_not_connected_wait_for_them(day: Day) -> None:
    day.tell(level(20, day, 1, item="TEE"))
    day.buy(Wish("TEE", 3))
    day.archive()
    day.wipe()
    assert (day.plan()).unknown_accounts == ("wms",)
    first = day.restore()
    assert (first.sales, first.sources, day.lost.answer("TEE").known) == (1, 0, False)
    day.lost.set_role("wms", WMS)
    assert (day.restore()).sources == 1
    assert day.numbers(day.lost, "TEE") == [(17, {"": 3})] or day.lost.answer("TEE").ats == 17


def test_what_is_brought_back_is_stale_until_it_is_heard_again(day: Day) -> None:
    day.tell(level(20, day, 1, item="TEE"))
    wiped(day)
    day.restore()
    assert day.lost.answer("TEE").stale
    assert day.lost.refetch("wms").keys() == {"TEE"}
    day.tell(read(20, at=now_ms(), version=1, item="TEE"))
    assert not day.lost.answer("TEE").stale
    # An older report that is told again is still older.
    day.tell(level(99, day, 1, item="TEE", op="late"))
    assert day.lost.answer("TEE").ats == 20


def test_changes_and_the_catalogue_come_back(day: Day) -> None:
    day.tell(level(20, day, 5, item="TEE"))
    day.tell(delta(-2, at=day.now, version=6, item="TEE"))
    day.tell(catalogue(item="TEE", status="D", at=day.now, op="c1"))
    wiped(day)
    day.restore()
    answer = day.lost.answer("TEE")
    assert (answer.ats, answer.cat) == (18, "D")
    day.tell(level(18, day, 6, item="TEE"))
    assert day.numbers(day.lost, "TEE") == day.numbers(day.kept, "TEE") == [(18, {})]


def test_a_broken_archive_restores_nothing_and_says_where(day: Day) -> None:
    day.tell(level(20, day, 1, item="TEE"))
    day.buy(Wish("TEE", 3))
    day.archive()
    [file] = sorted((day.folder / LOST / "ledger").glob("*.jsonl"))
    file.write_bytes(file.read_bytes().replace(b'"K20"', b'"K99"'))
    day.wipe()
    with pytest.raises(InvalidRequest, match=r"broken archive restores nothing: .*segment 1: line 2"):
        day.restore()
    assert day.lost.skus() == []


def test_without_an_archive_there_is_nothing_to_restore(day: Day) -> None:
    with pytest.raises(NotFound):
        day.plan()


@pytest.mark.parametrize("seed", range(12))
def test_after_any_day_both_end_with_the_same_numbers(day: Day, seed: int) -> None:
    chance = random.Random(seed)
    own = Role(kind="A", rank=2, max_age=DAY_MS, own_items=True, own_places=True, fetches=True, own=True)
    day.connect(market=own)
    levels = {(sku, place): 40 for sku in SKUS for place in PLACES}
    at_market = dict.fromkeys(SKUS, 20)
    version, orders = 1, 0
    for _ in range(60):
        drawn, sku, place = chance.random(), chance.choice(SKUS), chance.choice(PLACES)
        version += 1
        if drawn < 0.3:
            levels[sku, place] = max(5, levels[sku, place] - chance.randint(0, 3))
            day.tell(level(levels[sku, place], day, version, item=sku, location=place))
        elif drawn < 0.6:
            units = chance.randint(1, 3)
            orders += 1
            part = (Wish(sku, 1),) if chance.random() < 0.3 else ()
            day.buy(Wish(sku, units), order_id=chance.choice(["", f"A{orders}"]), lines=part)
        elif drawn < 0.8:
            account, name = chance.choice(["shop", "shop", "market"]), f"{chance.randint(1, 6)}"
            told: dict[str, Any] = {"account": account, "item": sku, "name": name, "version": version}
            told["references"] = chance.choice([(), (f"R{account}{name}",)])
            told["status"] = chance.choice("PPPX")
            day.tell(order(chance.randint(0, 4) if told["status"] == "P" else 0, at=day.now, **told))
        elif drawn < 0.9:
            by_order: dict[str, Any] = {"name": f"{chance.randint(1, 6)}", "line": "1"}
            names = chance.choice([by_order, {"references": ("Rshop1",)}])
            day.tell(ack(1, at=day.now, version=version, item=sku, location=place, **names))
        else:
            at_market[sku] = max(3, at_market[sku] - chance.randint(0, 2))
            day.tell(level(at_market[sku], day, version, account="market", item=sku, location="M"))
    wiped(day)
    day.lost.set_role("market", own)
    restored = day.restore()
    assert restored.sales > 0
    for sku in SKUS:
        assert day.lost.answer(sku).ats <= day.kept.answer(sku).ats
    # Everything is heard again, as it is told after a loss: levels are read, orders come once more.
    for sku, units in at_market.items():
        version += 1
        day.tell(read(units, at=day.now, version=version, account="market", item=sku, location="M"))
    for (sku, place), units in levels.items():
        version += 1
        day.tell(read(units, at=day.now, version=version, item=sku, location=place))
    for sku in SKUS:
        assert day.lost.answer(sku).ats == day.kept.answer(sku).ats
