"""``synchub up`` as a user starts it: a process of its own, in a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.support.source import ROOT
from tests.support.wait import eventually_true

if TYPE_CHECKING:
    from collections.abc import Sequence

START_S: Final = 30.0
END_S: Final = 40.0


class Up:
    """One run; whatever it started is found by the folder that all of it works in."""

    def __init__(self, home: Path, *arguments: str, environment: Sequence[str] = ()) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.data = home / "data"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNCHUB_")}
        self._errors = (home / "stderr").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "synchub", "up", "--data", str(self.data), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=home,
            env={**kept, "PYTHONPATH": str(ROOT), **dict(pair.split("=", 1) for pair in environment)},
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind, however the test went."""
        for pid in (self._process.pid, *self.pids()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.communicate()
        self._errors.close()

    @property
    def pid(self) -> int:
        """Of ``up`` itself."""
        return self._process.pid

    def hub(self, data: Path | None = None) -> dict[str, Any]:
        """Wait until the hub is ready and return its ``hub.json``."""
        file = (data or self.data) / "hub.json"
        eventually_true(
            lambda: _read(file).get("pid") == self.pid or self._has_ended(), within_s=START_S, what="hub.json"
        )
        assert not self._has_ended(), self.errors()
        return _read(file)

    def says(self, words: str) -> None:
        """Wait until it has said this on standard error."""
        eventually_true(
            lambda: words in self.errors() or self._has_ended(), within_s=START_S, what=f"saying {words!r}"
        )
        assert words in self.errors()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        """End ``up`` alone, as a crash would."""
        self._process.kill()
        self._process.wait()

    def end(self, *, within_s: float = END_S) -> tuple[int, str]:
        """Wait for its end and return exit code and standard output."""
        out, _ = self._process.communicate(timeout=within_s)
        return self._process.returncode, out.decode()

    def errors(self) -> str:
        """Everything it has said on standard error so far."""
        return (self.home / "stderr").read_text(encoding="utf-8", errors="replace")

    def pids(self) -> dict[int, str]:
        """Every process that lives in the run's folder, with its command line; ``up`` is one of them."""
        return {
            pid: command
            for pid, command in _commands().items()
            if (at := _folder_of(pid)) and at.is_relative_to(self.home)
        }

    def pid_of(self, part: str) -> int:
        """Wait for the process whose command line holds these words and return its id."""
        found: list[int] = []

        def is_there() -> bool:
            # One look at the processes both decides and answers: the next look may find it gone.
            found.extend(pid for pid, command in self.pids().items() if part in command)
            return bool(found)

        eventually_true(is_there, within_s=START_S, what=part)
        return found[0]

    def _has_ended(self) -> bool:
        return self._process.poll() is not None


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def _commands() -> dict[int, str]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                text = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                # A process that has ended and was not yet waited for has none.
                if text.strip():
                    found[int(entry.name)] = text
    return found


def _folder_of(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None
