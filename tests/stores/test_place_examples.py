"""Where a sale is taken from, and under which names it is one sale: numbers worked out by hand.

Every example runs on the shipped scripts in a real Valkey and on the reference model. Times are
milliseconds on the merchant's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.reference_answer import Role
from tests.support.rows import ITEM, ack, catalogue, order, push, read
from tests.support.sales_examples import DAY, MAX_AGE, ONE, ats, authority, tell

if TYPE_CHECKING:
    from tests.support.sales_examples import Hub


# Places


def test_a_sale_moves_to_where_it_is_acknowledged(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), push(5, version=1, at=10, location="WH2"), now=10)
    tell(hub, order(1, at=20, references=("R1",)), now=20)
    assert hub.open(ITEM) == {"WH1": 1}
    tell(hub, ack(1, at=30, version=2, location="WH2", references=("R1",)), now=30)
    assert (ats(hub), hub.open(ITEM)) == (14, {"WH2": 1})
    tell(hub, push(4, version=2, at=40, location="WH2"), now=40)
    assert ats(hub) == 14


def test_an_order_follows_the_ack_that_came_before_it(hub: Hub) -> None:
    hub.set_role("threepl", authority(rank=2, ref=True))
    tell(
        hub, push(50, version=1, at=10), push(5, version=1, at=10, location="WH2", account="threepl"), now=10
    )
    first = ack(1, at=20, version=2, account="threepl", location="WH2", references=("R1",))
    tell(hub, first, order(1, at=30, references=("R1",)), now=30)
    assert (ats(hub), hub.open(ITEM)) == (54, {"WH2": 1})
    tell(hub, push(4, version=2, at=40, location="WH2", account="threepl"), now=40)
    assert ats(hub) == 54


def test_partial_acks_elsewhere_move_all_that_they_name(hub: Hub) -> None:
    hub.set_role("threepl", authority(rank=2, ref=True))
    tell(
        hub, push(50, version=1, at=10), push(5, version=1, at=10, location="WH2", account="threepl"), now=10
    )
    tell(hub, order(3, at=20, references=("R1",)), now=20)
    for number, units in enumerate((2, 1), 2):
        shipped = ack(units, at=30, version=number, account="threepl", location="WH2", references=("R1",))
        tell(hub, (*shipped[:11], f"shipment-{number}", *shipped[12:]), now=30)
    assert hub.open(ITEM) == {"WH2": 3}


def test_the_newest_word_says_where_a_sale_lies(hub: Hub) -> None:
    hub.set_role("threepl", authority(rank=2, ref=True))
    tell(
        hub, push(50, version=1, at=10), push(5, version=1, at=10, location="WH2", account="threepl"), now=10
    )
    tell(hub, order(1, at=20, references=("R1",)), ack(1, at=30, version=2, references=("R1",)), now=30)
    # Routed anew; that the first let it go is still on its way.
    tell(hub, ack(1, at=40, version=2, account="threepl", location="WH2", references=("R1",)), now=40)
    assert (ats(hub), hub.open(ITEM)) == (54, {"WH2": 1})
    tell(hub, push(50, version=3, at=50), now=50)
    assert ats(hub) == 54


def test_what_one_place_contains_is_not_owed_at_another(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), push(5, version=1, at=10, location="WH2"), now=10)
    tell(hub, order(1, at=20, references=("R1",)), now=20)
    tell(hub, ack(1, at=30, version=2, location="WH1", references=("R1",), key="a"), now=30)
    tell(hub, push(9, version=2, at=31), now=31)
    # Routed anew: the level of the first place still lacks the unit.
    tell(hub, ack(1, at=40, version=2, location="WH2", references=("R1",), key="b"), now=40)
    tell(hub, ack(-1, at=40, version=3, location="WH1", references=("R1",), key="c"), now=40)
    assert (ats(hub), hub.open(ITEM)) == (14, {"WH2": 1})
    tell(hub, push(10, version=3, at=50), now=50)
    assert ats(hub) == 14
    tell(hub, push(4, version=2, at=60, location="WH2"), now=60)
    assert ats(hub) == 14


def test_more_units_of_a_told_place_stay_there(hub: Hub) -> None:
    tell(hub, push(50, version=1, at=10), push(5, version=1, at=10, location="WH2"), now=10)
    tell(hub, order(1, at=20, version=1, location="WH2"), order(3, at=30, version=2), now=30)
    assert hub.open(ITEM) == {"WH2": 3}


def test_an_order_that_says_its_place_later_moves_there(hub: Hub) -> None:
    hub.set_role("shop", authority(own=True))
    here = [read(10, at=10, account="shop", location=place) for place in ("WH1", "WH2")]
    tell(hub, *here, order(1, at=20, version=1), order(1, at=30, version=2, location="WH2"), now=30)
    assert hub.open(ITEM) == {"WH2": 1}
    tell(hub, read(10, at=40, account="shop"), now=40)
    assert ats(hub) == 19


def test_an_order_that_is_routed_anew_is_never_counted_as_free(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), push(5, version=1, at=10, location="WH2"), now=10)
    tell(hub, order(1, at=20, references=("R1",)), now=20)
    at_first = ack(1, at=30, version=2, location="WH1", references=("R1",), key="a")
    tell(hub, at_first, push(9, version=2, at=31), now=31)
    let_go = ack(-1, at=40, version=3, location="WH1", references=("R1",), key="b")
    tell(hub, let_go, push(10, version=3, at=41), now=41)
    assert ats(hub) == 14
    anew = ack(1, at=50, version=2, location="WH2", references=("R1",), key="c")
    tell(hub, anew, push(4, version=2, at=51, location="WH2"), now=51)
    assert (ats(hub), hub.open(ITEM)) == (14, {"WH2": 1})


def test_a_sale_is_split_when_no_place_has_all(hub: Hub) -> None:
    tell(hub, push(3, version=1, at=10), push(2, version=1, at=10, location="WH2"), now=10)
    tell(hub, order(4, at=20), now=20)
    assert (ats(hub), hub.open(ITEM)) == (1, {"WH1": 3, "WH2": 1})


def test_an_ack_without_place_counts_once(hub: Hub) -> None:
    tell(hub, push(2, version=1, at=10), push(1, version=1, at=10, location="WH2"), now=10)
    tell(hub, order(3, at=20, references=("R1",)), ack(1, at=30, version=2, references=("R1",)), now=30)
    tell(hub, push(1, version=2, at=31), push(1, version=2, at=31, location="WH2"), now=31)
    assert ats(hub) == 0
    tell(hub, ack(1, at=40, version=2, references=("R1",), key="b"), now=40)
    assert ats(hub) == 1


def test_sales_without_a_place_go_to_the_first_that_is_known(hub: Hub) -> None:
    tell(hub, order(2, at=10), now=10)
    assert (hub.answer(ITEM).known, ats(hub), hub.open(ITEM)) == (False, -2, {"": 2})
    tell(hub, push(10, version=1, at=20), now=20)
    assert (ats(hub), hub.open(ITEM)) == (8, {"WH1": 2})


def test_a_place_that_closes_takes_no_contained_sale_along(hub: Hub) -> None:
    tell(hub, push(50, version=1, at=10), push(60, version=1, at=10, location="WH2"), now=10)
    tell(hub, order(5, at=20, location="WH2", references=("R1",)), now=20)
    shipped = ack(5, at=30, version=2, location="WH2", references=("R1",))
    tell(hub, shipped, push(55, version=2, at=31, location="WH2"), now=31)
    assert ats(hub) == 105
    tell(hub, push(status="C", version=3, at=40, location="WH2"), now=40)
    assert ats(hub) == 50


def test_a_source_that_joins_takes_the_open_sales_as_pending(hub: Hub) -> None:
    hub.set_role("threepl", authority(rank=2, ref=True))
    tell(hub, push(10, version=1, at=10), order(8, at=20, references=("R1",)), now=20)
    tell(hub, ack(8, at=30, version=2, references=("R1",)), push(2, version=2, at=31), now=31)
    assert ats(hub) == 2
    tell(hub, push(10, version=1, at=700_000, account="threepl"), now=700_000)
    assert ats(hub) == 2


def test_a_source_that_joins_alone_lacks_what_the_other_contained(hub: Hub) -> None:
    hub.set_role("threepl", authority(rank=2, ref=True))
    tell(hub, push(10, version=1, at=10), order(8, at=20, references=("R1",)), now=20)
    tell(hub, ack(8, at=30, version=2, references=("R1",)), push(2, version=2, at=31), now=31)
    tell(hub, catalogue(at=40, status="R"), now=40)
    tell(hub, push(10, version=1, at=50, account="threepl"), now=50)
    assert ats(hub) == 2


def test_evidence_that_is_decided_later_counts_when_the_level_is_told_again(hub: Hub) -> None:
    tell(hub, order(1, at=20), now=20)
    tell(hub, read(9, version=2, at=5_000), now=5_000)
    assert ats(hub) == 8
    hub.set_lag("wms", "shop", 1_000)
    tell(hub, push(9, version=2, at=6_000), now=6_000)
    assert ats(hub) == 9


def test_a_level_that_is_told_again_is_no_evidence(hub: Hub) -> None:
    tell(hub, push(9, version=2, at=10), now=10)
    tell(hub, push(9, version=2, at=5_000), now=5_000)
    assert hub.as_of(ITEM) == 10


# Names


def test_a_sale_that_is_known_by_two_names_is_one(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    hold = hub.grant(ONE, 20).hold
    hub.commit(hold, 30, order="1001")
    tell(hub, order(1, at=40, references=(hold,)), order(1, at=50, version=2), now=50)
    assert (ats(hub), hub.open(ITEM)) == (9, {"WH1": 1})


def test_a_reference_that_comes_later_joins_two_lines(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    hold = hub.grant(ONE, 20).hold
    hub.commit(hold, 30)
    tell(hub, order(1, at=40, version=1), now=40)
    assert ats(hub) == 8
    tell(hub, order(1, at=50, version=2, references=(hold,)), now=50)
    assert ats(hub) == 9


def test_an_ack_finds_its_order_when_the_reference_comes_later(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), order(1, at=20, version=1), now=20)
    tell(hub, ack(1, at=30, version=2, references=("R1",)), push(9, version=2, at=31), now=31)
    assert ats(hub) == 8
    tell(hub, order(1, at=40, version=2, references=("R1",)), now=40)
    assert ats(hub) == 9


def test_an_older_state_still_tells_a_name(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), ack(1, at=20, version=2, references=("R1",)), now=20)
    tell(hub, order(1, at=30, version=4), order(1, at=31, version=1, references=("R1",)), now=31)
    tell(hub, push(9, version=2, at=40), now=40)
    assert ats(hub) == 9


def test_two_lines_of_one_order_are_two_sales(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    tell(hub, order(1, at=20, references=("R1",)), order(2, at=20, line="2", references=("R1",)), now=20)
    assert ats(hub) == 7


def test_what_waits_for_one_line_of_an_order_is_not_the_others(hub: Hub) -> None:
    waits = ack(1, at=20, version=2, name="1001", line="1", references=("R1",))
    tell(hub, push(10, version=1, at=10), waits, now=20)
    tell(hub, order(2, at=30, line="2", references=("R1",)), push(9, version=2, at=31), now=31)
    assert ats(hub) == 7
    tell(hub, order(1, at=40, references=("R1",)), now=40)
    assert (ats(hub), hub.open(ITEM)) == (7, {"WH1": 3})


def test_equal_numbers_of_two_shops_are_two_orders(hub: Hub) -> None:
    hub.set_role("market", Role(kind="C", max_age=MAX_AGE, own_items=True, own_places=True))
    tell(hub, push(10, version=1, at=10), now=10)
    tell(hub, order(1, at=20), order(2, at=20, account="market"), now=20)
    assert ats(hub) == 7


def test_another_accounts_copy_of_an_order_moves_nothing(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), order(3, at=20, version=7, references=("R1",)), now=20)
    copy = order(1, at=30, version=99, account="wms", name="W-1", references=("R1",))
    tell(hub, copy, order(4, at=40, version=8), now=40)
    assert ats(hub) == 6


def test_a_pack_takes_its_units(hub: Hub) -> None:
    hub.map_kit("shop", "PACK", [(ITEM, 3), ("MUG-0001", 1)])
    tell(hub, push(10, version=1, at=10), push(4, version=1, at=10, item="MUG-0001"), now=10)
    tell(hub, order(2, at=20, item="PACK"), now=20)
    assert (ats(hub), hub.answer("MUG-0001").ats) == (4, 2)


def test_an_order_on_an_unknown_item_waits_for_its_map(hub: Hub) -> None:
    hub.set_role("shop", Role(kind="C", max_age=MAX_AGE, own_places=True))
    tell(hub, push(10, version=1, at=10), now=10)
    told = tell(hub, order(2, at=20, version=1, item="9"), order(3, at=21, version=2, item="9"), now=21)
    assert (told, ats(hub)) == (["parked", "parked"], 10)
    tell(hub, catalogue(account="shop", item="9", sku=ITEM), now=30)
    assert ats(hub) == 7


def test_open_sales_go_along_when_their_item_becomes_another_sku(hub: Hub) -> None:
    hub.set_role("shop", Role(kind="C", max_age=MAX_AGE, own_places=True))
    hub.map_item("shop", "9", ITEM)
    tell(hub, push(10, version=1, at=10), push(4, version=1, at=10, item="TEE-0002"), now=10)
    tell(hub, order(2, at=20, item="9"), order(1, at=20, item="9", name="1002"), now=20)
    tell(hub, catalogue(account="shop", item="9", sku="TEE-0002"), now=30)
    assert (ats(hub), hub.answer("TEE-0002").ats) == (10, 1)
    assert (hub.open(ITEM), hub.open("TEE-0002")) == ({}, {"WH1": 3})


def test_orders_from_long_before_the_connection_are_history(hub: Hub) -> None:
    connected = 30 * DAY
    hub.set_role("shop", Role(kind="C", max_age=MAX_AGE, own_items=True, connected_at=connected))
    tell(hub, push(10, version=1, at=connected), now=connected)
    old, recent = (connected - days * DAY for days in (8, 6))
    tell(hub, order(1, at=connected, ordered=old), now=connected)
    tell(hub, order(1, at=connected, name="1002", ordered=recent), now=connected)
    assert ats(hub) == 9
