"""Workers that are killed in the middle of a page lose nothing of it and count nothing twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.polling_trial import SHORT_KILLS, try_polling

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("polling-kills")]


async def test_a_worker_killed_in_the_middle_of_a_page_loses_and_doubles_nothing(
    tmp_path: Path, seed: int
) -> None:
    report = await try_polling(tmp_path / "hub", kills=SHORT_KILLS, seed=seed)
    assert report.broken == (), str(report)
    assert report.facts > report.kills * 100
