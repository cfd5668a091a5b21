"""The hub as it is deployed: Valkey, api and worker as processes of their own, on free loopback ports.

The commands are those of ``topology.py``; only addresses differ. Each process writes
to a log that is kept, so that a failing test can show what it said, and may be
killed, frozen and started again under the same port, as a supervisor would.
"""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Final, Self

from tests.support.registry import KEY
from tests.support.source import ROOT
from tests.support.topology import TOPOLOGY
from tests.support.valkey import Valkey
from tests.support.wait import eventually_true

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_START_S: Final = 30.0
_STOP_S: Final = 15.0
_PROBE_S: Final = 2.0
_LOG_SHOWN: Final = 4000


class Process:
    """One process of the hub that offers ``/livez`` on a port."""

    def __init__(
        self, name: str, argv: Sequence[str], folder: Path, *, port: int, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.port = port
        self._argv = [sys.executable, "-m", *argv]
        self._environment = {**_inherited(), **environment, "PYTHONPATH": str(ROOT)}
        self._folder = folder
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start it; with ``wait`` return when it answers."""
        with self._log.open("ab") as log:
            # In its own folder, where no settings file and no other hub can be found.
            self._process = subprocess.Popen(
                self._argv,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_until_up()

    def wait_until_up(self) -> None:
        """Return as soon as it answers.

        Raises:
            AssertionError: it ended or does not answer; with the end of its log.
        """
        eventually_true(lambda: not self.runs or self.answers("/livez"), within_s=_START_S, what=self.name)
        assert self.runs, f"{self.name} has ended:\n{self.log()}"

    def answers(self, path: str) -> bool:
        """Whether it answers 200 there."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=_PROBE_S) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def text(self, path: str) -> str:
        """The body that it answers there with, whatever the status."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=_PROBE_S) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as problem:
            return problem.read().decode()

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it in good order and return its exit status; 0 when it did not run."""
        return self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop it in the middle of whatever it does, until ``thaw``."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def log(self) -> str:
        """The end of everything it wrote, over all its lives."""
        return self._log.read_text(encoding="utf-8")[-_LOG_SHOWN:] if self._log.exists() else ""

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
        try:
            return process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


class Deployment:
    """One Valkey, one api and some workers; everything is down until ``start``."""

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 1,
        settings: Mapping[str, str] | None = None,
        store: Mapping[str, str] | None = None,
        worker: Sequence[str] = TOPOLOGY["worker"].argv,
    ) -> None:
        """``settings`` are names like ``INGRESS__STREAM_MAX``, ``store`` options of the server.

        ``{url}`` in a setting is the api's address.
        ``worker`` is a module to run in place of the ordinary worker.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._settings = dict(settings or {})
        self._workers = workers
        self._worker = worker
        self.valkey = Valkey(folder / "valkey", options=store)
        self.processes: dict[str, Process] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            # Whatever has started must not outlive a deployment that could not.
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def api(self) -> Process:
        """The api process."""
        return self.processes["api"]

    @property
    def workers(self) -> list[Process]:
        """The worker processes."""
        return [process for name, process in self.processes.items() if name.startswith("worker")]

    @property
    def url(self) -> str:
        """Where the api listens."""
        return f"http://127.0.0.1:{self.api.port}"

    def move_store(self, folder: Path) -> None:
        """Have the store keep its data elsewhere; before the first start."""
        self.valkey.data = folder / "valkey"

    def start(self) -> None:
        """Start the store, then everything else side by side."""
        self.valkey.start()
        if not self.processes:
            self._name_processes()
        self.restore()

    def restore(self) -> None:
        """Start whatever does not run, as a supervisor would, and return when all answer."""
        if not self.valkey.runs:
            self.valkey.start()
        missing = [process for process in self.processes.values() if not process.runs]
        for process in missing:
            process.start(wait=False)
        for process in missing:
            process.wait_until_up()

    def stop(self) -> None:
        """End everything, the store last."""
        for process in self.processes.values():
            process.stop()
        self.valkey.stop()

    def logs(self) -> str:
        """What all processes said last."""
        return "\n".join(f"--- {name}\n{process.log()}" for name, process in self.processes.items())

    def _name_processes(self) -> None:
        self._add("api", TOPOLOGY["api"].argv)
        for number in range(1, self._workers + 1):
            self._add(f"worker-{number}", self._worker)

    def _add(self, name: str, argv: Sequence[str]) -> None:
        port = free_port()
        told = {
            "SYNCHUB_REDIS__URL": self.valkey.url,
            "SYNCHUB_SECRETS__KEY": base64.b64encode(KEY).decode(),
            # Only the worker listens there; the api has its own port.
            "SYNCHUB_WORKER__PORT": str(port),
            **{f"SYNCHUB_{setting}": self._told(value, port) for setting, value in self._settings.items()},
        }
        local = _replaced(argv, {"--host": "127.0.0.1", "--port": str(port)})
        self.processes[name] = Process(name, local, self._folder, port=port, environment=told)

    def _told(self, value: str, port: int) -> str:
        # The api is the first to be named.
        api = self.api.port if self.processes else port
        return value.replace("{url}", f"http://127.0.0.1:{api}")


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _replaced(argv: Sequence[str], values: Mapping[str, str]) -> list[str]:
    return [values.get(before, word) for before, word in zip(("", *argv), argv, strict=False)]


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SYNCHUB_")}
