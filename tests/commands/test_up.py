"""``synchub up`` without a demo: one owner per folder and port, clear sentences, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from synchub.__main__ import main
from synchub.commands.up import seconds
from synchub.embedded import STORE_SETTINGS, EmbeddedStore
from synchub.kit.processes import Child
from tests.support.up import Up
from tests.support.valkey import SHIPPED_CONFIG
from tests.support.wait import eventually, eventually_true

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("up")


def test_embedded_store_has_the_shipped_configuration() -> None:
    lines = SHIPPED_CONFIG.read_text(encoding="utf-8").splitlines()
    shipped = [line for line in lines if line and not line.startswith("#")]
    assert shipped == [f"{name} {value}" for name, value in STORE_SETTINGS.items()]


def test_a_hub_without_demo_is_ready_says_where_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    with Up(tmp_path / "run", "--port", "0") as up:
        told = up.hub()
        assert told["pid"] == up.pid
        assert told["redis"].startswith("unix://")
        assert (up.data / "secret.key").exists()
        up.interrupt()
        code, out = up.end(within_s=15)
        assert (code, up.errors(), up.pids()) == (0, "", {})
        assert not (up.data / "hub.json").exists()
    assert f"ready at {told['url']}" in out
    assert "synchub account add" in out


def test_it_stops_by_itself_and_says_in_json_where_it_was(tmp_path: Path) -> None:
    with Up(tmp_path / "run", "--port", "0", "--for", "0.1s", "--json") as up:
        code, out = up.end()
        assert (code, up.errors(), up.pids()) == (0, "", {})
    [line] = out.splitlines()
    assert '"url": "http://127.0.0.1:' in line


def test_a_second_hub_in_the_same_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with Up(tmp_path / "run", "--port", "0") as up:
        told = up.hub()
        with Up(tmp_path / "other", "--data", str(up.data), "--port", "0") as second:
            code, out = second.end()
            assert (code, out) == (1, "")
            assert f"A hub already runs in {up.data} at {told['url']}" in second.errors()
            assert second.pids() == {}
        assert up.hub() == told


def test_a_taken_port_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with Up(tmp_path / "run", "--port", port) as up:
            code, out = up.end()
            assert (code, out, up.pids()) == (1, "", {})
            assert f"Cannot listen on 127.0.0.1:{port}: Address already in use." in up.errors()


def test_another_hub_on_the_same_port_is_refused(tmp_path: Path) -> None:
    with Up(tmp_path / "run", "--port", "0") as up:
        port = up.hub()["url"].rpartition(":")[2]
        with Up(tmp_path / "other", "--port", port) as second:
            assert second.end()[0] == 1
            assert "Address already in use" in second.errors()
            assert second.pids() == {}


def test_a_part_that_cannot_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    home = tmp_path / "run"
    (home / "data").mkdir(parents=True)
    (home / "data" / "secret.key").write_text("no key", encoding="ascii")
    with Up(home, "--port", "0") as up:
        code, out = up.end()
        assert (code, out, up.pids()) == (1, "", {})
        assert "did not start (exit code 1)" in up.errors()
        assert "secret.key does not hold a key" in up.errors()


@pytest.mark.fault
def test_nothing_outlives_a_killed_hub_and_the_next_one_takes_over(tmp_path: Path) -> None:
    with Up(tmp_path / "run", "--port", "0") as up:
        port = up.hub()["url"].rpartition(":")[2]
        parts = set(up.pids())
        assert len(parts) == 4
        up.kill()
        with Up(tmp_path / "next", "--data", str(up.data), "--port", port) as following:
            eventually_true(lambda: not parts & set(up.pids()), what="the end of all parts")
            assert following.hub(up.data)["pid"] == following.pid
            following.interrupt()
            assert following.end(within_s=15)[0] == 0


@pytest.mark.fault
@pytest.mark.blocking_allowed
async def test_a_store_left_over_is_ended_before_another_opens_its_files(tmp_path: Path) -> None:
    said: list[str] = []
    first = EmbeddedStore(tmp_path / "valkey")
    await first.open()
    old = Child(first.command(), said.append)
    await old.start()
    await eventually(first.answers)
    first.close()  # as if its starter were gone: only the server itself holds the folder now
    second = EmbeddedStore(tmp_path / "valkey")
    await second.open()
    assert old.has_ended or await old.wait() == "exit code 0"
    new = Child(second.command(), said.append)
    await new.start()
    await eventually(second.answers)
    await new.stop(asyncio.Event())
    second.close()
    assert said == []


@pytest.mark.fault
@pytest.mark.blocking_allowed
async def test_a_child_that_does_not_listen_is_killed_when_somebody_is_in_a_hurry(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "valkey")
    await store.open()
    child = Child(store.command(), lambda _: None)
    await child.start()
    await eventually(store.answers)
    os.kill(child.pid, signal.SIGSTOP)
    hurry = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, hurry.set)
    await asyncio.wait_for(child.stop(hurry), 5)
    assert await child.wait() == "signal SIGKILL"
    store.close()


@pytest.mark.blocking_allowed
async def test_an_awkward_data_folder_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("dépôt " + "x" * 90)
    store = EmbeddedStore(folder)
    assert not store.socket.is_relative_to(folder)
    await store.open()
    child = Child(store.command(), lambda _: None)
    await child.start()
    await eventually(store.answers)
    await child.stop(asyncio.Event())
    store.close()
    assert (folder / "appendonlydir").is_dir()


@pytest.mark.parametrize(("text", "wanted"), [("15s", 15), ("2m", 120), ("0.5", 0.5), ("1h", 3600)])
def test_times_are_read(text: str, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--fault", "stall:shop@1s-2s"), "add --demo"),
        (("--demo", "--fault", "stall:nobody@1s-2s"), "ACCOUNT one of warehouse, marketplace, shop"),
        (("--demo", "--fault", "sulk:shop@1s-2s"), "KIND one of stall"),
        (("--demo", "--fault", "stall:shop@5s-2s"), "ends after it starts"),
        (("--demo", "--fault", "stall"), "such as stall:shop@5s-25s"),
    ],
)
def test_a_fault_that_makes_no_sense_is_a_wrong_call(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_a_time_that_makes_no_sense_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(shlex.split("up --for soon"))
    assert ending.value.code == 2
    assert "no time such as 15s" in capsys.readouterr().err
