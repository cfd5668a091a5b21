"""Sales and holds, one rule at a time, with numbers worked out by hand.

Every example runs on the shipped scripts in a real Valkey and on the reference model. Times are
milliseconds on the merchant's clock. ``wms`` acknowledges (`ref`), ``shop`` takes orders and is
no authority unless the example says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.reference_answer import Role
from tests.support.reference_holds import Terms, Wish
from tests.support.reference_model import ReferenceModel
from tests.support.rows import ITEM, ack, cancel, catalogue, order, push, read, watermark
from tests.support.sales_driver import SalesDriver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.rows import Row
    from tests.support.valkey import Valkey

    Hub = ReferenceModel | SalesDriver

MAX_AGE: Final = 600_000
DAY: Final = 86_400_000
SECOND_US: Final = 1_000_000
ONE: Final = [Wish(ITEM, 1)]


@pytest.fixture(params=["script", "model"])
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    """A merchant with a warehouse that acknowledges, and a shop."""
    if request.param == "model":
        yield connected(ReferenceModel())
        return
    valkey: Valkey = request.getfixturevalue("valkey")
    valkey.flush()
    with valkey.client() as client:
        yield connected(SalesDriver(client, "demo"))


def connected(hub: Hub) -> Hub:
    hub.set_role("wms", _authority(ref=True))
    hub.set_role("shop", Role(kind="C", max_age=MAX_AGE, own_items=True, own_places=True))
    return hub


def _authority(*, rank: int = 1, own: bool = False, ref: bool = False) -> Role:
    return Role(
        kind="A", rank=rank, max_age=MAX_AGE, own_items=True, own_places=True, fetches=True, own=own, ref=ref
    )


def tell(hub: Hub, *rows: Row, now: int) -> list[str]:
    return [outcome for outcome, _ in hub.apply(rows, now)]


def ats(hub: Hub) -> int:
    return hub.answer(ITEM).ats


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
    hub.set_role("shop", _authority(own=True))
    tell(hub, push(10, version=5 * SECOND_US, at=10, account="shop", scale="T"), now=10)
    tell(hub, order(1, at=20, happened=6 * SECOND_US), now=20)
    told = []
    for version in (6 * SECOND_US, 6 * SECOND_US + 1):
        tell(hub, push(9, version=version, at=30, account="shop", scale="T"), now=30)
        told.append(ats(hub))
    assert told == [8, 9]


def test_an_authority_contains_its_own_orders_in_a_later_read(hub: Hub) -> None:
    hub.set_role("shop", _authority(own=True))
    tell(hub, read(10, at=10, account="shop"), order(1, at=20), now=20)
    told = []
    for at in (20, 21):
        tell(hub, read(9, at=at, account="shop"), now=30)
        told.append(ats(hub))
    assert told == [8, 9]


def test_a_lagging_importer_contains_a_sale_after_its_lag(hub: Hub) -> None:
    hub.set_role("wms", _authority())
    hub.set_lag("wms", "shop", 1000)
    tell(hub, read(10, at=10), order(1, at=20), now=20)
    told = []
    for at in (1019, 1020):
        tell(hub, read(9, at=at), now=1100)
        told.append(ats(hub))
    assert told == [8, 9]


def test_the_lag_of_our_own_sale_begins_when_somebody_confirms_it(hub: Hub) -> None:
    hub.set_role("wms", _authority())
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
    hub.set_role("shop", _authority(own=True))
    here = [read(10, at=10, account="shop", location=place) for place in ("WH1", "WH2")]
    tell(hub, *here, order(1, at=20), now=20)
    tell(hub, read(10, at=30, account="shop"), now=30)
    assert ats(hub) == 19
    tell(hub, read(9, at=31, account="shop", location="WH2"), now=31)
    assert ats(hub) == 19


def test_an_order_is_taken_from_its_own_shops_shelf(hub: Hub) -> None:
    hub.set_role("shop", _authority(rank=2, own=True))
    tell(hub, push(50, version=1, at=10), read(3, at=10, account="shop", location="SHELF"), now=10)
    tell(hub, order(1, at=20), read(2, at=30, account="shop", location="SHELF"), now=30)
    assert (ats(hub), hub.open(ITEM)) == (52, {"SHELF": 1})


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
    hub.set_role("threepl", _authority(rank=2, ref=True))
    tell(
        hub, push(50, version=1, at=10), push(5, version=1, at=10, location="WH2", account="threepl"), now=10
    )
    first = ack(1, at=20, version=2, account="threepl", location="WH2", references=("R1",))
    tell(hub, first, order(1, at=30, references=("R1",)), now=30)
    assert (ats(hub), hub.open(ITEM)) == (54, {"WH2": 1})
    tell(hub, push(4, version=2, at=40, location="WH2", account="threepl"), now=40)
    assert ats(hub) == 54


def test_partial_acks_elsewhere_move_all_that_they_name(hub: Hub) -> None:
    hub.set_role("threepl", _authority(rank=2, ref=True))
    tell(
        hub, push(50, version=1, at=10), push(5, version=1, at=10, location="WH2", account="threepl"), now=10
    )
    tell(hub, order(3, at=20, references=("R1",)), now=20)
    for number, units in enumerate((2, 1), 2):
        shipped = ack(units, at=30, version=number, account="threepl", location="WH2", references=("R1",))
        tell(hub, (*shipped[:11], f"shipment-{number}", *shipped[12:]), now=30)
    assert hub.open(ITEM) == {"WH2": 3}


def test_more_units_of_a_told_place_stay_there(hub: Hub) -> None:
    tell(hub, push(50, version=1, at=10), push(5, version=1, at=10, location="WH2"), now=10)
    tell(hub, order(1, at=20, version=1, location="WH2"), order(3, at=30, version=2), now=30)
    assert hub.open(ITEM) == {"WH2": 3}


def test_an_order_that_says_its_place_later_moves_there(hub: Hub) -> None:
    hub.set_role("shop", _authority(own=True))
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
    hub.set_role("threepl", _authority(rank=2, ref=True))
    tell(hub, push(10, version=1, at=10), order(8, at=20, references=("R1",)), now=20)
    tell(hub, ack(8, at=30, version=2, references=("R1",)), push(2, version=2, at=31), now=31)
    assert ats(hub) == 2
    tell(hub, push(10, version=1, at=700_000, account="threepl"), now=700_000)
    assert ats(hub) == 2


def test_a_source_that_joins_alone_lacks_what_the_other_contained(hub: Hub) -> None:
    hub.set_role("threepl", _authority(rank=2, ref=True))
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


# Holds


def test_a_hold_lowers_what_others_may_have_and_a_commit_moves_nothing(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    held = hub.grant([Wish(ITEM, 3)], 20)
    assert (held.first, ats(hub), hub.answer(ITEM).held) == ("held", 7, 3)
    assert hub.commit(held.hold, 30).first == "done"
    assert (ats(hub), hub.answer(ITEM).held, hub.open(ITEM)) == (7, 0, {"WH1": 3})


def test_a_hold_is_granted_on_all_lines_or_none(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), push(1, version=1, at=10, item="MUG-0001"), now=10)
    refused = hub.grant([Wish(ITEM, 3), Wish("MUG-0001", 2)], 20)
    assert (refused.reason, ats(hub)) == ("insufficient", 10)


def test_lines_of_one_sku_are_summed(hub: Hub) -> None:
    tell(hub, push(5, version=1, at=10), now=10)
    assert hub.grant([Wish(ITEM, 3), Wish(ITEM, 3)], 20).reason == "insufficient"
    assert hub.grant([Wish(ITEM, 3), Wish(ITEM, 2)], 20).first == "held"


def test_lines_of_one_place_are_summed(hub: Hub) -> None:
    tell(hub, push(4, version=1, at=10), push(50, version=1, at=10, location="WH2"), now=10)
    assert hub.grant([Wish(ITEM, 3, "WH1"), Wish(ITEM, 3, "WH1")], 20).reason == "insufficient"
    assert hub.grant([Wish(ITEM, 3, "WH1")], 20).first == "held"
    assert hub.grant([Wish(ITEM, 2, "WH1")], 20).reason == "insufficient"


def test_what_is_not_split_must_lie_in_one_place(hub: Hub) -> None:
    tell(hub, push(3, version=1, at=10), push(4, version=1, at=10, location="WH2"), now=10)
    whole = Terms(split=False)
    assert hub.grant([Wish(ITEM, 5)], 20, terms=whole).reason == "insufficient"
    assert hub.grant([Wish(ITEM, 4)], 20, terms=whole).first == "held"


def test_at_its_deadline_a_hold_is_over_in_every_verb(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    held = hub.grant(ONE, 1000, ttl_ms=2000).hold
    assert hub.renew(held, 2000, 2999).deadline == 4999
    assert [hub.renew(held, 9, 4999).first, hub.commit(held, 4999).first] == ["over", "over"]
    assert (ats(hub), hub.answer(ITEM).held) == (10, 0)


def test_renewing_never_shortens_and_ends_at_three_lives(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    held = hub.grant(ONE, 1000, mode="intent", ttl_ms=5000).hold
    assert [hub.renew(held, 1000, 2000).deadline, hub.renew(held, 5000, 5000).deadline] == [6000, 10_000]
    hub.renew(held, 5000, 9000)
    assert hub.renew(held, 5000, 13_000).deadline == 16_000


def test_time_alone_ends_a_hold(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    hub.grant(ONE, 1000, ttl_ms=2000)
    head = hub.head
    hub.pass_time(3000)
    assert (ats(hub), hub.head[0]) == (10, head[0] + 1)
    hub.pass_time(3001)
    assert hub.head[0] == head[0] + 1


def test_a_repeat_gets_the_first_answer_and_the_present_status(hub: Hub) -> None:
    tell(hub, push(1, version=1, at=10), now=10)
    first = hub.grant(ONE, 1000, key="k")
    hub.commit(first.hold, 1100, key="c")
    again = hub.grant(ONE, 1200, key="k")
    assert (again.hold, again.deadline, again.status) == (first.hold, first.deadline, "committed")
    assert hub.commit(first.hold, 90_000, key="c").first == "done"
    assert hub.grant([Wish(ITEM, 2)], 1300, key="k").first == "mismatch"
    assert (ats(hub), hub.open(ITEM)) == (0, {"WH1": 1})


def test_replacing_a_hold_does_not_stand_in_its_own_way(hub: Hub) -> None:
    tell(hub, push(3, version=1, at=10), now=10)
    first = hub.grant([Wish(ITEM, 2)], 20).hold
    assert hub.grant([Wish(ITEM, 3)], 30, replaces=first).first == "held"
    assert (ats(hub), hub.commit(first, 40).first) == (0, "over")


def test_what_an_order_took_of_a_hold_cannot_be_replaced(hub: Hub) -> None:
    tell(hub, push(4, version=1, at=10), push(9, version=1, at=10, item="MUG-0001"), now=10)
    first = hub.grant([Wish(ITEM, 2), Wish("MUG-0001", 1)], 20).hold
    tell(hub, order(2, at=30, references=(first,)), now=30)
    assert (ats(hub), hub.answer("MUG-0001").held) == (2, 1)
    assert hub.grant([Wish(ITEM, 3)], 40, replaces=first).reason == "insufficient"


def test_an_order_that_names_a_live_hold_is_its_commit(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    held = hub.grant([Wish(ITEM, 2)], 20).hold
    tell(hub, order(2, at=30, references=(held,)), now=30)
    assert (ats(hub), hub.answer(ITEM).held, hub.open(ITEM)) == (8, 0, {"WH1": 2})
    assert hub.commit(held, 40).status == "committed"
    assert ats(hub) == 8


def test_a_known_order_that_names_a_live_hold_later_takes_it_in(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), order(2, at=15, version=1), now=15)
    held = hub.grant([Wish(ITEM, 3)], 20).hold
    tell(hub, order(2, at=30, version=2, references=(held,)), now=30)
    assert (ats(hub), hub.answer(ITEM).held, hub.open(ITEM)) == (8, 0, {"WH1": 2})


def test_an_ack_of_another_line_leaves_a_line_its_name(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), ack(-1, at=20, version=5, name="1002", line="1"), now=20)
    about: dict[str, Any] = {"version": 2, "name": "1002", "line": "2", "references": ("R2",)}
    tell(hub, order(4, at=30, **about), now=30)
    tell(hub, ack(1, at=40, version=3, name="1002", line="1", references=("R2",)), now=40)
    assert tell(hub, order(2, at=50, **about), now=50) == ["superseded"]
    assert hub.open(ITEM) == {"WH1": 4}


def test_an_order_that_names_a_dead_hold_is_a_sale_of_its_own_and_told(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    held = hub.grant(ONE, 1000, ttl_ms=2000).hold
    tell(hub, order(1, at=4000, references=(held,)), now=4000)
    assert ats(hub) == 9
    assert f"dead_hold:{held}" in hub.ledger[-1].cause


def test_the_commit_of_an_order_that_is_known_already_joins_it(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    held = hub.grant(ONE, 20).hold
    tell(hub, order(1, at=30), now=30)
    assert ats(hub) == 8
    hub.commit(held, 40, order="1001")
    assert (ats(hub), hub.open(ITEM)) == (9, {"WH1": 1})


def test_what_is_beyond_the_stock_is_a_conflict_by_rank(hub: Hub) -> None:
    tell(hub, push(2, version=1, at=10), now=10)
    terms = Terms(conflict="void")
    first, second = (hub.grant(ONE, at, terms=terms).hold for at in (20, 30))
    tell(hub, push(1, version=2, at=40), now=40)
    assert [hub.commit(first, 50).first, hub.commit(second, 60).first] == ["done", "conflict"]
    assert (ats(hub), hub.answer(ITEM).held) == (0, 0)


def test_a_conflict_may_be_honoured(hub: Hub) -> None:
    tell(hub, push(1, version=1, at=10), now=10)
    held = hub.grant(ONE, 20).hold
    tell(hub, push(0, version=2, at=30), now=30)
    told = hub.commit(held, 40)
    assert (told.first, told.reason, told.status, ats(hub)) == ("done", "conflict", "committed", -1)


def test_who_pays_late_gets_it_if_it_is_still_there(hub: Hub) -> None:
    tell(hub, push(2, version=1, at=10), now=10)
    first, second = (hub.grant([Wish(ITEM, 2)], at, ttl_ms=1000).hold for at in (1000, 3000))
    assert hub.commit(first, 3500, regrants=True).first == "over"
    assert hub.commit(second, 5000, regrants=True).first == "done"
    assert (ats(hub), hub.answer(ITEM).held, hub.open(ITEM)) == (0, 0, {"WH1": 2})


def test_a_confirmation_is_final_at_its_deadline_or_void(hub: Hub) -> None:
    tell(hub, push(2, version=1, at=10), now=10)
    terms = Terms(conflict="void", confirm_ms=5000)
    first, second = (hub.grant(ONE, at, terms=terms).hold for at in (20, 30))
    hub.commit(first, 100)
    told = hub.commit(second, 200)
    assert (told.status, ats(hub)) == ("confirming", 0)
    hub.pass_time(5100)
    tell(hub, push(1, version=2, at=5150), now=5150)
    assert ats(hub) == -1
    hub.pass_time(5200)
    assert (ats(hub), hub.commit(first, 5300).status, hub.commit(second, 5300).status) == (
        0,
        "committed",
        "voided",
    )


def test_a_share_is_taken_of_what_was_received(hub: Hub) -> None:
    tell(hub, push(1000, version=1, at=10), now=10)
    share = Terms(buffer_bp=1000)
    assert hub.grant([Wish(ITEM, 901)], 20, terms=share).reason == "insufficient"
    assert hub.grant([Wish(ITEM, 900)], 20, terms=share).first == "held"
    assert hub.grant(ONE, 30, terms=share).reason == "insufficient"
    tell(hub, push(1100, version=2, at=40), now=40)
    assert hub.answer(ITEM).ref == 1100
    assert hub.grant([Wish(ITEM, 91)], 50, terms=share).reason == "insufficient"
    assert hub.grant([Wish(ITEM, 90)], 50, terms=share).first == "held"


def test_a_share_is_taken_anew_each_day(hub: Hub) -> None:
    tell(hub, push(1000, version=1, at=10), now=10)
    tell(hub, push(500, version=2, at=20), now=20)
    assert hub.answer(ITEM).ref == 1000
    tell(hub, push(490, version=3, at=DAY), now=DAY)
    assert hub.answer(ITEM).ref == 490


def test_buffers_are_rounded_up_and_allowances_down(hub: Hub) -> None:
    tell(hub, push(9, version=1, at=10), now=10)
    assert hub.grant([Wish(ITEM, 9)], 20, terms=Terms(buffer_bp=1)).reason == "insufficient"
    assert hub.grant([Wish(ITEM, 10)], 20, terms=Terms(allowance_bp=1111)).reason == "insufficient"
    assert hub.grant([Wish(ITEM, 10)], 20, terms=Terms(allowance_bp=1112)).first == "held"
    assert ats(hub) == -1


def test_a_channel_has_no_more_than_its_cap(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    capped = Terms(channel_cap=2)
    hub.commit(hub.grant(ONE, 20, terms=capped).hold, 30)
    hub.release(hub.grant(ONE, 40, terms=capped).hold, 50)
    assert hub.grant([Wish(ITEM, 2)], 60, terms=capped).reason == "channel_cap"
    assert hub.grant(ONE, 70, terms=capped).first == "held"
    assert hub.grant([Wish(ITEM, 2)], 80, terms=capped, channel="voice").first == "held"


# What time alone does


def test_a_source_that_falls_silent_is_told(hub: Hub) -> None:
    tell(hub, push(5, version=1, at=10), now=10)
    hub.pass_time(10 + MAX_AGE)
    assert not hub.answer(ITEM).stale
    hub.pass_time(11 + MAX_AGE)
    answer = hub.answer(ITEM)
    assert (answer.stale, answer.degraded, answer.ats, hub.head) == (True, True, 5, (2, 2))


def test_an_account_that_is_complete_again_makes_its_items_fresh(hub: Hub) -> None:
    tell(hub, push(5, version=1, at=10), now=10)
    hub.pass_time(11 + MAX_AGE)
    tell(hub, watermark(20 + MAX_AGE), now=20 + MAX_AGE)
    hub.pass_time(21 + MAX_AGE)
    assert (hub.answer(ITEM).stale, hub.head) == (False, (3, 3))


def test_a_second_source_takes_over_when_time_has_come(hub: Hub) -> None:
    hub.set_role("threepl", _authority(rank=2, ref=True))
    tell(hub, push(5, version=1, at=10), push(3, version=1, at=MAX_AGE, account="threepl"), now=MAX_AGE)
    assert ats(hub) == 5
    hub.pass_time(11 + MAX_AGE)
    answer = hub.answer(ITEM)
    assert (answer.ats, answer.by, answer.degraded, answer.stale) == (3, "threepl", True, False)


def test_sales_that_all_contain_retire_after_a_week(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), order(1, at=20, references=("R1",)), now=20)
    tell(hub, order(2, at=20, name="1002"), now=20)
    tell(hub, ack(1, at=30, version=2, references=("R1",)), push(9, version=2, at=31), now=31)
    hub.pass_time(7 * DAY + 20)
    assert (ats(hub), hub.open(ITEM)) == (7, {"WH1": 2})
