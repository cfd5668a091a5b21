"""Short stories that the script and the reference model must tell alike.

Each turns on one rule, so that a script in which that rule is broken tells it
differently: they are what kills the mutants. Times are milliseconds on the
merchant's clock.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.support.reference_answer import Role
from tests.support.rows import ITEM, catalogue, delta, guard, position, push, read, tickle, watermark
from tests.support.subjects import Observed, Subject, observe

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.rows import Row

ACCOUNTS: Final = ("shop", "threepl", "wms")
MAX_AGE: Final = 1000
PARKED_MAX: Final = 2
SECOND: Final = 1_000_000
BIG: Final = 2**63

AUTHORITY: Final = Role(kind="A", rank=1, max_age=MAX_AGE, own_items=True, own_places=True, fetches=True)
SECOND_BEST: Final = Role(kind="A", rank=2, max_age=MAX_AGE, own_items=True, own_places=True, fetches=True)
SHOP: Final = Role(kind="C", rank=0, max_age=MAX_AGE, fetches=True)


class Story:
    """A merchant with a warehouse (wms), a second one (threepl) and a shop; keeps what every step showed."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.told: list[tuple[list[tuple[str, int]], Observed]] = []
        for account, role in (("wms", AUTHORITY), ("threepl", SECOND_BEST), ("shop", SHOP)):
            subject.set_role(account, role)

    def then(self, *rows: Row, now: int) -> Story:
        """Apply rows in one step."""
        outcomes = self.subject.apply(list(rows), now)
        self.told.append((outcomes, copy.deepcopy(observe(self.subject, ACCOUNTS))))
        return self


def older_versions_come_late(story: Story) -> None:
    story.then(push(5, version=2, at=20), push(9, version=1, at=30), now=40)
    story.then(
        push(9, version=BIG, at=50), push(2, version=BIG + 1, at=51), push(9, version=BIG, at=52), now=60
    )


def the_same_is_sent_twice(story: Story) -> None:
    first, fall = push(5, version=2, at=20, evidence=10), delta(-1, at=21, op="a")
    story.then(first, fall, fall, now=30)
    story.then(push(5, version=2, at=900, evidence=900), delta(-1, at=901, op="a"), now=910)
    story.then(push(6, version=3, at=920, evidence=15), now=930)


def an_unversioned_push_is_sent_twice(story: Story) -> None:
    story.then(read(9, at=10), now=20)
    story.then(push(7, at=30, op="x"), push(8, at=31, op="y"), now=40)
    story.then(read(12, at=50), push(7, at=60, op="x"), now=60)


def an_unversioned_push_is_higher_lower_or_equal(story: Story) -> None:
    story.then(push(3, at=5), now=5)
    story.then(read(9, at=10), now=20)
    story.then(push(12, at=30), push(4, at=31), push(4, at=32), now=40)
    story.then(tickle(at=50), push(2, at=60), now=60)


def a_late_push_repeats_itself(story: Story) -> None:
    story.then(read(9, at=50), push(4, at=40, op="late"), now=60)
    story.then(push(4, at=70, op="late"), now=70)


def a_late_delta_repeats_itself(story: Story) -> None:
    story.then(read(9, at=50), delta(3, at=40, op="late"), now=60)
    story.then(delta(3, at=70, op="late"), now=70)


def two_accounts_use_one_id(story: Story) -> None:
    story.then(read(9, at=10), read(5, at=10, account="threepl", location="WH2"), now=20)
    story.then(
        delta(-1, at=30, op="m-1"), delta(-1, at=31, account="threepl", location="WH2", op="m-1"), now=40
    )


def a_level_includes_its_deltas(story: Story) -> None:
    story.then(push(10, version=1, at=10), delta(-2, version=2, at=11), delta(-3, version=3, at=12), now=20)
    story.then(push(8, version=2, at=21), delta(-2, version=2, at=30), now=30)
    story.then(delta(-1, at=40), read(4, at=50), now=60)
    story.then(delta(-1, at=45), delta(5, at=70), push(9, version=4, at=80), delta(3, at=75), now=90)


