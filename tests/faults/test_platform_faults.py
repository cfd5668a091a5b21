"""Platforms that fall silent, forget, refuse or lag: the hub finds out, polls within limits, and is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.faults.platform_trial import (
    CHANGES_LOST,
    NEARLY_WELL,
    SHORT,
    SILENT,
    try_together,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.faults.platform_trial import PlatformFault, PlatformReport

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("platform-faults")]

KILLS: Final = 1
CHANGES: Final = 400


async def test_platforms_that_fall_silent_are_found_by_their_signs_of_life(tmp_path: Path, seed: int) -> None:
    await _all_hold(tmp_path, SILENT, seed)


async def test_changes_that_no_delivery_told_or_that_pages_left_out_are_found_by_polls(
    tmp_path: Path, seed: int
) -> None:
    await _all_hold(tmp_path, CHANGES_LOST, seed)


async def test_late_deliveries_late_answers_and_a_platform_that_begins_anew_do_no_harm(
    tmp_path: Path, seed: int
) -> None:
    await _all_hold(tmp_path, NEARLY_WELL, seed)


async def _all_hold(folder: Path, faults: Sequence[PlatformFault], seed: int) -> None:
    for report in await try_together(folder, faults, SHORT, seed=seed):
        _holds(report)


def _holds(report: PlatformReport) -> None:
    assert report.broken == (), str(report)
