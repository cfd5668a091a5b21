"""Whose item is what, and which of several sources counts: packs, kits, new names, second items.

Everything runs on the shipped scripts in a real Valkey. ``wms`` acknowledges and counts, ``shop`` takes
orders; times are milliseconds on the merchant's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from synchub.stock.rules import mapping_row
from tests.support.reference_answer import Role
from tests.support.rows import ITEM, ack, catalogue, delta, order, push, read
from tests.support.sales_driver import SalesDriver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from tests.support.rows import Row
    from tests.support.valkey import Valkey

MAX_AGE: Final = 600_000
MUG: Final = "MUG-0001"
CAP: Final = "CAP-0001"


@pytest.fixture
def client(valkey: Valkey) -> Iterator[Redis]:
    valkey.flush()
    with valkey.client() as opened:
        yield opened


@pytest.fixture
def hub(client: Redis) -> SalesDriver:
    """A warehouse that names SKUs, and a shop with ids of its own."""
    hub = SalesDriver(client, "demo")
    hub.set_role("wms", authority(ref=True))
    hub.set_role("shop", Role(kind="C", max_age=MAX_AGE, own_places=True))
    return hub


def authority(*, rank: int = 1, own: bool = False, ref: bool = False, own_items: bool = True) -> Role:
    return Role(
        kind="A",
        rank=rank,
        max_age=MAX_AGE,
        own_items=own_items,
        own_places=True,
        fetches=True,
        own=own,
        ref=ref,
    )


def tell(hub: SalesDriver, *rows: Row, now: int) -> list[str]:
    return [outcome for outcome, _ in hub.apply(rows, now)]


def map_to(hub: SalesDriver, item: str, *parts: tuple[str, int], now: int, account: str = "shop") -> str:
    """Map as a person does."""
    text = "\x1e".join(f"{sku}\x1f{units}" for sku, units in parts)
    mapped = parts[0][0] if len(parts) == 1 and parts[0][1] == 1 else text
    (outcome,) = tell(hub, mapping_row(account, item, mapped, at_ms=now), now=now)
    return outcome


def stock(hub: SalesDriver, *skus: str) -> list[int]:
    return [hub.answer(sku).ats for sku in skus]


# Packs and kits


def test_an_order_that_waits_for_its_map_takes_the_units_of_a_kit(hub: SalesDriver) -> None:
    tell(hub, push(10, version=1, at=10), push(10, version=1, at=10, item=MUG), now=10)
    assert tell(hub, order(2, at=20, item="9"), now=20) == ["parked"]
    assert map_to(hub, "9", (ITEM, 3), (MUG, 1), now=30) == "released"
    assert stock(hub, ITEM, MUG) == [4, 8]


def test_a_level_of_a_kit_counts_for_nothing_and_waits_for_nothing(hub: SalesDriver) -> None:
    hub.set_role("shop", authority(rank=2, own_items=False))
    map_to(hub, "9", (ITEM, 3), now=10)
    assert tell(hub, push(7, version=1, at=20, account="shop", item="9"), now=20) == ["kit_level"]
    assert (hub.skus(), hub.parked_since()) == ([], {})


def test_a_platforms_catalogue_does_not_undo_a_kit_that_a_person_has_made(hub: SalesDriver) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    map_to(hub, "9", (ITEM, 3), now=20)
    tell(hub, catalogue(account="shop", item="9", sku="TEE-3PACK", at=30), order(1, at=31, item="9"), now=31)
    assert stock(hub, ITEM) == [7]


def test_open_sales_follow_their_item_into_a_kit_and_back(hub: SalesDriver) -> None:
    tell(hub, *(push(20, version=1, at=10, item=item) for item in (ITEM, MUG, CAP)), now=10)
    map_to(hub, "9", (ITEM, 1), now=15)
    tell(hub, order(2, at=20, item="9", version=1), now=20)
    map_to(hub, "9", (ITEM, 3), (MUG, 1), now=30)
    assert stock(hub, ITEM, MUG, CAP) == [14, 18, 20]
    map_to(hub, "9", (MUG, 2), (CAP, 1), now=40)
    assert stock(hub, ITEM, MUG, CAP) == [20, 16, 18]
    tell(hub, order(1, at=50, item="9", version=2), now=50)
    assert stock(hub, ITEM, MUG, CAP) == [20, 16, 18]
    map_to(hub, "9", (ITEM, 1), now=60)
    assert stock(hub, ITEM, MUG, CAP) == [18, 20, 20]


def test_a_sale_that_moves_keeps_its_names(hub: SalesDriver) -> None:
    tell(hub, push(20, version=1, at=10), push(20, version=1, at=10, item=MUG), now=10)
    map_to(hub, "9", (ITEM, 1), now=15)
    tell(hub, order(2, at=20, item="9", version=1, references=("R1",)), now=20)
    map_to(hub, "9", (MUG, 1), now=30)
    tell(
        hub,
        ack(2, at=40, version=2, item=MUG, references=("R1",)),
        push(18, version=2, at=41, item=MUG),
        now=41,
    )
    assert stock(hub, ITEM, MUG) == [20, 18]
    assert tell(hub, order(2, at=50, item="9", version=1), now=50) == ["duplicate"]


def test_a_sale_that_a_level_contains_moves_as_well(hub: SalesDriver) -> None:
    hub.set_role("shop", authority(own=True, own_items=False))
    map_to(hub, "9", (ITEM, 1), now=5)
    tell(hub, read(10, at=10, account="shop", item="9"), order(1, at=20, item="9"), now=20)
    tell(hub, read(9, at=30, account="shop", item="9"), now=30)
    assert stock(hub, ITEM) == [9]
    map_to(hub, "9", (MUG, 1), now=40)
    tell(hub, read(9, at=50, account="shop", item="9"), now=50)
    assert (hub.answer(ITEM).known, hub.open(ITEM), stock(hub, MUG)) == (False, {}, [9])


def test_a_sale_of_which_the_place_is_known_stays_there_when_it_moves(hub: SalesDriver) -> None:
    for item in (ITEM, MUG):
        tell(hub, *(push(20, version=1, at=10, item=item, location=at) for at in ("WH1", "WH2")), now=10)
    map_to(hub, "9", (ITEM, 1), now=15)
    tell(hub, order(2, at=20, item="9", version=1, location="WH2"), now=20)
    tell(hub, order(3, at=21, item="9", version=1, name="1002"), now=21)
    tell(hub, ack(3, at=22, version=2, name="1002", location="WH1"), now=22)
    map_to(hub, "9", (MUG, 1), now=30)
    assert (stock(hub, ITEM, MUG), hub.open(MUG)) == ([40, 35], {"WH1": 3, "WH2": 2})


# New names


def test_a_sku_that_nobody_reports_under_its_name_any_more_is_gone(hub: SalesDriver) -> None:
    hub.set_role("shop", authority(own_items=False))
    map_to(hub, "9", (ITEM, 1), now=5)
    tell(hub, push(10, version=1, at=10, account="shop", item="9"), now=10)
    map_to(hub, "9", (MUG, 1), now=20)
    assert (hub.answer(ITEM).gone, hub.answer(ITEM).known) == (True, False)
    assert hub.feed[-1].answer.gone
    tell(hub, push(8, version=2, at=30, account="shop", item="9"), now=30)
    assert (hub.answer(MUG).gone, stock(hub, MUG)) == (False, [8])
    map_to(hub, "9", (ITEM, 1), now=40)
    tell(hub, push(7, version=3, at=50, account="shop", item="9"), now=50)
    assert (hub.answer(ITEM).gone, stock(hub, ITEM), hub.answer(MUG).gone) == (False, [7], True)


def test_what_waited_keeps_its_version_and_its_time(hub: SalesDriver) -> None:
    hub.set_role("shop", authority(own_items=False))
    tell(hub, push(10, version=7, at=10, account="shop", item="9"), now=10)
    map_to(hub, "9", (ITEM, 1), now=500_000)
    (source,) = hub.sources(ITEM).values()
    assert (source.version, source.pushed_at, source.evidence) == (7, 10, 10)


# Two items of one account at one place


@pytest.fixture
def twins(hub: SalesDriver) -> SalesDriver:
    """Two listings of a shop that keeps its own stock are one SKU; the first has reported."""
    hub.set_role("wms", Role(kind="C", max_age=MAX_AGE, own_items=True, own_places=True))
    hub.set_role("shop", authority(own=True, own_items=False))
    for item in ("9", "8"):
        map_to(hub, item, (ITEM, 1), now=1)
    tell(hub, listing("9", 10, at=10), now=10)
    return hub


def listing(item: str, quantity: int, *, at: int, status: str = "K") -> Row:
    return read(quantity, at=at, account="shop", item=item, status=status)


def test_a_second_item_waits_until_a_person_has_said_how_it_counts(twins: SalesDriver) -> None:
    assert tell(twins, listing("8", 4, at=20), now=20) == ["parked"]
    assert stock(twins, ITEM) == [10]
    assert tell(twins, listing("9", 9, at=30), now=30) == ["applied"]
    tell(twins, catalogue(account="shop", item="8", at=40), now=40)
    assert (stock(twins, ITEM), list(twins.parked_since())) == ([9], [("shop", "8")])


def test_items_that_add_up_add_up(twins: SalesDriver) -> None:
    tell(twins, listing("8", 4, at=20), now=20)
    twins.decide("shop", ITEM, "WH1", "sum")
    tell(twins, catalogue(account="shop", item="8", at=30), now=30)
    assert (stock(twins, ITEM), twins.parked_since()) == ([14], {})
    tell(twins, listing("8", 3, at=40), now=40)
    assert stock(twins, ITEM) == [13]


def test_items_of_one_pool_are_counted_once_by_the_better_evidence(twins: SalesDriver) -> None:
    twins.decide("shop", ITEM, "WH1", "same")
    assert tell(twins, listing("8", 4, at=20), now=20) == ["applied"]
    assert stock(twins, ITEM) == [4]


def test_an_order_of_one_item_is_off_that_items_number_alone(twins: SalesDriver) -> None:
    twins.decide("shop", ITEM, "WH1", "sum")
    tell(twins, listing("8", 4, at=20), order(1, at=25, item="8", location="WH1"), now=25)
    assert stock(twins, ITEM) == [13]
    tell(twins, listing("9", 10, at=30), now=30)
    assert stock(twins, ITEM) == [13]
    tell(twins, listing("8", 3, at=40), now=40)
    assert stock(twins, ITEM) == [13]


def test_the_sale_of_another_account_is_off_until_both_items_contain_it(twins: SalesDriver) -> None:
    twins.decide("shop", ITEM, "WH1", "sum")
    twins.set_lag("shop", "wms", 10)
    tell(twins, listing("8", 4, at=20), order(1, at=25, account="wms", location="WH1"), now=25)
    assert stock(twins, ITEM) == [12]
    tell(twins, listing("8", 3, at=40), now=40)
    assert stock(twins, ITEM) == [12]
    tell(twins, listing("9", 10, at=50), now=50)
    assert stock(twins, ITEM) == [13]


def test_of_items_that_add_up_the_oldest_says_how_fresh_they_are(twins: SalesDriver) -> None:
    twins.decide("shop", ITEM, "WH1", "sum")
    tell(twins, listing("8", 4, at=MAX_AGE), now=MAX_AGE)
    assert (stock(twins, ITEM), twins.answer(ITEM).stale) == ([14], False)
    twins.pass_time(MAX_AGE + 11)
    assert (stock(twins, ITEM), twins.answer(ITEM).stale) == ([14], True)


def test_a_changes_only_item_waits_as_well_and_counts_each_change_once(twins: SalesDriver) -> None:
    row = delta(-1, at=20, account="shop", item="8", op="d-1")
    assert tell(twins, row, row, now=20) == ["parked", "parked"]
    twins.decide("shop", ITEM, "WH1", "sum")
    tell(twins, catalogue(account="shop", item="8", at=30), listing("8", 3, at=15), now=30)
    assert stock(twins, ITEM) == [12]


def test_the_successor_of_a_removed_item_needs_nobody(twins: SalesDriver) -> None:
    tell(twins, catalogue(account="shop", item="9", status="R", at=20), now=20)
    assert tell(twins, listing("8", 4, at=30), now=30) == ["applied"]
    assert stock(twins, ITEM) == [4]


def test_a_merchant_that_wants_to_be_asked_is_asked_about_every_further_source(hub: SalesDriver) -> None:
    hub.set_role("threepl", authority(rank=2, ref=True))
    hub.set_general(asks_first="1")
    assert tell(hub, push(10, version=1, at=10), now=10) == ["applied"]
    elsewhere = push(5, version=1, at=20, location="WH2")
    other = push(7, version=1, at=20, account="threepl")
    assert tell(hub, elsewhere, other, now=20) == ["parked", "parked"]
    hub.decide("wms", ITEM, "WH2", "yes")
    tell(hub, catalogue(at=30), now=30)
    assert stock(hub, ITEM) == [15]
    hub.decide("threepl", "", "", "yes")
    tell(hub, catalogue(account="threepl", at=40), now=40)
    assert {name.account for name in hub.sources(ITEM)} == {"wms", "threepl"}


# Totals


@pytest.fixture
def totals(hub: SalesDriver) -> SalesDriver:
    """An ERP tells one number for WH1 and WH2 together."""
    hub.set_role("erp", authority(rank=2, ref=True))
    hub.set_total("ALL", "WH1", "WH2")
    tell(hub, total(20, version=1, at=10), now=10)
    return hub


def total(quantity: int, *, version: int, at: int) -> Row:
    return push(quantity, version=version, at=at, account="erp", location="ALL")


def test_a_total_counts_where_nobody_counts_its_places(totals: SalesDriver) -> None:
    assert (stock(totals, ITEM), [cell.place for cell in totals.answer(ITEM).cells]) == ([20], ["ALL"])


def test_a_total_is_never_added_to_its_places(totals: SalesDriver) -> None:
    tell(totals, push(7, version=1, at=20), now=20)
    assert stock(totals, ITEM) == [7]
    tell(totals, push(6, version=1, at=30, location="WH2"), total(50, version=2, at=31), now=31)
    assert stock(totals, ITEM) == [13]
    tell(totals, push(5, version=1, at=40, location="WH3"), now=40)
    assert stock(totals, ITEM) == [18]


def test_a_total_of_everything_counts_beside_nothing(totals: SalesDriver) -> None:
    totals.set_total("ALL", "*")
    tell(totals, push(5, version=1, at=40, location="WH3"), now=40)
    assert stock(totals, ITEM) == [5]


def test_a_place_that_is_closed_leaves_the_total_its_say(totals: SalesDriver) -> None:
    tell(totals, push(7, version=1, at=20), push(status="C", version=2, at=30), now=30)
    assert stock(totals, ITEM) == [20]


def test_what_is_sold_at_a_place_is_sold_of_the_total_and_included_by_it(totals: SalesDriver) -> None:
    tell(totals, order(2, at=20, account="wms", location="WH2", references=("R1",)), now=20)
    assert (stock(totals, ITEM), totals.open(ITEM)) == ([18], {"ALL": 2})
    taken = ack(2, at=30, version=2, account="erp", references=("R1",))
    tell(totals, taken, total(18, version=2, at=31), now=31)
    assert stock(totals, ITEM) == [18]


def test_a_place_that_joins_takes_the_sales_of_the_total_as_pending(totals: SalesDriver) -> None:
    tell(totals, order(2, at=20, account="wms", references=("R1",)), now=20)
    taken = ack(2, at=30, version=2, account="erp", references=("R1",))
    tell(totals, taken, total(18, version=2, at=31), push(9, version=1, at=40), now=40)
    assert (stock(totals, ITEM), totals.open(ITEM)) == ([7], {"WH1": 2})


def test_a_place_that_was_not_counted_before_takes_them_when_it_is(totals: SalesDriver) -> None:
    tell(totals, push(status="T", version=1, at=15), now=15)
    tell(totals, order(2, at=20, account="wms", references=("R1",)), now=20)
    taken = ack(2, at=30, version=2, account="erp", references=("R1",))
    tell(totals, taken, total(18, version=2, at=31), push(9, version=2, at=40), now=40)
    assert (stock(totals, ITEM), totals.open(ITEM)) == ([7], {"WH1": 2})