def changes_count_when_levels_are_compared(story: Story) -> None:
    story.then(read(10, at=10), delta(-8, at=20), now=20)
    story.then(push(5, at=30), push(10, at=31), push(2, at=32), now=40)


def two_scales_meet(story: Story) -> None:
    story.then(push(5, version=7, at=10), push(9, version=9, scale="T", at=20), now=20)
    story.then(read(9, version=9, scale="T", at=30), delta(4, version=9, scale="T", at=40), now=40)


def reads_overtake_and_are_overtaken(story: Story) -> None:
    story.then(read(5, at=50), read(9, at=40), push(8, version=1, at=45), push(8, at=46), now=60)
    story.then(push(4, version=2, at=70), read(9, at=65), read(3, at=66), now=80)
    story.then(push(6, version=3, at=90), push(2, version=4, at=91), push(7, version=5, at=92), now=95)
    story.then(read(9, at=92), read(6, at=96), push(5, at=96), push(8, at=96, op="later"), now=97)


def many_changes_become_one(story: Story) -> None:
    story.then(push(100, version=1, at=10), now=10)
    story.then(*[delta(-1, at=100 + n, op=f"d{n}") for n in range(40)], now=200)
    story.then(push(100, version=1, at=10), push(120, version=2, at=50), push(90, version=3, at=105), now=201)
    story.then(push(95, version=4, at=103), now=202)
    story.then(read(40, at=104), push(70, version=5, at=300), now=301)


def a_read_shows_an_older_version(story: Story) -> None:
    story.then(push(5, version=5, at=10), read(9, version=4, at=20), read(9, version=5, at=5), now=30)
    story.then(read(9, version=6, at=25), now=30)


