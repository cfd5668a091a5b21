"""Prometheus's own tool reads the shipped rules and configuration, and runs the examples beside them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.source import ROOT
from tests.support.tools import need_tool

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.witness

FOLDER: Final = ROOT / "config/prometheus"
_WITHIN_S: Final = 60


def promtool(*arguments: str) -> None:
    judged = subprocess.run(
        [str(need_tool("promtool")), *arguments],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_every_rule_can_be_read() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")


def test_the_scrape_configuration_can_be_read() -> None:
    promtool("check", "config", "prometheus.yml")


@pytest.mark.parametrize("path", sorted((FOLDER / "tests").glob("*.yml")), ids=lambda path: path.name)
def test_alerts_fire_and_are_silent_as_the_examples_say(path: Path) -> None:
    promtool("test", "rules", str(path))
