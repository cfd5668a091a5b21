"""Sales and what sources contain of them, one rule at a time, with numbers worked out by hand.

Every example runs on the shipped scripts in a real Valkey and on the reference model. Times are
milliseconds on the merchant's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.rows import ITEM, ack, cancel, order, push, read
from tests.support.sales_examples import ONE, SECOND_US, ats, authority, tell

if TYPE_CHECKING:
    from tests.support.sales_examples import Hub


# A sale is subtracted once


def test_an_order_lowers_the_number_until_the_level_contains_it(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    assert tell(hub, order(2, at=20, version=1, references=("R1",)), now=20) == ["applied"]
    assert ats(hub) == 8
    tell(hub, ack(2, at=30, version=2, references=("R1",)), now=30)
    assert ats(hub) == 8
    tell(hub, push(8, version=2, at=40), now=40)
    assert ats(hub) == 8
    assert hub.open(ITEM) == {"WH1": 2}


def test_a_level_that_is_older_than_the_ack_does_not_contain_the_sale(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), order(1, at=20, references=("R1",)), now=20)
    tell(hub, ack(1, at=30, version=5, references=("R1",)), push(12, version=4, at=40), now=40)
    assert ats(hub) == 11
    tell(hub, push(11, version=5, at=50), now=50)
    assert ats(hub) == 11


def test_an_ack_that_comes_before_its_order_waits_for_it(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), ack(1, at=20, version=2, references=("R1",)), now=20)
    tell(hub, push(9, version=2, at=30), now=30)
    assert ats(hub) == 9
    tell(hub, order(1, at=40, references=("R1",)), now=40)
    assert ats(hub) == 9


def test_an_ack_by_the_shops_own_number_finds_the_shops_order(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), order(1, at=20), now=20)
    tell(hub, ack(1, at=30, version=2, name="1001", line="1"), push(9, version=2, at=40), now=40)
    assert ats(hub) == 9


def test_an_ack_is_counted_once_and_as_far_as_it_goes(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), order(5, at=20, references=("R1",)), now=20)
    shipped = ack(2, at=30, version=2, references=("R1",), key="shipment-1")
    assert tell(hub, shipped, shipped, push(8, version=2, at=31), now=31) == [
        "applied",
        "duplicate",
        "applied",
    ]
    assert ats(hub) == 5
    tell(hub, ack(3, at=40, version=3, references=("R1",), key="shipment-2"), now=40)
    tell(hub, push(5, version=3, at=41), now=41)
    assert ats(hub) == 5


def test_an_ack_of_a_number_that_is_not_reported_settles_nothing(hub: Hub) -> None:
    hub.set_role("wms", authority(ref=False))
    tell(hub, push(10, version=1, at=10), order(1, at=20, references=("R1",)), now=20)
    tell(hub, ack(1, at=30, version=2, references=("R1",)), push(10, version=2, at=40), now=40)
    assert ats(hub) == 9


def test_a_read_contains_what_was_acknowledged_before_it_began(hub: Hub) -> None:
    tell(hub, read(10, at=10), order(1, at=20, references=("R1",)), now=20)
    tell(hub, ack(1, at=30, references=("R1",)), push(9, at=35), now=36)
    assert ats(hub) == 8
    tell(hub, read(9, at=40), now=40)
    assert ats(hub) == 9


def test_an_ack_in_whole_seconds_is_in_levels_of_the_next(hub: Hub) -> None:
    tell(hub, push(10, version=SECOND_US, at=10, scale="T"), order(1, at=20, references=("R1",)), now=20)
    coarse = ack(1, at=30, version=5 * SECOND_US, scale="T", resolution=SECOND_US, references=("R1",))
    tell(hub, coarse, push(9, version=5 * SECOND_US + 500_000, at=31, scale="T"), now=31)
    assert ats(hub) == 8
    tell(hub, push(9, version=6 * SECOND_US, at=40, scale="T"), now=40)
    assert ats(hub) == 9


# A line is a state


def test_an_edit_moves_the_number_by_the_difference(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), order(2, at=20, version=1), now=20)
    assert tell(hub, order(5, at=30, version=2), order(2, at=31, version=1), now=31) == [
        "applied",
        "superseded",
    ]
    assert ats(hub) == 5


def test_the_same_state_again_is_a_duplicate(hub: Hub) -> None:
    first = order(2, at=20, version=1)
    assert tell(hub, push(10, version=1, at=10), first, first, now=20) == ["applied", "applied", "duplicate"]
    assert ats(hub) == 8


def test_of_two_states_of_one_version_the_greater_counts(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), order(2, at=20, version=1), now=20)
    assert tell(hub, order(5, at=21, version=1), order(3, at=22, version=1), now=22) == [
        "applied",
        "superseded",
    ]
    assert ats(hub) == 5


def test_a_cancel_before_its_order_is_remembered(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), cancel(at=20, version=2), order(2, at=30, version=1), now=30)
    assert ats(hub) == 10


def test_a_cancelled_unit_stays_subtracted_until_the_source_gives_it_back(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), order(1, at=20, version=1, references=("R1",)), now=20)
    tell(hub, ack(1, at=30, version=2, references=("R1",)), push(9, version=2, at=31), now=31)
    tell(hub, cancel(at=40, version=2), now=40)
    assert ats(hub) == 9
    tell(hub, ack(-1, at=50, version=3, references=("R1",), key="b"), push(10, version=3, at=51), now=51)
    assert ats(hub) == 10


def test_a_cancel_that_the_source_has_not_heard_of_frees_nothing(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), order(1, at=20, version=1, references=("R1",)), now=20)
    tell(hub, cancel(at=30, version=2), push(10, version=2, at=31), now=31)
    assert ats(hub) == 9
    tell(hub, ack(1, at=40, version=3, references=("R1",), dropped=True), push(10, version=3, at=41), now=41)
    assert ats(hub) == 10


def test_units_that_were_let_go_without_a_cancel_are_sold_as_before(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), order(1, at=20, references=("R1",)), now=20)
    tell(hub, ack(1, at=30, version=2, references=("R1",), key="a"), push(9, version=2, at=31), now=31)
    tell(hub, ack(-1, at=40, version=3, references=("R1",), key="b"), push(10, version=3, at=41), now=41)
    assert ats(hub) == 9


def test_cancelled_units_that_were_never_in_the_level_leave_the_rest_exact(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), order(5, at=20, version=1, references=("R1",)), now=20)
    tell(hub, ack(3, at=30, version=2, references=("R1",), key="a"), push(7, version=2, at=31), now=31)
    tell(hub, order(3, at=40, version=2), now=40)
    assert ats(hub) == 5
    tell(hub, ack(2, at=50, version=3, references=("R1",), key="b", dropped=True), now=50)
    tell(hub, push(7, version=3, at=51), now=51)
    assert ats(hub) == 7


# Other evidence


def test_an_authority_contains_its_own_orders_a_moment_later(hub: Hub) -> None:
    hub.set_role("shop", authority(own=True))
    tell(hub, push(10, version=5 * SECOND_US, at=10, account="shop", scale="T"), now=10)
    tell(hub, order(1, at=20, happened=6 * SECOND_US), now=20)
    told = []
    for version in (6 * SECOND_US, 6 * SECOND_US + 1):
        tell(hub, push(9, version=version, at=30, account="shop", scale="T"), now=30)
        told.append(ats(hub))
    assert told == [8, 9]


def test_an_authority_contains_its_own_orders_in_a_later_read(hub: Hub) -> None:
    hub.set_role("shop", authority(own=True))
    tell(hub, read(10, at=10, account="shop"), order(1, at=20), now=20)
    told = []
    for at in (20, 21):
        tell(hub, read(9, at=at, account="shop"), now=30)
        told.append(ats(hub))
    assert told == [8, 9]


def test_a_lagging_importer_contains_a_sale_after_its_lag(hub: Hub) -> None:
    hub.set_role("wms", authority())
    hub.set_lag("wms", "shop", 1000)
    tell(hub, read(10, at=10), order(1, at=20), now=20)
    told = []
    for at in (1019, 1020):
        tell(hub, read(9, at=at), now=1100)
        told.append(ats(hub))
    assert told == [8, 9]


def test_the_lag_of_our_own_sale_begins_when_somebody_confirms_it(hub: Hub) -> None:
    hub.set_role("wms", authority())
    hub.set_lag("wms", "*", 1000)
    tell(hub, read(10, at=10), now=10)
    hub.commit(hub.grant(ONE, 20).hold, 30, order="1001")
    tell(hub, read(10, at=5000), now=5000)
    assert ats(hub) == 9
    tell(hub, order(1, at=6000), read(10, at=6999), now=7000)
    assert ats(hub) == 9
    tell(hub, read(9, at=7001), now=7001)
    assert ats(hub) == 9


def test_a_sale_without_a_told_place_waits_for_all_places_of_the_account(hub: Hub) -> None:
    hub.set_role("shop", authority(own=True))
    here = [read(10, at=10, account="shop", location=place) for place in ("WH1", "WH2")]
    tell(hub, *here, order(1, at=20), now=20)
    tell(hub, read(10, at=30, account="shop"), now=30)
    assert ats(hub) == 19
    tell(hub, read(9, at=31, account="shop", location="WH2"), now=31)
    assert ats(hub) == 19


def test_an_order_is_taken_from_its_own_shops_shelf(hub: Hub) -> None:
    hub.set_role("shop", authority(rank=2, own=True))
    tell(hub, push(50, version=1, at=10), read(3, at=10, account="shop", location="SHELF"), now=10)
    tell(hub, order(1, at=20), read(2, at=30, account="shop", location="SHELF"), now=30)
    assert (ats(hub), hub.open(ITEM)) == (52, {"SHELF": 1})


# A source begins anew


def test_two_reads_of_an_older_version_begin_anew_and_sales_are_pending_again(hub: Hub) -> None:
    tell(hub, read(10, at=10, version=5), order(1, at=20, references=("R1",)), now=20)
    tell(hub, ack(1, at=30, version=6, references=("R1",)), read(9, at=40, version=6), now=40)
    assert ats(hub) == 9
    tell(hub, read(10, at=50, version=2), now=50)
    assert ats(hub) == 9
    tell(hub, read(10, at=60, version=2), now=60)
    assert ats(hub) == 9
    (source,) = hub.sources(ITEM).values()
    assert (source.level, source.reset_at, source.included) == (10, 50, 0)
