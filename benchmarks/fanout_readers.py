"""Many readers of one feed, a process of its own: how much each was told, how soon, and what never came.

Unlike the readers of ``subscribers.py`` these count while they read, because what 2,000 readers get in a few
seconds does not fit into memory. They take one run after the other over the same connections.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import cast
from urllib.parse import urlsplit

import aiohttp
import uvloop

from benchmarks.children import hear_line, say_line
from benchmarks.coverage import Pattern
from benchmarks.figures import Latency, latency_of
from benchmarks.told import Account, Expected, Splitter, Told, expected_of, read_told

WAVE = 100
"""Readers that connect at the same time; the next follow when these have their snapshot."""

SETS_AT_ONCE = 16
LIVE_EVENTS = frozenset({"snap_end", "upd", "hb"})
LOOK_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdPlan:
    """``readers`` connections to ``url``; with ``watched`` each follows a set of so many SKUs of its own.

    ``progress_port`` is told how many changes have reached everybody; 0 for nobody. A server without
    snapshots is ready as soon as it answers.
    """

    url: str
    key: str
    readers: int
    skus: int
    watched: int = 0
    has_snapshot: bool = True
    progress_port: int = 0
    patience_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdReport:
    """All readers together, of one run; counts are sums over readers."""

    latency: Latency
    items: int
    frames: int
    frame_bytes: int
    missing: int
    wrong: int
    gaps: int
    late: int
    broken: int
    cpu_share: float


@dataclass(slots=True)
class Run:
    """What is common to all readers in one run; with an interval each change has a moment when it is due."""

    first: int = 0
    start_ns: int = 0
    interval_ns: int = 0
    everybody: int = 0
    on_complete: Callable[[int], None] = lambda _: None
    frames: int = 0
    frame_bytes: int = 0
    complete: int = 0
    latencies_ns: array[int] = field(default_factory=lambda: array("q"))
    _arrived: dict[int, int] = field(default_factory=dict)

    def see(self, told: Told, at_ns: int) -> None:
        """Take the changes of one frame that one reader got."""
        self.frames += 1
        self.frame_bytes += told.size
        for number in told.changes:
            if number < self.first:
                continue
            if self.interval_ns:
                due_ns = self.start_ns + (number - self.first) * self.interval_ns
                self.latencies_ns.append(at_ns - due_ns)
            else:
                self._count(number)

    def _count(self, number: int) -> None:
        arrived = self._arrived.get(number, 0) + 1
        if arrived < self.everybody:
            self._arrived[number] = arrived
            return
        self._arrived.pop(number, None)
        self.complete += 1
        self.on_complete(self.complete)


class CrowdReader(asyncio.Protocol):
    """One connection; ``slots`` are the SKUs that it watches, None for all."""

    def __init__(self, request: bytes, crowd: Crowd, slots: Sequence[int] | None) -> None:
        self._request = request
        self._crowd = crowd
        self._skus = crowd.plan.skus
        self._splitter = Splitter()
        self._transport: asyncio.Transport | None = None
        self.slots = slots
        self.account = Account()
        self.is_live = False
        self.is_broken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the feed."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count what is complete."""
        at_ns = time.monotonic_ns()
        for block in self._splitter.feed(data):
            told = read_told(block, self._skus)
            if told is None:
                continue
            if not self.is_live:
                self.is_live = told.event in LIVE_EVENTS
            if self.account.take(told):
                self._crowd.run.see(told, at_ns)
        if not self.is_live and not self._crowd.plan.has_snapshot:
            self.is_live = self._splitter.is_open

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """A feed that ends during a run is a fault of the run."""
        self.is_broken = True

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


