"""The demo as a newcomer runs it: it works, stops when told, goes on where it was, and survives kills."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.up import START_S, Up
from tests.support.wait import eventually_true

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("up")]


def figures(out: str) -> dict[str, Any]:
    [line] = out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_the_demo_tells_in_one_line_of_json_how_it_went(tmp_path: Path) -> None:
    with Up(tmp_path / "run", "--demo", "--for", "4s", "--json", "--port", "0") as up:
        code, out = up.end()
        told = figures(out)
        assert code == 0, up.errors()
        assert up.pids() == {}
    assert told["missing"] == 0
    assert told["rejected"] == told["duplicates"] == told["restarts"] == 0
    # Every platform has told its 50 SKUs; how much happens after that is up to the machine.
    assert told["received"] >= 150
    assert told["applied"] >= told["delivered"] >= 50
    assert told["webhook_to_agent_measured"] > 0
    assert 0 < told["webhook_to_agent_p50_ms"] <= told["webhook_to_agent_p99_ms"]
    assert told["faults"] == []
    # Whatever was held or sold has ended in the warehouse's level.
    assert told["open_sales"] == 0
    assert told["held"] == told["committed"] + told["released"] + told["expired"] > 0
    assert told["committed"] <= told["sold"]


def test_ctrl_c_ends_it_in_order_and_the_next_run_goes_on_with_the_same_data(tmp_path: Path) -> None:
    with Up(tmp_path / "run", "--demo", "--json", "--port", "0") as up:
        up.says("received")
        up.interrupt()
        code, out = up.end(within_s=15)
        assert (code, up.pids()) == (0, {}), up.errors()
        assert figures(out)["applied"] > 100
        assert not (up.data / "hub.json").exists()
    with Up(tmp_path / "run", "--demo", "--for", "3s", "--json", "--port", "0") as again:
        code, out = again.end()
        assert "known from the last run" in again.errors()
        assert (code, figures(out)["missing"]) == (0, 0), again.errors()


@pytest.mark.fault
@pytest.mark.parametrize(
    "part",
    [
        "-m synchub serve",
        "-m workers",
        "valkey-server",
    ],
)
def test_a_killed_part_is_started_again_and_nothing_is_missing(part: str, tmp_path: Path) -> None:
    with Up(tmp_path / "run", "--demo", "--for", "6s", "--json", "--port", "0") as up:
        up.says("received")
        before = up.pid_of(part)
        os.kill(before, signal.SIGKILL)
        eventually_true(lambda: up.pid_of(part) != before, within_s=START_S, what="its successor")
        code, out = up.end()
        told = figures(out)
        assert (code, up.pids()) == (0, {}), up.errors()
    assert told["restarts"] == 1
    assert told["missing"] == 0


@pytest.mark.fault
def test_forged_and_repeated_deliveries_are_counted_and_change_nothing(tmp_path: Path) -> None:
    faults = ("--fault", "forge:shop@1s-4s", "--fault", "duplicate:marketplace@1s-4s")
    with Up(tmp_path / "run", "--demo", "--for", "6s", "--json", "--port", "0", *faults) as up:
        code, out = up.end()
        told = figures(out)
        assert code == 0, up.errors()
    forged, repeated = told["faults"]
    assert (forged["kind"], forged["account"]) == ("forge", "shop")
    assert forged["detected_after_s"] is not None
    assert repeated["detected_after_s"] is not None
    assert forged["recovered_after_s"] is not None
    assert told["rejected"] > 0
    assert told["duplicates"] > 0
    assert told["missing"] == forged["missing"] == repeated["missing"] == 0


@pytest.mark.fault
def test_a_stall_is_noticed_and_polled_and_nothing_is_missing(tmp_path: Path) -> None:
    fault = ("--fault", "stall:shop@1s-14s")
    with Up(tmp_path / "run", "--demo", "--for", "15s", "--json", "--port", "0", *fault) as up:
        code, out = up.end()
        told = figures(out)
        assert code == 0, up.errors()
    [stall] = told["faults"]
    assert stall["detected_after_s"] is not None, up.errors()
    assert stall["polls"] > 0
    assert told["missing"] == stall["missing"] == 0
