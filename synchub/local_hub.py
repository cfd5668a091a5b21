"""A whole hub on this machine: the embedded store, one api process, one worker, kept alive.

Whoever runs it imports none of what it starts, so that watching over the hub costs
next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from synchub.embedded import EmbeddedStore
from synchub.errors import Misconfigured
from synchub.kit.processes import Child, Command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from synchub.settings import Settings

DEFAULT_DATA: Final = Path(".synchub")
HUB_FILE: Final = "hub.json"
"""A running hub leaves its addresses here, in its data folder."""

READY_S: Final = 60.0
"""How long an api process may take to get ready; reading the store's log is not counted."""

PORT_FREED_S: Final = 10.0
"""How long the api process of a run that was killed may hold its port."""

_STOP_EXTRA_S: Final = 5.0
_PAUSE_S: Final = 0.05
_PROBE_S: Final = 5.0
_WORDS_MAX: Final = 1500
_ANY_HOST: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - told apart from an address one can call


def read_hub_file(data: Path) -> dict[str, str] | None:
    """Return the addresses of the hub that runs in a data folder, or None.

    One that was killed leaves its file behind; its process tells that it is gone.
    """
    try:
        found: dict[str, str] = json.loads((data / HUB_FILE).read_text(encoding="utf-8"))
        with contextlib.suppress(PermissionError):  # it runs, as somebody else
            os.kill(int(found["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return None
    return found


class LocalHub:
    """The hub of one data folder; ``say`` is told in sentences what happens to it."""

    def __init__(
        self,
        data: Path,
        settings: Settings,
        say: Callable[[str], None],
        *,
        worker_port: int = 0,
        profile: Mapping[str, str] | None = None,
    ) -> None:
        """``profile`` are settings by their names in the environment, for those that are not set there."""
        self.data = data.absolute()
        self.url = ""
        self.store = EmbeddedStore(self.data / "valkey")
        self.key_file = _key_file(self.data, settings)
        self.archive = _archive(self.data, settings)
        self._server = settings.server
        self._worker_port = worker_port
        self._profile = {name: value for name, value in (profile or {}).items() if name not in os.environ}
        self._say = say
        self._held = contextlib.ExitStack()
        self._started: list[Child] = []

    @property
    def worker_url(self) -> str:
        """Where the worker's numbers are, when it was given a port."""
        return f"http://{_callable(self._server.host)}:{self._worker_port}"

    @property
    def restarts(self) -> int:
        """How often a part had to be started again."""
        return sum(child.restarts for child in self._started)

    async def start(self) -> None:
        """Start everything and return when the hub is ready; after a failure call ``stop`` all the same.

        Raises:
            Misconfigured: it cannot run like this; the sentence says why.
        """
        was_killed = self._take_folder()
        port = await self._take_port(PORT_FREED_S if was_killed else 0)
        self.url = f"http://{_callable(self._server.host)}:{port}"
        await self.store.open()
        self._held.callback(self.store.close)
        await self._start_until(self.store.command(), self.store.answers, within_s=None)
        worker = await self._start(self._worker())
        await self._start_until(self._api(port), self._is_ready, within_s=READY_S)
        if worker.has_ended:
            raise Misconfigured(_failure(worker, await worker.wait()))
        for child in self._started:
            child.keep()
        self._write_hub_file()

    async def stop(self, hurry: asyncio.Event) -> None:
        """Stop in the order in which nothing is lost: who takes in first, the store last."""
        for child in reversed(self._started):
            await child.stop(hurry)
        self._held.close()

    def _take_folder(self) -> bool:
        """Lock the folder; True when the run before was killed, and its parts may still be ending."""
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.data / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as problem:
            msg = f"The data folder {self.data} cannot be used: {problem.strerror}."
            raise Misconfigured(msg) from problem
        self._held.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            running = read_hub_file(self.data) or {}
            where = f" at {running['url']} (process {running['pid']})" if running else ""
            msg = f"A hub already runs in {self.data}{where}. Stop it, or choose another folder with --data."
            raise Misconfigured(msg) from None
        file = self.data / HUB_FILE
        was_killed = file.exists()
        file.unlink(missing_ok=True)
        return was_killed

    async def _take_port(self, patience_s: float) -> int:
        """Hold the port without listening: the api process, which shares it, may be away for a moment."""
        host, port = self._server.host, self._server.port
        deadline = time.monotonic() + patience_s
        while True:
            try:
                held = _hold(host, port)
            except OSError as problem:
                if problem.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                    msg = f"Cannot listen on {host}:{port}: {problem.strerror}. Choose another with --port."
                    raise Misconfigured(msg) from problem
                await asyncio.sleep(_PAUSE_S)
                continue
            self._held.callback(held.close)
            taken: int = held.getsockname()[1]
            return taken

    def _api(self, port: int) -> Command:
        server = ("--host", self._server.host, "--port", str(port))
        return Command(
            name="api process",
            argv=(sys.executable, "-m", "synchub", "serve", "--redis", self.store.url, *server),
            log=self.data / "serve.log",
            environment=self._environment(),
            stop_s=self._server.drain_ms / 1000 + _STOP_EXTRA_S,
        )

    def _worker(self) -> Command:
        return Command(
            name="worker process",
            argv=(sys.executable, "-m", "workers"),
            log=self.data / "work.log",
            environment={
                **self._environment(),
                "SYNCHUB_WORKER__PORT": str(self._worker_port),
                # Where platforms post to, so that it can see to it that they go on.
                "SYNCHUB_SERVER__PUBLIC_URL": self._server.public_url or self.url,
            },
        )

    def _environment(self) -> dict[str, str]:
        return {
            **self._profile,
            "SYNCHUB_REDIS__URL": self.store.url,
            "SYNCHUB_REDIS__QUEUE_URL": "",
            "SYNCHUB_SECRETS__KEY_FILE": str(self.key_file),
            "SYNCHUB_ARCHIVE__FOLDER": str(self.archive),
        }

    async def _start(self, command: Command) -> Child:
        child = Child(command, self._say)
        self._started.append(child)
        try:
            await child.start()
        except OSError as problem:
            msg = f"The {command.name} cannot be started: {problem.strerror}."
            raise Misconfigured(msg) from problem
        return child

    async def _start_until(
        self, command: Command, is_ready: Callable[[], Awaitable[bool]], *, within_s: float | None
    ) -> None:
        child = await self._start(command)
        ending = asyncio.ensure_future(child.wait())
        try:
            async with asyncio.timeout(within_s):
                while not await is_ready():
                    if ending.done():
                        raise Misconfigured(_failure(child, ending.result()))
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            msg = f"The {command.name} did not get ready within {within_s} s; see {command.log}."
            raise Misconfigured(msg) from None
        finally:
            ending.cancel()

    async def _is_ready(self) -> bool:
        return (await answer_of(self.url, "/readyz")).startswith(b"HTTP/1.1 200")

    def _write_hub_file(self) -> None:
        told = {
            "url": self.url,
            "redis": self.store.url,
            "key_file": str(self.key_file),
            "archive": str(self.archive),
            "pid": os.getpid(),
        }
        file, draft = self.data / HUB_FILE, self.data / f".{HUB_FILE}"
        draft.write_text(json.dumps(told) + "\n", encoding="utf-8")
        draft.replace(file)
        self._held.callback(file.unlink, missing_ok=True)


async def answer_of(url: str, path: str) -> bytes:
    """Return the head of the answer to a GET; empty when there is none."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    try:
        async with asyncio.timeout(_PROBE_S):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read(1024)
            writer.close()
    except (OSError, TimeoutError):
        return b""
    return answer


def free_port() -> int:
    """Return a port on loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _hold(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        # Fails when anybody listens there, also somebody who would share the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    held = socket.socket(family, kind, protocol)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except OSError:
        held.close()
        raise
    return held


def _callable(host: str) -> str:
    """The host under which this machine reaches itself."""
    if host in _ANY_HOST:
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _key_file(data: Path, settings: Settings) -> Path:
    """The configured key file, otherwise one in the data folder."""
    chosen = "key_file" in settings.secrets.model_fields_set
    return (settings.secrets.key_file if chosen else data / "secret.key").absolute()


def _archive(data: Path, settings: Settings) -> Path:
    """The configured folder of the archive, otherwise one in the data folder."""
    chosen = "folder" in settings.archive.model_fields_set
    return (settings.archive.folder if chosen else data / "archive").absolute()


def _failure(child: Child, ending: str) -> str:
    return f"The {child.command.name} did not start ({ending}).\n{child.last_words()[-_WORDS_MAX:]}".strip()
