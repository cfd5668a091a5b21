"""Processes of a run: started, spoken to in lines of JSON, and always ended.

A measuring process reads its plan, says ``{"ready": true}``, waits for ``{"start_ns": …}`` (the clock is
CLOCK_MONOTONIC, which all processes of one machine share) and answers with its report. The standard
library's json is used because a report may hold NaN: nothing was measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine

ROOT = Path(__file__).resolve().parent.parent
LINE_LIMIT = 64 * 1024 * 1024
STOP_GRACE_S = 15.0


class ChildFailedError(Exception):
    """A process of the run ended, or did not say what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A running process."""

    name: str
    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def tell(self, message: Mapping[str, Any]) -> None:
        """Write one line of JSON to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        await self.process.stdin.drain()

    async def hear(self, *, within_s: float) -> dict[str, Any]:
        """Read the next line of JSON it says.

        Raises:
            ChildFailedError: it ended, or stayed silent for ``within_s``.
        """
        assert self.process.stdout is not None
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), within_s)
        except TimeoutError:
            msg = f"{self.name} said nothing for {within_s:g} s"
            raise ChildFailedError(msg) from None
        if not line:
            msg = f"{self.name} ended with exit code {await self.process.wait()}"
            raise ChildFailedError(msg)
        message: dict[str, Any] = json.loads(line)
        return message

    async def stop(self) -> None:
        """Ask it to end, and end it when it does not."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_GRACE_S)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


@contextlib.asynccontextmanager
async def running(
    name: str,
    command: Sequence[str],
    *,
    core: int | None = None,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Child]:
    """Run a command while the block lasts; ``env`` is added to our environment.

    With ``log`` all its output goes there (nobody reads a pipe of a program that is only watched, and a
    full pipe would stop it); otherwise it speaks JSON on stdout and its errors are shown as ours.
    """
    with machine.pinned(core), contextlib.ExitStack() as files:
        output = files.enter_context(log.open("ab")) if log else None
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=output or asyncio.subprocess.PIPE,
            stderr=output,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            limit=LINE_LIMIT,
        )
    child = Child(name=name, process=process)
    try:
        yield child
    finally:
        await child.stop()


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module of this repository with this interpreter."""
    return [sys.executable, "-m", name, *arguments]


async def hear_line() -> dict[str, Any]:
    """Inside a child: the next line of JSON from the parent; the loop goes on meanwhile."""
    line = await asyncio.to_thread(sys.stdin.buffer.readline)
    if not line:
        raise SystemExit(1)
    message: dict[str, Any] = json.loads(line)
    return message


def say_line(message: object) -> None:
    """Inside a child: one line of JSON to the parent."""
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()
