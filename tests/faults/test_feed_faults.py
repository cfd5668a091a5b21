"""Readers on real processes and bad lines: each ends with what is true, and was never told anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.feed_trial import SHORT_WAITS, feed_fault, try_feed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.feed_trial import FeedReport

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("feed-faults")]

LONGEST_RESUME_S = 10.0
"""Enough for a machine that does something else; the campaign prints the figure."""
RETURNING = (
    "feed-killed",
    "feed-store-slow",
    "feed-lines-holed",
    "feed-lines-reset",
    "feed-all-at-once",
)
STAYING = ("feed-store-killed", "feed-store-holed")


@pytest.mark.parametrize("name", RETURNING)
async def test_whoever_comes_back_goes_on_where_it_was(tmp_path: Path, name: str, seed: int) -> None:
    report = await tried(tmp_path, name, seed)
    assert len(report.resumed_s) >= report.readers
    assert report.counts["resume:replay"] > 0, report.counts
    assert report.resume_p99_s < LONGEST_RESUME_S


@pytest.mark.parametrize("name", STAYING)
async def test_a_store_that_goes_and_comes_back_misleads_nobody(tmp_path: Path, name: str, seed: int) -> None:
    report = await tried(tmp_path, name, seed)
    assert report.counts["upd"] >= report.readers, report.counts


async def tried(folder: Path, name: str, seed: int) -> FeedReport:
    fault = feed_fault(name)
    report = await try_feed(folder, fault, fault.short, seed=seed, settings=SHORT_WAITS)
    assert report.broken == [], "\n".join(report.broken)
    # Nothing was lost, so nobody has to begin anew.
    assert report.counts["reset"] == 0, report.counts
    return report
