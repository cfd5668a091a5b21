"""Roles, evidence and policies as they reach the scripts, on a real Valkey.

``wms`` acknowledges and counts, ``shop`` takes orders; times are milliseconds on the merchant's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.reference_answer import Role
from tests.support.rows import ITEM, ack, order, push, read, watermark
from tests.support.sales_driver import SalesDriver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from tests.support.rows import Row
    from tests.support.valkey import Valkey

MAX_AGE: Final = 600_000
DAY: Final = 86_400_000
SECOND_US: Final = 1_000_000


@pytest.fixture
def client(valkey: Valkey) -> Iterator[Redis]:
    valkey.flush()
    with valkey.client() as opened:
        yield opened


@pytest.fixture
def hub(client: Redis) -> SalesDriver:
    hub = SalesDriver(client, "demo")
    hub.set_role("wms", authority(ref=True))
    hub.set_role("shop", SHOP)
    return hub


def authority(*, rank: int = 1, own: bool = False, ref: bool = False) -> Role:
    return Role(
        kind="A", rank=rank, max_age=MAX_AGE, own_items=True, own_places=True, fetches=True, own=own, ref=ref
    )


SHOP: Final = Role(kind="C", max_age=MAX_AGE, own_items=True, own_places=True)


def tell(hub: SalesDriver, *rows: Row, now: int) -> list[str]:
    return [outcome for outcome, _ in hub.apply(rows, now)]


def ats(hub: SalesDriver) -> int:
    return hub.answer(ITEM).ats


def change_role(hub: SalesDriver, account: str, role: Role, now: int) -> None:
    hub.set_role(account, role)
    hub.look_again(account)
    hub.pass_time(now)


# Roles


def test_a_contributor_that_becomes_an_authority_takes_all_open_sales_as_pending(hub: SalesDriver) -> None:
    tell(hub, push(10, version=1, at=10), push(7, version=1, at=10, account="shop"), now=10)
    tell(hub, order(2, at=20), now=20)
    assert ats(hub) == 8
    change_role(hub, "wms", Role(kind="C", own_items=True, own_places=True), 30)
    assert not hub.answer(ITEM).known
    change_role(hub, "shop", authority(own=True), 40)
    assert (ats(hub), hub.answer(ITEM).by) == (5, "shop")
    tell(hub, read(5, at=50, account="shop"), now=50)
    assert ats(hub) == 5


def test_one_that_was_an_authority_before_is_not_believed_to_contain_what_was_sold_meanwhile(
    hub: SalesDriver,
) -> None:
    hub.set_role("threepl", authority(rank=2, ref=True))
    tell(hub, push(10, version=1, at=10), push(10, version=1, at=10, account="threepl"), now=10)
    tell(hub, order(1, at=20, references=("R1",)), ack(1, at=30, version=2, references=("R1",)), now=30)
    tell(hub, push(9, version=2, at=31), now=31)
    change_role(hub, "wms", Role(kind="C", own_items=True, own_places=True), 40)
    tell(hub, order(3, at=50, name="1002"), now=50)
    hub.set_role("wms", authority(ref=True))
    tell(hub, push(10, version=2, at=55, account="threepl"), now=55)
    assert ats(hub) <= 6
    hub.look_again("wms")
    hub.pass_time(60)
    assert ats(hub) == 6


def test_the_rank_alone_decides_who_rules_a_cell(hub: SalesDriver) -> None:
    hub.set_role("threepl", authority(rank=2, ref=True))
    tell(hub, push(10, version=1, at=10), push(3, version=1, at=10, account="threepl"), now=10)
    assert ats(hub) == 10
    change_role(hub, "threepl", authority(rank=1, ref=True), 20)
    change_role(hub, "wms", authority(rank=2, ref=True), 21)
    assert (ats(hub), hub.feed[-1].answer.ats) == (3, 3)


# Evidence by time


def late_shop(hub: SalesDriver, lag_ms: int = 50) -> None:
    hub.set_lag("wms", "shop", lag_ms)
    tell(hub, read(10, at=10, version=1), order(1, at=100), now=100)


def test_a_read_that_began_late_enough_contains_the_sale(hub: SalesDriver) -> None:
    late_shop(hub)
    tell(hub, read(10, at=149, version=2), now=149)
    assert ats(hub) == 9
    tell(hub, read(9, at=150, version=3), now=150)
    assert ats(hub) == 9


def test_an_acknowledgement_that_disproves_the_time_makes_it_longer(hub: SalesDriver) -> None:
    late_shop(hub)
    tell(hub, read(10, at=160, version=2), now=160)
    assert ats(hub) == 10
    tell(hub, ack(1, at=200, version=3, name="1001", line="1"), now=200)
    assert (ats(hub), hub.evidence("wms", "shop")) == (9, "lag|100")
    tell(hub, read(9, at=210, version=3), now=210)
    assert (ats(hub), hub.evidence_times("wms", "shop")["late"]) == (9, 1)


def test_what_else_was_believed_by_that_time_is_looked_at_again(hub: SalesDriver) -> None:
    late_shop(hub)
    tell(hub, order(2, at=105, name="1002"), read(10, at=160, version=2), now=160)
    assert ats(hub) == 10
    tell(hub, ack(1, at=200, version=3, name="1001", line="1"), now=200)
    hub.pass_time(200)
    assert ats(hub) == 7


def test_an_acknowledgement_that_comes_late_and_disproves_nothing_only_measures(hub: SalesDriver) -> None:
    late_shop(hub)
    tell(hub, read(9, at=160, version=2), ack(1, at=1124, version=2, name="1001", line="1"), now=1124)
    assert (hub.evidence("wms", "shop"), hub.evidence_times("wms", "shop")) == ("lag|50", {"40": 1})


def test_while_the_way_is_interrupted_nothing_new_arrives(hub: SalesDriver) -> None:
    late_shop(hub)
    hub.set_evidence("wms", "shop", "lag|50|140")
    tell(hub, read(10, at=160, version=2), now=160)
    assert ats(hub) == 9
    hub.set_evidence("wms", "shop", "lag|50|140|200")
    tell(hub, read(10, at=249, version=3), now=249)
    assert ats(hub) == 9
    tell(hub, read(9, at=250, version=4), now=250)
    assert ats(hub) == 9


def test_what_had_arrived_before_the_interruption_stays_believed(hub: SalesDriver) -> None:
    late_shop(hub)
    tell(hub, read(9, at=160, version=2), now=160)
    hub.set_evidence("wms", "shop", "lag|50|170")
    tell(hub, read(9, at=300, version=3), now=300)
    assert ats(hub) == 9


def test_what_never_arrives_stays_off(hub: SalesDriver) -> None:
    hub.set_evidence("wms", "shop", "never")
    tell(hub, read(10, at=10), order(1, at=20), read(10, at=999_999), now=999_999)
    assert ats(hub) == 9


# Policies in the script


def test_who_trusts_lets_a_fresh_second_raise_what_the_first_last_said(hub: SalesDriver) -> None:
    hub.set_role("threepl", authority(rank=2, ref=True))
    late = MAX_AGE + 11
    tell(hub, push(5, version=1, at=10), now=10)
    tell(hub, push(8, version=1, at=late, account="threepl"), now=late)
    assert ats(hub) == 5
    hub.set_general(takeover="trusting")
    hub.pass_time(late)
    assert (ats(hub), hub.answer(ITEM).degraded) == (8, True)


def test_sales_are_taken_from_where_the_merchant_wants_to_sell_first(hub: SalesDriver) -> None:
    places = {"WH1": 50, "WH2": 5, "WH3": 9}
    tell(hub, *(push(n, version=1, at=10, location=place) for place, n in places.items()), now=10)
    hub.set_general(places="WH3\x1eWH2")
    tell(hub, order(4, at=20, name="1"), now=20)
    assert hub.open(ITEM) == {"WH3": 4}
    tell(hub, order(6, at=30, name="2"), now=30)
    assert hub.open(ITEM) == {"WH3": 4, "WH1": 6}
    tell(hub, order(50, at=40, name="3"), now=40)
    assert hub.open(ITEM) == {"WH3": 9, "WH2": 5, "WH1": 46}


def fast_and_slow(hub: SalesDriver) -> None:
    hub.set_general(fast_age_ms="60000", slow_age_ms="1800000")


def test_a_sku_that_moves_all_the_time_is_stale_sooner(hub: SalesDriver) -> None:
    fast_and_slow(hub)
    rows = [push(100 - n, version=n + 1, at=DAY + n * 1000) for n in range(48)]
    tell(hub, *rows, now=DAY + 47_000)
    hub.pass_time(DAY + 47_000 + 60_000)
    assert not hub.answer(ITEM).stale
    hub.pass_time(DAY + 47_000 + 60_001)
    assert hub.answer(ITEM).stale


def test_a_sku_that_was_seen_to_move_seldom_for_a_day_stays_fresh_longer(hub: SalesDriver) -> None:
    fast_and_slow(hub)
    tell(hub, push(9, version=1, at=DAY), now=DAY)
    hub.pass_time(DAY + MAX_AGE + 1)
    assert hub.answer(ITEM).stale
    later = 2 * DAY + 10
    tell(hub, push(8, version=2, at=later), now=later)
    hub.pass_time(later + 1_800_000)
    assert not hub.answer(ITEM).stale
    hub.pass_time(later + 1_800_001)
    assert hub.answer(ITEM).stale


def test_a_sku_that_stays_stale_when_its_account_is_heard_of_is_not_looked_at_for_ever(
    hub: SalesDriver,
) -> None:
    fast_and_slow(hub)
    rows = [push(100 - n, version=n + 1, at=DAY + n * 1000) for n in range(60)]
    tell(hub, *rows, now=DAY + 60_000)
    late = DAY + 60_000 + MAX_AGE
    hub.pass_time(late)
    assert hub.answer(ITEM).stale
    tell(hub, watermark(late - 100_000), now=late)
    hub.pass_time(late)
    assert hub.answer(ITEM).stale
    tell(hub, watermark(late + 1), now=late + 2)
    hub.pass_time(late + 2)
    assert not hub.answer(ITEM).stale