class Crowd:
    """All readers of one process."""

    def __init__(self, plan: CrowdPlan) -> None:
        self.plan = plan
        self.run = Run()
        self.readers: list[CrowdReader] = []
        self._progress: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connect all and wait until each has what it needs to be told changes."""
        if self.plan.progress_port:
            _, self._progress = await asyncio.open_connection("127.0.0.1", self.plan.progress_port)
        urls = [self.plan.url] * self.plan.readers
        slots: list[Sequence[int] | None] = [None] * self.plan.readers
        if self.plan.watched:
            slots = [watched_by(number, self.plan) for number in range(self.plan.readers)]
            urls = await self._sets(slots)
        for start in range(0, self.plan.readers, WAVE):
            wave = slice(start, start + WAVE)
            await self._open_wave(urls[wave], slots[wave])

    def begin(self, *, first: int, start_ns: int, interval_ns: int) -> None:
        """Forget the run before and count the next."""
        self.run = Run(
            first=first,
            start_ns=start_ns,
            interval_ns=interval_ns,
            everybody=len(self.readers),
            on_complete=self._tell_progress,
        )
        for reader in self.readers:
            reader.account.begin(first)

    async def settle(self, last: int) -> list[Expected]:
        """Wait until all were told all, or patience has run out; return what each had to be told."""
        expected = self._expected(last)
        deadline = time.monotonic() + self.plan.patience_s
        while any(
            reader.account.missing(its) and not reader.is_broken
            for reader, its in zip(self.readers, expected, strict=True)
        ):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(LOOK_S)
        return expected

    def report(self, expected: Sequence[Expected], cpu_share: float) -> CrowdReport:
        """Sum up all readers."""
        both = list(zip([reader.account for reader in self.readers], expected, strict=True))
        return CrowdReport(
            latency=latency_of(self.run.latencies_ns),
            items=sum(account.count for account, _ in both),
            frames=self.run.frames,
            frame_bytes=self.run.frame_bytes,
            missing=sum(account.missing(its) for account, its in both),
            wrong=sum(account.is_wrong(its) for account, its in both),
            gaps=sum(account.gaps for account, _ in both),
            late=sum(account.late for account, _ in both),
            broken=sum(reader.is_broken for reader in self.readers),
            cpu_share=cpu_share,
        )

    def close(self) -> None:
        """Hang up all."""
        for reader in self.readers:
            reader.close()
        if self._progress is not None:
            self._progress.close()

    def _expected(self, last: int) -> list[Expected]:
        first, skus = self.run.first, self.plan.skus
        everything = expected_of(first, last, skus=skus)
        return [
            everything if reader.slots is None else expected_of(first, last, skus=skus, watched=reader.slots)
            for reader in self.readers
        ]

    async def _open_wave(self, urls: Sequence[str], slots: Sequence[Sequence[int] | None]) -> None:
        address = urlsplit(self.plan.url)
        wave = [
            CrowdReader(request_of(url, self.plan.key), self, its)
            for url, its in zip(urls, slots, strict=True)
        ]
        loop = asyncio.get_running_loop()
        for reader in wave:
            await loop.create_connection(
                partial(_same, reader), address.hostname or "127.0.0.1", address.port or 80
            )
        async with asyncio.timeout(self.plan.patience_s):
            while not all(reader.is_live for reader in wave):
                if any(reader.is_broken for reader in wave):
                    msg = "the feed closed a connection before its snapshot was complete"
                    raise SystemExit(msg)
                await asyncio.sleep(LOOK_S)
        self.readers += wave

    async def _sets(self, slots: Sequence[Sequence[int] | None]) -> list[str]:
        """Make a set of SKUs for each reader and return its address."""
        address, pattern = urlsplit(self.plan.url), Pattern(skus=self.plan.skus)
        at_once = asyncio.Semaphore(SETS_AT_ONCE)
        sets = f"{address.scheme}://{address.netloc}/v1/feed/sets"

        async def make(its: Sequence[int] | None) -> str:
            async with at_once:
                body = {"skus": [pattern.sku(slot) for slot in its or ()]}
                async with http.post(sets, json=body) as answer:
                    if not answer.ok:
                        msg = f"a set was answered {answer.status}: {(await answer.text())[:300]}"
                        raise SystemExit(msg)
                    return f"{self.plan.url}?set={(await answer.json())['set']}"

        headers = {"Authorization": f"Bearer {self.plan.key}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            return await asyncio.gather(*(make(its) for its in slots))

    def _tell_progress(self, complete: int) -> None:
        if self._progress is not None:
            self._progress.write(b"%d\n" % complete)


def watched_by(number: int, plan: CrowdPlan) -> list[int]:
    """The SKUs of one reader's set: any, but in every run the same."""
    return random.Random(number).sample(range(plan.skus), plan.watched)


def request_of(url: str, key: str) -> bytes:
    """Ask for a feed as a browser's EventSource would."""
    address = urlsplit(url)
    path = f"{address.path}?{address.query}" if address.query else address.path
    return (
        f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: text/event-stream\r\n"
        f"Authorization: Bearer {key}\r\n\r\n"
    ).encode()


def _same(reader: CrowdReader) -> CrowdReader:
    return reader


async def main() -> None:
    """Serve one plan, run after run, until ended."""
    crowd = Crowd(CrowdPlan(**await hear_line()))
    await crowd.open()
    gc.collect()
    # As in the generator: no pauses of our own.
    gc.disable()
    say_line({"ready": True})
    while True:
        start = await hear_line()
        crowd.begin(**start)
        cpu_before = time.process_time()
        last = int((await hear_line())["last"])
        elapsed_s = (time.monotonic_ns() - crowd.run.start_ns) / 1e9
        cpu_share = (time.process_time() - cpu_before) / elapsed_s
        say_line(asdict(crowd.report(await crowd.settle(last), cpu_share)))


if __name__ == "__main__":
    uvloop.run(main())
