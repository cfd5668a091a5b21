"""How reports become the truth, one rule at a time, with numbers worked out by hand.

Every example runs twice: on the shipped script in a real Valkey and on the reference
model, so that neither can lean on the other. Times are milliseconds on the merchant's
clock; a source without news for 1,000 ms is stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.apply_driver import ApplyDriver
from tests.support.reference_answer import Role
from tests.support.reference_model import ReferenceModel
from tests.support.rows import ITEM, catalogue, delta, push, read, tickle, watermark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.rows import Row
    from tests.support.subjects import Subject
    from tests.support.valkey import Valkey

MAX_AGE: Final = 1000
CONFIRM_AFTER: Final = 30_000


@pytest.fixture(params=["script", "model"])
def hub(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """A merchant whose warehouse `wms` rules before `threepl`; `shop` uses ids of its own."""
    if request.param == "model":
        yield _connect(ReferenceModel(parked_max=2, confirm_after_ms=CONFIRM_AFTER))
        return
    valkey: Valkey = request.getfixturevalue("valkey")
    valkey.flush()
    with valkey.client() as client:
        yield _connect(ApplyDriver(client, "demo", parked_max=2, confirm_after_ms=CONFIRM_AFTER))


def _connect(subject: Subject) -> Subject:
    subject.set_role("wms", _authority(rank=1))
    subject.set_role("threepl", _authority(rank=2))
    subject.set_role("shop", Role(kind="C", max_age=MAX_AGE, fetches=True))
    return subject


def _authority(*, rank: int, own: bool = True) -> Role:
    return Role(kind="A", rank=rank, max_age=MAX_AGE, own_items=own, own_places=own, fetches=True)


def tell(hub: Subject, *rows: Row, now: int) -> list[str]:
    return [outcome for outcome, _ in hub.apply(rows, now)]


# Order


def test_a_level_becomes_the_answer(hub: Subject) -> None:
    assert hub.apply([push(5, version=1, at=10)], 20) == [("applied", 1)]
    answer = hub.answer(ITEM)
    assert (answer.ver, answer.seq, answer.ats, answer.known, answer.by) == (1, 1, 5, True, "wms")
    assert hub.as_of(ITEM) == 10


def test_an_older_version_is_superseded(hub: Subject) -> None:
    assert tell(hub, push(5, version=2, at=10), push(9, version=1, at=11), now=20) == [
        "applied",
        "superseded",
    ]
    assert hub.answer(ITEM).ats == 5


def test_versions_beyond_a_double_are_told_apart(hub: Subject) -> None:
    told = [push(n, version=2**63 + n, at=10 + n) for n in (1, 2)]
    assert tell(hub, *told, *told, now=20) == ["applied", "applied", "superseded", "duplicate"]
    assert hub.answer(ITEM).ats == 2


def test_a_redelivery_changes_neither_number_nor_evidence(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), now=20)
    assert hub.apply([push(5, version=1, at=900)], 900) == [("duplicate", 0)]
    assert hub.as_of(ITEM) == 10


def test_evidence_is_the_time_of_the_source_and_not_of_arrival(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=100, evidence=40), now=110)
    assert hub.as_of(ITEM) == 40


def test_a_report_that_only_brings_evidence_takes_no_sequence(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), now=20)
    assert hub.apply([push(5, version=2, at=30)], 40) == [("unchanged", 0)]
    assert (hub.as_of(ITEM), hub.head) == (30, (1, 1))


def test_versions_of_two_scales_are_never_compared(hub: Subject) -> None:
    tell(hub, push(5, version=7, at=10, scale="S"), now=20)
    assert tell(hub, push(9, version=8, at=30, scale="T"), now=30) == ["scale_mixed"]
    assert hub.answer(ITEM).ats == 5


def test_a_delta_fixes_the_scale_too(hub: Subject) -> None:
    told = tell(hub, delta(3, version=9, at=10, scale="S"), push(5, version=2, at=20, scale="T"), now=20)
    assert told == ["applied", "scale_mixed"]


def test_the_order_inside_a_batch_is_the_order_of_the_rows(hub: Subject) -> None:
    assert hub.apply([push(n, version=n, at=10) for n in (1, 2, 3)], 20) == [
        ("applied", 1),
        ("applied", 2),
        ("applied", 3),
    ]
    assert [(entry.seq, entry.previous) for entry in hub.feed] == [(1, 0), (2, 1), (3, 2)]


# Reads


def test_a_read_beats_a_push_that_came_before_it_began(hub: Subject) -> None:
    assert tell(hub, read(5, at=50), push(9, at=40), now=60) == ["applied", "superseded"]
    assert hub.answer(ITEM).ats == 5


def test_an_older_read_is_superseded(hub: Subject) -> None:
    assert tell(hub, read(5, at=50), read(9, at=40), now=60) == ["applied", "superseded"]


def test_a_read_that_shows_an_older_version_is_kept_out(hub: Subject) -> None:
    assert tell(hub, push(5, version=5, at=10), read(9, version=4, at=20), now=30)[1] == "superseded"
    assert hub.answer(ITEM).ats == 5


def test_a_read_that_a_push_overtook_may_lower_and_not_raise(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=50), now=60)
    assert tell(hub, read(9, at=40), now=60) == ["refetch"]
    assert tell(hub, read(3, at=41), now=60) == ["applied"]
    assert hub.answer(ITEM).ats == 3
    assert hub.refetch("wms") == {ITEM: 60}


def test_a_read_that_began_in_the_millisecond_of_a_push_may_be_the_older_one(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=50), now=60)
    assert tell(hub, read(9, at=50), now=60) == ["refetch"]
    assert hub.answer(ITEM).ats == 5
    assert hub.refetch("wms") == {ITEM: 60}


def test_a_push_of_the_millisecond_in_which_a_read_began_may_be_the_newer_one(hub: Subject) -> None:
    tell(hub, read(9, at=50), now=60)
    assert tell(hub, push(5, at=50), now=60) == ["applied"]
    assert tell(hub, push(7, at=50), now=60) == ["refetch"]
    assert hub.answer(ITEM).ats == 5


def test_of_two_reads_of_one_millisecond_nobody_knows_which_is_newer(hub: Subject) -> None:
    tell(hub, read(5, at=50), now=60)
    assert tell(hub, read(5, at=50), read(9, at=50), now=60) == ["unchanged", "refetch"]
    assert hub.answer(ITEM).ats == 5


def test_a_delta_of_the_millisecond_in_which_a_read_began_counts_only_if_it_takes_away(hub: Subject) -> None:
    tell(hub, read(5, at=50), now=60)
    assert tell(hub, delta(3, at=50, op="up"), now=60) == ["superseded"]
    assert hub.refetch("wms") == {ITEM: 60}
    assert tell(hub, delta(-2, at=50, op="down"), now=60) == ["applied"]
    assert hub.answer(ITEM).ats == 3


def test_after_a_read_without_version_a_push_may_only_lower(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), read(7, at=20), now=30)
    assert tell(hub, push(9, version=2, at=40), push(6, version=3, at=41), now=50) == ["refetch", "applied"]
    assert tell(hub, push(9, version=4, at=60), now=60) == ["applied"]


def test_a_read_strikes_the_fetch_it_answers(hub: Subject) -> None:
    tell(hub, tickle(at=10), now=10)
    assert hub.refetch("wms") == {ITEM: 10}
    tell(hub, read(5, at=10), now=20)
    assert hub.refetch("wms") == {}


# Pushes without version


def test_a_fall_without_version_counts_at_once_and_is_confirmed_later(hub: Subject) -> None:
    tell(hub, read(9, at=10), now=20)
    assert tell(hub, push(4, at=30), now=40) == ["applied"]
    assert hub.answer(ITEM).ats == 4
    assert hub.refetch("wms") == {ITEM: 40 + CONFIRM_AFTER}


def test_a_rise_without_version_waits_for_a_fetch(hub: Subject) -> None:
    tell(hub, read(9, at=10), now=20)
    assert tell(hub, push(12, at=30), now=40) == ["refetch"]
    assert (hub.answer(ITEM).ats, hub.refetch("wms")) == (9, {ITEM: 40})


def test_a_rise_over_waiting_deltas_is_a_rise(hub: Subject) -> None:
    tell(hub, read(10, at=10), delta(-8, at=20), now=20)
    assert tell(hub, push(10, at=30), push(5, at=31), now=40) == ["refetch", "refetch"]
    assert hub.answer(ITEM).ats == 2


def test_a_repeated_push_without_version_is_a_duplicate(hub: Subject) -> None:
    tell(hub, read(9, at=10), push(4, at=20, op="a"), now=20)
    tell(hub, read(9, at=30), now=40)
    assert tell(hub, push(4, at=50, op="a"), now=50) == ["duplicate"]


def test_ids_belong_to_their_account(hub: Subject) -> None:
    tell(hub, read(9, at=10), read(9, at=10, account="threepl", location="WH2"), now=20)
    sold = [delta(-1, at=30, op="m-1"), delta(-1, at=30, account="threepl", location="WH2", op="m-1")]
    assert tell(hub, *sold, now=30) == ["applied", "applied"]
    assert hub.answer(ITEM).ats == 16


def test_ids_are_remembered_for_days(hub: Subject) -> None:
    day = 86_400_000
    tell(hub, read(9, at=10), delta(-1, at=20, op="a"), now=20)
    assert tell(hub, delta(-1, at=4 * day, op="a"), now=4 * day) == ["duplicate"]


# Deltas


def test_a_delta_counts_once(hub: Subject) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    sale = delta(-3, at=20, op="sale")
    assert tell(hub, sale, sale, now=20) == ["applied", "duplicate"]
    assert hub.answer(ITEM).ats == 7


def test_a_level_absorbs_the_deltas_it_includes(hub: Subject) -> None:
    tell(hub, push(10, version=1, at=10), delta(-2, version=2, at=11), delta(-3, version=3, at=12), now=20)
    assert hub.answer(ITEM).ats == 5
    tell(hub, push(8, version=2, at=30), now=30)
    assert hub.answer(ITEM).ats == 5


def test_a_delta_that_came_before_a_read_is_in_it(hub: Subject) -> None:
    tell(hub, push(10, version=1, at=10), delta(-2, at=20), read(8, at=30), now=40)
    assert hub.answer(ITEM).ats == 8


def test_a_delta_that_comes_late_is_in_the_read_however_often_it_comes(hub: Subject) -> None:
    late = tell(hub, read(10, at=30), delta(3, at=20, op="late"), delta(3, at=40, op="late"), now=50)
    assert late == ["applied", "superseded", "duplicate"]
    assert hub.answer(ITEM).ats == 10


def test_a_rise_that_came_before_the_last_push_is_not_counted_twice(hub: Subject) -> None:
    tell(hub, push(10, version=1, at=30), now=30)
    assert tell(hub, delta(4, at=20), delta(-1, at=21), now=40) == ["superseded", "applied"]
    assert (hub.answer(ITEM).ats, hub.refetch("wms")) == (9, {ITEM: 40})


def test_deltas_without_a_level_wait_for_one(hub: Subject) -> None:
    assert tell(hub, delta(-2, version=2, at=10), now=10) == ["applied"]
    assert not hub.answer(ITEM).known
    tell(hub, push(9, version=1, at=20), now=20)
    assert hub.answer(ITEM).ats == 7


def test_of_many_deltas_the_oldest_become_one(hub: Subject) -> None:
    tell(hub, push(100, version=1, at=10), now=10)
    tell(hub, *[delta(-1, version=n, at=100 + n) for n in range(2, 42)], now=200)
    (source,) = hub.sources(ITEM).values()
    assert (source.level, source.folded_version, len(source.changes)) == (100, 9, 32)
    assert (source.changes[0].version, source.changes[0].at, source.changes[0].amount) == (10, 110, -9)
    assert hub.answer(ITEM).ats == 60


def test_a_level_that_is_handled_again_after_many_deltas_is_still_known(hub: Subject) -> None:
    tell(hub, push(100, version=1, at=10), now=10)
    tell(hub, *[delta(-1, at=100 + n, op=f"d{n}") for n in range(40)], now=200)
    assert tell(hub, push(100, version=1, at=10), now=201) == ["duplicate"]
    assert hub.answer(ITEM).ats == 60


def test_a_level_that_arrived_in_the_midst_of_deltas_that_became_one_may_only_lower(hub: Subject) -> None:
    tell(hub, push(100, version=1, at=10), now=10)
    tell(hub, *[delta(-1, at=100 + n, op=f"d{n}") for n in range(40)], now=200)
    assert tell(hub, push(120, version=2, at=103), now=201) == ["refetch"]
    assert tell(hub, push(90, version=3, at=104), now=202) == ["applied"]
    assert hub.answer(ITEM).ats == 50
    assert hub.refetch("wms") == {ITEM: 202}


def test_a_level_that_arrived_before_many_deltas_and_is_handled_after_them_counts_with_them(
    hub: Subject,
) -> None:
    tell(hub, *[delta(-1, at=100 + n, op=f"d{n}") for n in range(40)], now=200)
    assert tell(hub, push(100, version=1, at=50), now=201) == ["applied"]
    assert hub.answer(ITEM).ats == 60
    assert tell(hub, push(120, version=2, at=51), now=202) == ["applied"]
    assert hub.answer(ITEM).ats == 80


# Coarse clocks


def test_a_coarse_tie_keeps_the_lower_and_asks(hub: Subject) -> None:
    told = [push(n, version=2_000_000, at=10 + n, scale="T", resolution=1_000_000) for n in (5, 8, 3)]
    assert tell(hub, *told, now=20) == ["applied", "refetch", "applied"]
    assert (hub.answer(ITEM).ats, hub.refetch("wms")) == (3, {ITEM: 20})


def test_a_coarse_level_absorbs_only_what_is_older_than_its_last_tick(hub: Subject) -> None:
    tell(
        hub,
        push(9, version=1_000_000, at=10, scale="T"),
        delta(-2, version=2_500_000, at=11, scale="T"),
        now=20,
    )
    tell(hub, push(7, version=3_000_000, at=30, scale="T", resolution=1_000_000), now=30)
    assert hub.answer(ITEM).ats == 5


def test_in_the_last_tick_of_a_coarse_level_falls_count_and_rises_ask(hub: Subject) -> None:
    tell(hub, push(9, version=2_000_000, at=10, scale="T", resolution=1_000_000), now=10)
    falls = tell(hub, *[delta(n, version=2_000_000, at=20, scale="T") for n in (-1, 4)], now=20)
    assert falls == ["applied", "superseded"]
    assert (hub.answer(ITEM).ats, hub.refetch("wms")) == (8, {ITEM: 20})


# Numbers that are not numbers


def test_null_replaces_nothing_and_asks(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), now=10)
    assert tell(hub, push(status="U", version=2, at=20), now=20) == ["refetch"]
    assert (hub.answer(ITEM).ats, hub.refetch("wms")) == (5, {ITEM: 20})


def test_a_fetch_that_brings_null_is_not_repeated(hub: Subject) -> None:
    tell(hub, tickle(at=10), now=10)
    assert tell(hub, read(status="U", at=11), now=12) == ["refetch"]
    assert hub.refetch("wms") == {}


def test_an_untracked_item_is_unknown_and_not_zero(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), push(status="T", version=2, at=20), now=20)
    assert (hub.answer(ITEM).known, hub.answer(ITEM).ats) == (False, 0)


def test_a_closed_location_offers_nothing_and_is_known(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), push(status="C", version=2, at=20), now=20)
    assert (hub.answer(ITEM).known, hub.answer(ITEM).ats, hub.as_of(ITEM)) == (True, 0, 20)


def test_a_negative_level_is_kept(hub: Subject) -> None:
    tell(hub, push(-3, version=1, at=10), push(5, version=1, at=10, location="WH2"), now=20)
    assert hub.answer(ITEM).ats == 2


# Who rules


def test_locations_are_summed_and_the_oldest_evidence_is_told(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), push(7, version=1, at=30, location="WH2"), now=40)
    assert (hub.answer(ITEM).ats, hub.as_of(ITEM)) == (12, 10)


def test_of_two_sources_on_one_location_the_better_rank_rules(hub: Subject) -> None:
    tell(hub, push(9, version=1, at=10, account="threepl"), push(5, version=1, at=20), now=30)
    assert (hub.answer(ITEM).ats, hub.answer(ITEM).by, hub.answer(ITEM).degraded) == (5, "wms", False)


def test_a_stale_source_is_relieved_by_the_next_fresh_one_which_may_lower(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), now=20)
    tell(hub, push(3, version=1, at=2000, account="threepl"), now=2000)
    assert (hub.answer(ITEM).ats, hub.answer(ITEM).by, hub.answer(ITEM).degraded) == (3, "threepl", True)


def test_a_takeover_never_raises_above_the_stale_source(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), push(9, version=1, at=2000, account="threepl"), now=2000)
    assert (hub.answer(ITEM).ats, hub.answer(ITEM).degraded) == (5, True)


def test_when_nobody_is_fresh_the_least_rules(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), push(3, version=1, at=11, account="threepl"), now=5000)
    assert (hub.answer(ITEM).ats, hub.answer(ITEM).by, hub.answer(ITEM).degraded) == (3, "threepl", True)


def test_an_unchanged_report_that_makes_a_source_fresh_again_is_told(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), now=5000)
    assert hub.answer(ITEM).degraded
    assert hub.apply([read(5, version=1, at=4990)], 5001) == [("unchanged", 2)]
    assert (hub.answer(ITEM).degraded, hub.ledger[-1].field) == (False, "answer")


def test_a_watermark_keeps_a_quiet_item_fresh(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), watermark(4500), now=4600)
    tell(hub, push(6, version=2, at=20), watermark(4000), now=4700)
    assert (hub.answer(ITEM).degraded, hub.as_of(ITEM)) == (False, 4500)


def test_a_shops_level_is_kept_and_not_counted(hub: Subject) -> None:
    hub.map_item("shop", "9", ITEM)
    hub.map_location("shop", "7", "WH1")
    tell(hub, push(40, version=1, at=10, account="shop", item="9", location="7"), now=10)
    assert (hub.answer(ITEM).ver, hub.answer(ITEM).known, hub.answer(ITEM).ats) == (1, False, 0)


# The clock


def test_the_clock_of_a_merchant_never_steps_back(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), now=3000)
    tell(hub, push(6, version=2, at=20), now=100)
    assert (hub.now, hub.answer(ITEM).degraded) == (3000, True)


def test_no_evidence_is_later_than_the_present(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=9000), watermark(9000), now=100)
    assert (hub.as_of(ITEM), hub.watermarks) == (100, {"wms": 100})


# Maps


def test_a_report_on_an_unknown_item_waits(hub: Subject) -> None:
    assert tell(hub, push(5, version=1, at=10, account="shop", item="9"), now=20) == ["parked"]
    assert hub.parked_since() == {("shop", "9"): 10}
    assert hub.refetch("shop") == {"9": 20}
    assert hub.head == (0, 0)


def test_waiting_reports_count_once_item_and_location_are_mapped(hub: Subject) -> None:
    hub.set_role("shop", _authority(rank=3, own=False))
    shop = [push(5, version=1, at=10, account="shop", item="9", location="7")]
    shop += [delta(-2, version=2, at=11, account="shop", item="9", location="7")]
    tell(hub, *shop, now=20)
    assert tell(hub, catalogue(account="shop", item="9", sku=ITEM), now=30) == ["released"]
    assert not hub.answer(ITEM).known
    hub.map_location("shop", "7", "WH1")
    assert tell(hub, catalogue(account="shop", item="9"), now=40) == ["released"]
    assert (hub.answer(ITEM).ats, hub.parked_since()) == (3, {})


def test_of_two_waiting_levels_the_newer_is_kept(hub: Subject) -> None:
    hub.set_role("shop", _authority(rank=3, own=False))
    hub.map_location("shop", "7", "WH1")
    for number, version in ((5, 2), (9, 1)):
        tell(hub, push(number, version=version, at=10, account="shop", item="9", location="7"), now=20)
    tell(hub, catalogue(account="shop", item="9", sku=ITEM), now=30)
    assert hub.answer(ITEM).ats == 5


def test_when_too_many_items_wait_the_next_is_refused(hub: Subject) -> None:
    told = [push(5, version=1, at=10, account="shop", item=item) for item in "1231"]
    assert tell(hub, *told, now=20) == ["parked", "parked", "parked_full", "parked"]


def test_mapping_an_item_anew_takes_its_level_from_the_old_sku(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), now=10)
    assert tell(hub, catalogue(sku="TEE-0002"), now=20) == ["released"]
    assert (hub.answer(ITEM).known, hub.answer(ITEM).ats, hub.refetch("wms")) == (False, 0, {ITEM: 20})
    tell(hub, push(5, version=1, at=30), now=30)
    assert hub.answer("TEE-0002").ats == 5


def test_a_change_that_was_long_on_its_way_counts_behind_many_newer_ones(hub: Subject) -> None:
    tell(hub, push(1000, version=1, at=1), now=1)
    tell(hub, *[delta(1, at=100 + n, op=f"new-{n}") for n in range(40)], now=150)
    tell(hub, delta(7, at=10, op="late"), now=200)
    assert hub.answer(ITEM).ats == 1047


# The catalogue


def test_discontinuing_is_told_once(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), now=10)
    assert hub.apply([catalogue(status="D"), catalogue(status="D")], 20) == [("applied", 2), ("unchanged", 0)]
    assert (hub.answer(ITEM).cat, hub.answer(ITEM).ats) == ("D", 5)


def test_an_old_word_about_an_item_does_not_come_back(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), catalogue(status="A", backorder=True, op="c-1"), now=10)
    tell(hub, catalogue(status="D", op="c-2"), now=20)
    assert hub.apply([catalogue(status="A", backorder=True, op="c-1")], 30) == [("duplicate", 0)]
    assert hub.answer(ITEM).cat == "D"


def test_reports_of_two_places_in_turn_are_no_news(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), push(4, version=1, at=20, account="threepl", location="WH2"), now=20)
    head = hub.head
    tell(hub, push(5, version=2, at=30), now=30)
    tell(hub, push(4, version=2, at=40, account="threepl", location="WH2"), now=40)
    assert hub.head == head


def test_back_order_is_part_of_the_answer_and_substitutes_are_not(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), now=10)
    tell(hub, catalogue(backorder=True), catalogue(substitutes=["MUG-0001"]), now=20)
    assert hub.answer(ITEM).backorder
    assert hub.head == (3, 2)


def test_an_active_item_without_a_report_is_nothing_new(hub: Subject) -> None:
    assert hub.apply([catalogue(status="A")], 10) == [("unchanged", 0)]
    assert hub.skus() == []


def test_a_removed_item_counts_nothing_and_is_gone(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), now=10)
    assert tell(hub, catalogue(status="R"), catalogue(status="R"), now=20) == ["applied", "unchanged"]
    assert (hub.answer(ITEM).ats, hub.answer(ITEM).gone) == (0, True)


def test_a_removed_item_comes_back_with_a_newer_report_only(hub: Subject) -> None:
    tell(hub, push(5, version=1, at=10), catalogue(status="R"), now=20)
    assert tell(hub, push(5, version=1, at=30), push(5, version=2, at=31), now=40) == ["refetch", "applied"]
    assert (hub.answer(ITEM).ats, hub.answer(ITEM).gone) == (5, False)


def test_removing_a_product_removes_its_items(hub: Subject) -> None:
    hub.map_location("shop", "7", "WH1")
    for item in ("1", "2"):
        tell(hub, catalogue(account="shop", item=item, sku=f"TEE-{item}", group="tees"), now=10)
        tell(hub, push(5, version=1, at=10, account="shop", item=item, location="7"), now=10)
    assert tell(hub, catalogue(account="shop", item="", group="tees", status="R"), now=20) == ["applied"]
    assert [hub.answer(sku).gone for sku in ("TEE-1", "TEE-2")] == [True, True]
