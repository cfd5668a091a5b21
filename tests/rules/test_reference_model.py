"""The reference model against numbers worked out by hand: who judges the script must be right himself."""

from __future__ import annotations

from itertools import permutations
from typing import Final

import pytest

from tests.support.reference_answer import Role, SourceName, View, conclude
from tests.support.reference_model import ReferenceModel
from tests.support.reference_source import (
    DUPLICATE,
    REFETCH,
    SUPERSEDED,
    TAKEN,
    Change,
    Report,
    Source,
    Verdict,
    judge_delta,
    judge_push,
    judge_read,
)
from tests.support.rows import ITEM, delta, push
from tests.support.source import ROOT, imported

MAX_AGE: Final = 100
MODULES: Final = (
    "reference_source",
    "reference_answer",
    "reference_line",
    "reference_books",
    "reference_sales",
    "reference_holds",
    "reference_model",
)


def report(number: int = 0, *, kind: str = "L", at: int = 50, version: int | None = None, status: str = "K",
           resolution: int = 0) -> Report:  # fmt: skip
    scale = "" if version is None else "S"
    return Report(
        kind, "wms", ITEM, "WH1", status, number, scale, version, resolution, at, at, "op", "test", "", "", ""
    )


def source(level: int = 10, *, version: int | None = None, read_at: int = 0, pushed_at: int = 0,
           changes: tuple[Change, ...] = (), behind: bool = False) -> Source:  # fmt: skip
    scale = "" if version is None else "S"
    return Source(
        status="K", level=level, version=version, scale=scale, read_at=read_at, pushed_at=pushed_at,
        changes=list(changes), behind=behind,
    )  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_the_model_shares_no_code_with_the_hub(module: str) -> None:
    path = ROOT / "tests" / "support" / f"{module}.py"
    foreign = {what.split(".")[0] for _, what in imported(path)} & {
        "synchub",
        "connectors",
        "workers",
        "redis",
    }
    assert foreign == set()


def test_a_lower_push_without_version_is_taken_and_confirmed() -> None:
    known = source(10, read_at=20)
    assert judge_push(known, report(7), is_repeat=False) == Verdict(TAKEN, "later")
    assert (known.level, known.pushed_at, known.evidence) == (7, 50, 50)


def test_a_higher_push_without_version_is_only_asked_about() -> None:
    known = source(10, read_at=20, changes=(Change(None, 30, -8),))
    assert judge_push(known, report(3), is_repeat=False) == REFETCH
    assert known.contribution == 2


def test_the_same_level_under_the_same_version_is_a_duplicate() -> None:
    known = source(10, version=4)
    assert judge_push(known, report(10, version=4, at=90), is_repeat=False) == DUPLICATE
    assert known.evidence == 0


def test_a_tie_of_closed_and_zero_is_asked_about() -> None:
    known = source(0, version=4)
    assert judge_push(known, report(version=4, status="C"), is_repeat=False) == REFETCH


def test_a_read_takes_what_came_before_it_with_it() -> None:
    known = source(10, version=4, changes=(Change(5, 40, -1), Change(6, 60, -2)))
    assert judge_read(known, report(9, kind="R", at=50)).outcome == TAKEN
    assert (known.contribution, known.behind) == (7, True)


def test_a_read_with_a_lower_version_is_superseded() -> None:
    assert judge_read(source(10, version=4), report(9, kind="R", version=3)) == Verdict("superseded", "later")


def test_a_second_read_of_a_lower_version_begins_anew() -> None:
    known = source(10, version=4)
    judge_read(known, report(9, kind="R", version=2, at=40))
    assert judge_read(known, report(8, kind="R", version=1, at=50)).outcome == "superseded"
    assert judge_read(known, report(7, kind="R", version=1, at=60)).outcome == TAKEN
    assert (known.level, known.version, known.reset_at) == (7, 1, 50)


def test_a_coarse_level_leaves_the_changes_of_its_last_tick() -> None:
    known = source(10, version=10, changes=(Change(15, 1, -1), Change(19, 2, -2)))
    judge_push(known, report(9, version=20, resolution=5), is_repeat=False)
    assert known.changes == [Change(19, 2, -2)]


def test_a_delta_in_the_last_tick_counts_when_it_lowers() -> None:
    known = source(10, version=20)
    known.resolution = 5
    assert judge_delta(known, report(-1, kind="D", version=20)).outcome == TAKEN
    assert judge_delta(known, report(1, kind="D", version=18)) == Verdict("superseded", "now")
    assert judge_delta(known, report(-1, kind="D", version=15)) == SUPERSEDED
    assert known.contribution == 9


def test_folding_keeps_the_contribution() -> None:
    known = source(100, version=1)
    for version in range(2, 42):
        judge_delta(known, report(-1, kind="D", version=version))
    assert (known.level, known.folded_version, len(known.changes), known.contribution) == (100, 9, 32, 60)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (100, (5, "a", False)),  # both are fresh: the better rank
        (180, (5, "b", True)),  # only b is fresh, and may not raise
        (900, (5, "a", True)),  # none is: the least
    ],
)
def test_freshness_chooses_the_ruler(now: int, expected: tuple[int, str, bool]) -> None:
    sources = {SourceName("a", ITEM, "WH1"): source(5), SourceName("b", ITEM, "WH1"): source(9)}
    for told, evidence in zip(sources.values(), (50, 90), strict=True):
        told.evidence = evidence
    roles = {"a": Role(kind="A", rank=1, max_age=MAX_AGE), "b": Role(kind="A", rank=2, max_age=MAX_AGE)}
    found = conclude(sources, View(role_of=roles.__getitem__, watermark_of=lambda _: 0, now=now))
    assert (found.ats, found.by, found.degraded) == expected


def test_the_model_ends_the_same_in_every_order() -> None:
    told = [
        push(8, version=1, at=10),
        push(6, version=3, at=12),
        delta(-1, version=2, at=11),
        delta(-2, version=4, at=13),
    ]
    for order in permutations([*told, told[0]]):
        model = ReferenceModel()
        model.set_role("wms", Role(kind="A", rank=1, max_age=MAX_AGE, own_items=True, own_places=True))
        model.apply(order, 20)
        assert model.answer(ITEM).ats == 4
