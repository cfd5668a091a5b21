"""Which items are read for a SKU while the store is away, and what follows from what was read."""

from __future__ import annotations

from typing import Any

from synchub.authority.lanes import Pace
from synchub.authority.model import AccountMap, Heard, MerchantMap, Need
from synchub.authority.rules import account_map, answer_from, needs_of
from synchub.connector_kit.events import Level, LevelStatus
from synchub.keyspace import LIST_SEPARATOR as RS
from synchub.keyspace import SEPARATOR as US
from synchub.mappings.model import Mappings, Part
from synchub.policies.model import OnStale, Terms
from synchub.stock.model import Footing
from synchub.stock.rules import footing_of

TERMS = Terms(version=1)


def a_map(**changes: Any) -> AccountMap:
    made: dict[str, Any] = {
        "items": {"TEE": "gid/1"},
        "taken": frozenset({"gid/1"}),
        "places": {"9": "WH1"},
        "own_items": False,
        "own_places": False,
    }
    return AccountMap(**(made | changes))


def footing(*cells: tuple[str, str], sku: str = "TEE", **changes: Any) -> Footing:
    made: dict[str, Any] = {"discontinued": False, "backorder": False, "ref": 100}
    return Footing(sku=sku, cells=cells or (("WH1", "shop"),), **(made | changes))


def known(*footings: Footing, **accounts: AccountMap) -> MerchantMap:
    return MerchantMap(footings={one.sku: one for one in footings}, accounts=accounts)


def heard(*levels: Level, asked_ms: int = 1000) -> Heard:
    return Heard(asked_ms=asked_ms, levels=levels)


def level(quantity: int | None, location: str = "9", **changes: Any) -> Level:
    return Level(item="gid/1", location=location, quantity=quantity, **changes)


def mappings(items: dict[str, str], kits: dict[str, tuple[Part, ...]], total: int) -> Mappings:
    return Mappings(items=items, kits=kits, items_total=total, locations={"9": "WH1"}, decided=(), totals={})


def test_a_mapped_sku_is_read_by_its_item() -> None:
    assert needs_of("TEE", known(footing(), shop=a_map())) == (Need(account="shop", item="gid/1"),)


def test_an_item_that_is_its_own_sku_is_read_by_that_name() -> None:
    own = a_map(items={}, taken=frozenset(), own_items=True)
    assert needs_of("TEE", known(footing(), shop=own)) == (Need(account="shop", item="TEE"),)


def test_an_item_that_is_mapped_elsewhere_is_not_the_sku_of_its_name() -> None:
    own = a_map(items={"MUG": "TEE"}, taken=frozenset({"TEE"}), own_items=True)
    assert needs_of("TEE", known(footing(), shop=own)) == ()


def test_a_sku_of_two_items_cannot_be_computed() -> None:
    both = account_map(mappings({"a": "TEE", "b": "TEE"}, {}, 2), own_items=False, own_places=False)
    assert needs_of("TEE", known(footing(), shop=both)) == ()
    beside = a_map(items={"TEE": "other"}, taken=frozenset({"other"}), own_items=True)
    assert needs_of("TEE", known(footing(), shop=beside)) == ()


def test_a_kit_is_no_item_of_its_parts() -> None:
    kits: dict[str, tuple[Part, ...]] = {"BUNDLE": (Part(sku="TEE", units=2), Part(sku="MUG"))}
    found = account_map(mappings({}, kits, 1), own_items=True, own_places=True)
    assert needs_of("BUNDLE", known(footing(sku="BUNDLE"), shop=found)) == ()
    assert needs_of("TEE", known(footing(), shop=found)) == (Need(account="shop", item="TEE"),)


def test_of_a_map_that_was_not_read_to_its_end_nothing_follows_from_absence() -> None:
    part = account_map(mappings({"gid/1": "TEE"}, {}, 2), own_items=True, own_places=True)
    found = known(footing(), footing(sku="MUG"), shop=part)
    assert needs_of("TEE", found) == (Need(account="shop", item="gid/1"),)
    assert needs_of("MUG", found) == ()