def a_coarse_clock_ties(story: Story) -> None:
    tied = partial(push, version=2 * SECOND, scale="T", resolution=SECOND)
    story.then(tied(5, at=10), tied(8, at=11), tied(3, at=12), now=20)
    story.then(
        delta(-1, version=2 * SECOND, scale="T", at=21),
        delta(1, version=2 * SECOND, scale="T", at=22),
        now=30,
    )
    story.then(delta(-1, version=SECOND, scale="T", at=23), now=30)
    story.then(delta(-2, version=5 * SECOND // 2, scale="T", at=40), now=40)
    story.then(push(9, version=3 * SECOND, scale="T", resolution=SECOND, at=50), now=50)


def a_number_is_not_told(story: Story) -> None:
    story.then(push(5, version=1, at=10), push(status="U", version=2, at=20), read(status="U", at=30), now=40)
    story.then(push(status="T", version=3, at=50), push(4, at=55), push(4, version=4, at=60), now=60)
    story.then(push(status="U", at=61, account="shop", item="77"), now=62)
    story.then(read(status="U", at=63), now=63)


def a_second_location_is_unknown(story: Story) -> None:
    story.then(push(status="T", version=1, at=10), now=10)
    story.then(push(5, version=1, at=10, location="WH2"), now=20)


def the_best_source_turns_stale(story: Story) -> None:
    story.then(push(5, version=1, at=10), push(9, version=1, at=10, account="threepl"), now=20)
    story.then(push(8, version=2, at=1500, account="threepl"), now=1500)
    story.then(push(3, version=3, at=1600, account="threepl"), now=1600)
    story.then(
        push(3, version=3, at=5000, account="threepl"), push(5, version=2, at=5000, evidence=20), now=5000
    )
    story.then(push(6, version=3, at=5001), now=5001)


def everything_is_stale(story: Story) -> None:
    story.then(push(5, version=1, at=10), push(9, version=1, at=10, account="threepl"), now=20)
    story.then(push(4, version=2, at=5000, evidence=30), now=5000)
    story.then(push(4, version=2, at=10, location="WH2", item="MUG"), now=5000)


def ranks_decide(story: Story) -> None:
    story.then(push(9, version=1, at=10, account="threepl"), push(5, version=1, at=11), now=20)


def a_shop_reports_too(story: Story) -> None:
    story.subject.map_item("shop", "9", ITEM)
    story.subject.map_location("shop", "7", "WH1")
    story.then(push(40, version=1, at=5, account="shop", item="9", location="7"), now=5)
    story.then(push(5, version=1, at=10), now=10)


def places_wait_for_a_map(story: Story) -> None:
    seven = partial(push, account="shop", item="9", location="7")
    eight = partial(push, account="shop", item="9", location="8")
    story.subject.set_role("shop", Role(kind="A", rank=3, max_age=MAX_AGE, fetches=True))
    story.then(seven(5, version=1, at=10), now=10)
    story.then(seven(8, version=2, at=5), seven(6, version=1, at=30), now=40)
    story.then(eight(9, at=41), eight(4, at=40), eight(3, version=1, at=42), now=42)
    story.then(
        seven(status="U", at=42), delta(-1, version=3, at=43, account="shop", item="9", location="7"), now=43
    )
    story.then(catalogue(account="shop", item="9", sku=ITEM), now=44)
    story.subject.map_location("shop", "7", "WH1")
    story.then(catalogue(account="shop", item="9"), now=50)
    story.subject.map_location("shop", "8", "WH2")
    story.then(catalogue(account="shop", item="9"), now=51)


def a_fetch_brings_an_unmapped_place(story: Story) -> None:
    story.subject.map_item("shop", "9", ITEM)
    story.then(read(5, at=10, account="shop", item="9", location="7"), now=11)


def a_tie_waits_for_a_map(story: Story) -> None:
    tied = partial(push, account="shop", item="9", location="7", version=1)
    story.then(tied(8, at=10), tied(6, at=11), now=20)
    story.subject.map_location("shop", "7", "WH1")
    story.then(catalogue(account="shop", item="9", sku=ITEM), now=21)


def too_many_items_wait(story: Story) -> None:
    story.then(*[push(5, version=1, at=10, account="shop", item=item) for item in "123"], now=10)
    story.then(push(6, version=2, at=11, account="shop", item="1"), now=11)


def a_report_changes_nothing(story: Story) -> None:
    story.then(push(5, version=1, at=10), now=10)
    story.then(push(5, version=2, at=20), read(5, version=2, at=30), now=40)
    story.then(push(7, version=3, at=50), now=50)


def a_source_turns_fresh_again(story: Story) -> None:
    story.then(push(5, version=1, at=10), now=5000)
    story.then(read(5, version=1, at=4990), now=5001)


def a_poll_was_complete(story: Story) -> None:
    story.then(push(5, version=1, at=10), watermark(4000), watermark(3000), now=4500)
    story.then(push(5, version=2, at=20, evidence=20), now=4600)
    story.then(push(6, version=3, at=21, evidence=21), push(1, version=1, at=4600, location="WH2"), now=4700)


def clocks_disagree(story: Story) -> None:
    story.then(push(5, version=1, at=10), now=3000)
    story.then(push(6, version=2, at=20), push(6, version=1, at=9000, item="MUG"), watermark(9000), now=1000)


def an_item_is_discontinued(story: Story) -> None:
    story.then(push(5, version=1, at=10), catalogue(status="D"), catalogue(status="D"), now=20)
    story.then(catalogue(status="A", backorder=True), catalogue(substitutes=["MUG"]), now=30)
    story.then(catalogue(item="NEVER", status="A"), catalogue(item="PLANNED", status="D"), now=40)


def an_old_word_about_an_item_comes_again(story: Story) -> None:
    story.then(push(5, version=1, at=10), catalogue(status="A", backorder=True, op="c-1"), now=20)
    story.then(catalogue(status="D", backorder=False, op="c-2"), now=30)
    story.then(catalogue(status="A", backorder=True, op="c-1"), now=40)


def two_places_are_reported_in_turn(story: Story) -> None:
    story.then(
        push(5, version=1, at=10), push(4, version=1, at=20, account="threepl", location="WH2"), now=20
    )
    story.then(push(5, version=2, at=30), now=30)
    story.then(push(4, version=2, at=40, account="threepl", location="WH2"), now=40)
    story.then(push(5, version=3, at=50), now=50)


def an_item_is_removed(story: Story) -> None:
    story.then(push(5, version=1, at=10), push(4, version=1, at=10, location="WH2"), now=20)
    story.then(catalogue(status="R"), catalogue(status="R"), now=30)
    story.then(push(5, version=1, at=40), push(7, version=2, at=50), now=60)


def a_product_is_removed(story: Story) -> None:
    story.subject.map_location("shop", "7", "WH1")
    for item in ("1", "2"):
        story.then(catalogue(account="shop", item=item, sku=f"TEE-{item}", group="g"), now=10)
        story.then(push(5, version=1, at=11, account="shop", item=item, location="7"), now=20)
    story.then(catalogue(account="shop", item="", group="g", status="R"), now=30)
    story.then(push(6, version=2, at=40, account="shop", item="1", location="7"), now=40)


def an_item_is_mapped_anew(story: Story) -> None:
    story.then(push(5, version=1, at=10), now=10)
    story.then(catalogue(sku="TEE-0002"), now=20)
    story.then(push(5, version=2, at=30), now=30)


def many_deltas_come_without_a_level(story: Story) -> None:
    story.then(read(50, at=1), now=1)
    story.then(*[delta(-1, version=n, at=100 + n) for n in range(1, 41)], now=200)
    story.then(delta(-1, version=5, at=201), *[delta(-1, at=300 + n, item="MUG") for n in range(40)], now=400)


def a_change_comes_after_many_newer_ones(story: Story) -> None:
    story.then(push(1000, version=1, at=1), push(1000, version=1, at=1, item="MUG"), now=1)
    newer = [delta(1, at=100 + n, op=f"new-{n}") for n in range(40)]
    newer_versions = [delta(1, version=100 + n, at=100 + n, item="MUG", op=f"mug-{n}") for n in range(40)]
    story.then(*newer, *newer_versions, now=150)
    story.then(delta(7, at=10, op="late"), delta(7, version=50, at=10, item="MUG", op="mug-late"), now=200)
    story.then(push(900, version=60, at=210, item="MUG"), read(950, at=105), now=210)


def a_second_item_is_reported(story: Story) -> None:
    for item in ("1", "2"):
        story.subject.map_item("wms", item, ITEM)
    story.then(push(5, version=1, at=10, item="1"), push(4, version=1, at=11, item="2"), now=11)
    story.subject.decide("wms", ITEM, "WH1", "sum")
    story.then(catalogue(account="wms", item="2"), push(3, version=2, at=20, item="2"), now=20)
    story.then(push(6, version=2, at=30, item="1"), now=30)


def pages_are_read_one_after_the_other(story: Story) -> None:
    story.subject.name_history("e-1")
    story.then(push(5, version=1, at=10), now=10)
    first = position(0, "c-1", at=2000, epoch="e-1", began=2000)
    story.then(guard(0, epoch="e-1"), read(6, version=2, at=2000), first, now=2010)
    story.then(guard(0, epoch="e-1"), read(6, version=2, at=2000), first, now=2020)
    last = position(1, "c-2", at=2100, epoch="e-1", complete_to=1900)
    story.then(guard(1, epoch="e-1"), read(7, version=3, at=2100), last, now=2110)
    story.then(position(2, "c-3", at=3000, epoch="e-1", began=3000), now=3000)
    story.then(push(1, version=1, at=4000, location="WH2"), now=4000)


def a_worker_was_away_while_another_one_polled(story: Story) -> None:
    story.subject.name_history("e-1")
    for moves in range(3):
        story.then(position(moves, f"c-{moves}", at=100 + moves, epoch="e-1"), now=200)
    late = [read(9, at=150), delta(-1, at=150, account="threepl", op="t")]
    story.then(guard(1, epoch="e-1"), *late, position(1, "back", at=150, epoch="e-1"), now=300)
    story.then(position(0, "back", at=150, epoch="e-1"), now=310)


def a_page_was_asked_for_in_another_history(story: Story) -> None:
    story.subject.name_history("e-1")
    story.then(position(0, "c-1", at=100, epoch="e-1"), now=100)
    story.subject.name_history("e-2")
    story.then(guard(1, epoch="e-1"), read(9, at=150), position(1, "c-2", at=150, epoch="e-1"), now=200)
    story.then(guard(1, epoch="e-2"), read(9, at=160), position(1, "c-3", at=160, epoch="e-2"), now=210)


def a_page_holds_what_cannot_be_taken_in(story: Story) -> None:
    story.subject.name_history("e-1")
    story.then(push(5, version=7, at=10), now=20)
    mixed = read(9, version=9, scale="T", at=30)
    story.then(mixed, position(0, "c-1", at=30, epoch="e-1"), now=40)
    story.then(position(0, "c-1", at=30, epoch="e-1"), now=50)
    both = [
        position(moves, "x", at=60, epoch="e-1", account=who) for moves, who in ((1, "wms"), (0, "threepl"))
    ]
    story.then(read(9, version=10, scale="T", at=60), *both, now=60)


def an_account_without_a_role_is_polled(story: Story) -> None:
    story.subject.name_history("e-1")
    story.then(
        guard(0, epoch="e-1", account="gone"), position(0, "c", at=5, epoch="e-1", account="gone"), now=5
    )


SCENARIOS: Final[tuple[Callable[[Story], None], ...]] = (
    older_versions_come_late,
    the_same_is_sent_twice,
    an_unversioned_push_is_sent_twice,
    an_unversioned_push_is_higher_lower_or_equal,
    a_late_push_repeats_itself,
    a_late_delta_repeats_itself,
    two_accounts_use_one_id,
    a_level_includes_its_deltas,
    changes_count_when_levels_are_compared,
    two_scales_meet,
    reads_overtake_and_are_overtaken,
    many_changes_become_one,
    a_read_shows_an_older_version,
    a_coarse_clock_ties,
    a_number_is_not_told,
    a_second_location_is_unknown,
    the_best_source_turns_stale,
    everything_is_stale,
    ranks_decide,
    a_shop_reports_too,
    places_wait_for_a_map,
    a_fetch_brings_an_unmapped_place,
    a_tie_waits_for_a_map,
    too_many_items_wait,
    a_report_changes_nothing,
    a_source_turns_fresh_again,
    a_poll_was_complete,
    clocks_disagree,
    an_item_is_discontinued,
    an_old_word_about_an_item_comes_again,
    two_places_are_reported_in_turn,
    an_item_is_removed,
    a_product_is_removed,
    an_item_is_mapped_anew,
    many_deltas_come_without_a_level,
    a_change_comes_after_many_newer_ones,
    a_second_item_is_reported,
    pages_are_read_one_after_the_other,
    a_worker_was_away_while_another_one_polled,
    a_page_was_asked_for_in_another_history,
    a_page_holds_what_cannot_be_taken_in,
    an_account_without_a_role_is_polled,
)


def tell(scenario: Callable[[Story], None], subject: Subject) -> list[tuple[list[tuple[str, int]], Observed]]:
    """Play a scenario and return what each step showed."""
    story = Story(subject)
    scenario(story)
    return story.told
