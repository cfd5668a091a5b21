"""Child processes that are started again when they end, and never outlive their parent.

A child gets a process group of its own, so that Ctrl-C in a terminal reaches the
parent alone, which then stops its children in order. Should the parent be killed,
the kernel tells the children to end (on Linux).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from synchub.kit.backoff import full_jitter_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PAUSE_BASE_S: Final = 0.1
PAUSE_MAX_S: Final = 5.0
STEADY_S: Final = 10.0
"""Whoever has lived so long starts without a pause to count from."""

LOG_MAX_BYTES: Final = 16_777_216
"""A log larger than this is put aside at the start, replacing the one before."""

_SET_PARENT_DEATH_SIGNAL: Final = 1
_TAIL_BYTES: Final = 4000
# Looked up before any fork: between fork and exec nothing may be loaded.
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run and how it is spoken of."""

    name: str
    """As it stands in sentences: ``api process``."""
    argv: tuple[str, ...]
    log: Path
    """Takes its standard error, and its output unless ``reads_output``."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Added to our own."""
    stop_s: float = 10.0
    """How long it may take to end after SIGTERM."""
    reads_output: bool = False
    """Whether we want to read its standard output."""
    inherits: tuple[int, ...] = ()
    """File descriptors that stay open in it."""


class Child:
    """One process; ``keep`` starts it again for as long as it runs."""

    def __init__(self, command: Command, say: Callable[[str], None]) -> None:
        self.command = command
        self.restarts = 0
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_stopping = False

    @property
    def pid(self) -> int:
        """Process id of the running or the last one; 0 before the first."""
        return self._process.pid if self._process else 0

    @property
    def has_ended(self) -> bool:
        """Whether it is not running at this moment."""
        return self._process is None or self._process.returncode is not None

    async def start(self) -> None:
        """Start it once."""
        _put_aside(self.command.log)
        await self._launch()

    async def first_line(self) -> bytes:
        """Return the next line of its output; empty when it has ended or was not asked to be read."""
        output = self._process.stdout if self._process else None
        return await output.readline() if output else b""

    async def wait(self) -> str:
        """Return how it ended, in words."""
        code = await self._process.wait() if self._process else 0
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def last_words(self) -> str:
        """Return the end of its log."""
        try:
            text = self.command.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
        except OSError:
            return ""
        return text.strip()

    def keep(self) -> None:
        """Start it again, with growing pauses, whenever it ends, until ``stop``."""
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.command.name}")

    async def stop(self, hurry: asyncio.Event) -> None:
        """End it in good order; with ``hurry`` set, or after ``stop_s``, at once. Repeatable."""
        self._is_stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._signal(signal.SIGKILL if hurry.is_set() else signal.SIGTERM)
        if not await self._ends_within(self.command.stop_s, hurry):
            self._signal(signal.SIGKILL)
            await self.wait()

    async def _ends_within(self, seconds: float, hurry: asyncio.Event) -> bool:
        parts = [asyncio.ensure_future(self.wait()), asyncio.ensure_future(hurry.wait())]
        await asyncio.wait(parts, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        return self.has_ended

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def _keep(self) -> None:
        failures = 0
        while not self._is_stopping:
            since_s = time.monotonic()
            ending = await self.wait()
            failures = 1 if time.monotonic() - since_s > STEADY_S else failures + 1
            self._say(f"The {self.command.name} has ended ({ending}) and is started again.")
            await self._start_again(failures)

    async def _start_again(self, failures: int) -> None:
        while True:
            await asyncio.sleep(full_jitter_s(failures, base_s=PAUSE_BASE_S, max_s=PAUSE_MAX_S))
            try:
                await self._launch()
            except OSError as problem:
                failures += 1
                self._say(f"The {self.command.name} cannot be started: {problem.strerror}.")
            else:
                self.restarts += 1
                return

    async def _launch(self) -> None:
        command = self.command
        with command.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if command.reads_output else log,
                stderr=log,
                env={**os.environ, **command.environment},
                pass_fds=command.inherits,
                process_group=0,
                preexec_fn=_end_with_parent(os.getpid()),
            )


def _end_with_parent(parent: int) -> Callable[[], None]:
    def before_exec() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM.value)
        # It may have gone between the fork and the line above.
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


def _put_aside(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_MAX_BYTES:
        log.replace(log.with_suffix(".old"))