def test_a_sku_that_is_not_kept_or_whose_account_cannot_be_read_is_not_asked_for() -> None:
    assert needs_of("OTHER", known(footing(), shop=a_map())) == ()
    assert needs_of("TEE", known(footing(("WH1", "shop"), ("WH2", "wms")), shop=a_map())) == ()


def test_only_locations_that_count_are_added() -> None:
    found = known(footing(), shop=a_map(places={"9": "WH1", "8": "WH2"}))
    answer = answer_from(footing(), found, {"shop": heard(level(5), level(70, "8"), level(9, "7"))}, TERMS)
    assert answer is not None
    assert (answer.ats, answer.by, answer.as_of_ms, answer.degraded) == (5, "shop", 1000, True)


def test_the_age_is_that_of_the_oldest_part() -> None:
    both = footing(("WH1", "shop"), ("WH2", "wms"))
    found = known(both, shop=a_map(), wms=a_map(places={"9": "WH2"}))
    told = {"shop": heard(level(5), asked_ms=2000), "wms": heard(level(6), asked_ms=1500)}
    answer = answer_from(both, found, told, TERMS)
    assert answer is not None
    assert (answer.ats, answer.by, answer.as_of_ms) == (11, "wms", 1500)


def test_a_part_that_was_not_told_leaves_no_answer() -> None:
    found = known(footing(), shop=a_map())
    unknown = level(None, status=LevelStatus.UNKNOWN)
    untracked = level(None, status=LevelStatus.UNTRACKED)
    for levels in ((), (unknown,), (untracked,), (level(5, "8"),), (level(5), level(6))):
        assert answer_from(footing(), found, {"shop": heard(*levels)}, TERMS) is None


def test_a_closed_location_has_none() -> None:
    closed = heard(level(None, status=LevelStatus.CLOSED))
    answer = answer_from(footing(), known(footing(), shop=a_map()), {"shop": closed}, TERMS)
    assert answer is not None
    assert answer.ats == 0


def test_who_would_rather_say_nothing_than_something_doubtful_is_heeded() -> None:
    found, told = known(footing(), shop=a_map()), {"shop": heard(level(5))}
    for on_stale, is_stale in (
        (OnStale.ANSWER, False),
        (OnStale.ASSUME_IN, False),
        (OnStale.ASSUME_OUT, True),
        (OnStale.ESCALATE, True),
    ):
        answer = answer_from(footing(), found, told, Terms(version=1, on_stale=on_stale))
        assert answer is not None
        assert answer.stale is is_stale


def test_a_stored_answer_says_what_it_rests_on() -> None:
    cells = f"9{US}shop{US}5{US}WH1{US}0{RS}8{US}wms{US}6{US}WH2{US}1{RS}"
    found = footing_of("TEE", f"3|7|11|1|1|0|D|1|0|0|0|40|shop|{cells}".encode())
    assert found.cells == (("WH1", "shop"), ("WH2", "wms"))
    assert (found.discontinued, found.backorder, found.ref) == (True, True, 40)


def test_what_is_gone_or_has_no_number_rests_on_nothing() -> None:
    cell = f"9{US}shop{US}5{US}WH1{US}0{RS}"
    assert footing_of("TEE", f"3|7|11|1|0|0|A|0|0|0|0|0|shop|{cell}".encode()).cells == ()
    assert footing_of("TEE", f"3|7|11|1|1|1|A|0|0|0|0|0|shop|{cell}".encode()).cells == ()
    assert footing_of("TEE", None).cells == ()


def test_no_second_has_more_calls_than_allowed() -> None:
    pace, begun, now = Pace(2), [], 0.0
    while now < 10:
        if not pace.wait_s(now):
            pace.count(now)
            begun.append(now)
        now += 0.01
    assert all(third - first >= 1 for first, third in zip(begun, begun[2:], strict=False))
    assert len(begun) >= 18


def test_less_than_one_call_a_second_is_one_in_several() -> None:
    pace = Pace(0.5)
    pace.count(0)
    assert pace.wait_s(0.5) == 1.5
    assert pace.wait_s(2.0) == 0
