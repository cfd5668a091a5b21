"""Readers of the feed, a process of its own: what each saw, how soon, and what never came.

During a run each reader only keeps the bytes and the moment they came. All of them are decoded afterwards,
so every reader is checked in full and the checking takes nothing from the hub meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import cast
from urllib.parse import urlsplit

import uvloop

from benchmarks.children import hear_line, say_line
from benchmarks.coverage import Coverage, Pattern, Seen
from benchmarks.figures import Latency, latency_of
from benchmarks.sse import Frame, FrameDecoder, read_state

SETTLE_S = 0.5
"""After the generator has finished: what comes later than this is decoded while it still comes."""

STATE_EVENTS = frozenset({"snap", "upd", "hb"})
LIVE_EVENTS = frozenset({"snap_end", "upd", "hb"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlan:
    """``readers`` connections to ``url`` that expect changes ``first`` to ``last`` (exclusive)."""

    url: str
    key: str
    readers: int
    skus: int
    first: int
    last: int
    rate: float
    patience_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadReport:
    """All readers together; counts are sums over readers, so one lost change at 50 readers counts 50."""

    latency: Latency
    exact: int
    superseded: int
    missing: int
    backwards: int
    wrong_final: int
    gaps: int
    frames: int
    bytes: int
    broken: int
    cpu_share: float


class Reader(asyncio.Protocol):
    """One connection to the feed."""

    def __init__(self, request: bytes, coverage: Coverage) -> None:
        self._request = request
        self._coverage = coverage
        self._decoder = FrameDecoder()
        self._pieces: list[tuple[int, bytes]] = []
        self._transport: asyncio.Transport | None = None
        self._position = -1
        self.is_live = False
        self.is_broken = False
        self.gaps = 0
        self.frames = 0
        self.bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the feed."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Keep the bytes and their moment."""
        self._pieces.append((time.monotonic_ns(), data))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """A feed that ends during a run is a fault of the run."""
        self.is_broken = True

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def decode(self) -> None:
        """Work off what has been kept."""
        pieces, self._pieces = self._pieces, []
        for at_ns, data in pieces:
            self.bytes += len(data)
            for frame in self._decoder.feed(data):
                self._take(frame, at_ns)

    def coverage(self) -> Coverage:
        """What this reader has seen."""
        return self._coverage

    def _take(self, frame: Frame, at_ns: int) -> None:
        self.frames += 1
        self.is_live = self.is_live or frame.event in LIVE_EVENTS
        if frame.event not in STATE_EVENTS:
            return
        state = read_state(frame.data)
        self._coverage.see(state.items, at_ns)
        if frame.event != "snap":
            self._advance(state.prev, state.seq)

    def _advance(self, prev: int, seq: int) -> None:
        self.gaps += self._position >= 0 and prev > self._position
        self._position = max(self._position, seq)


async def open_readers(plan: ReadPlan) -> list[Reader]:
    """Connect all readers and wait until each has its snapshot."""
    address = urlsplit(plan.url)
    pattern = Pattern(skus=plan.skus)
    loop = asyncio.get_running_loop()
    readers = []
    for _ in range(plan.readers):
        reader = Reader(_request(plan), Coverage(pattern, plan.first, plan.last))
        await loop.create_connection(
            partial(_same, reader), address.hostname or "127.0.0.1", address.port or 80
        )
        readers.append(reader)
    async with asyncio.timeout(plan.patience_s):
        while not all(reader.is_live for reader in readers):
            _check_open(readers)
            for reader in readers:
                reader.decode()
            await asyncio.sleep(0.02)
    return readers


async def settle(readers: Sequence[Reader], patience_s: float) -> None:
    """Wait until all readers have seen all changes, or patience has run out."""
    await asyncio.sleep(SETTLE_S)
    deadline = time.monotonic() + patience_s
    while True:
        for reader in readers:
            reader.decode()
        if all(reader.coverage().is_complete() for reader in readers) or time.monotonic() > deadline:
            return
        await asyncio.sleep(0.1)


def report(plan: ReadPlan, readers: Sequence[Reader], start_ns: int, cpu_share: float) -> ReadReport:
    """Sum up all readers."""
    interval_ns = round(1e9 / plan.rate)
    samples: list[int] = []
    for reader in readers:
        samples += reader.coverage().latencies_ns(start_ns, interval_ns)
    seen: list[Seen] = [reader.coverage().account() for reader in readers]
    return ReadReport(
        latency=latency_of(samples),
        exact=sum(each.exact for each in seen),
        superseded=sum(each.superseded for each in seen),
        missing=sum(each.missing for each in seen),
        backwards=sum(each.backwards for each in seen),
        wrong_final=sum(each.wrong_final for each in seen),
        gaps=sum(reader.gaps for reader in readers),
        frames=sum(reader.frames for reader in readers),
        bytes=sum(reader.bytes for reader in readers),
        broken=sum(reader.is_broken for reader in readers),
        cpu_share=cpu_share,
    )


def _request(plan: ReadPlan) -> bytes:
    address = urlsplit(plan.url)
    path = f"{address.path}?{address.query}" if address.query else address.path
    return (
        f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: text/event-stream\r\n"
        f"Authorization: Bearer {plan.key}\r\n\r\n"
    ).encode()


def _same(reader: Reader) -> Reader:
    return reader


def _check_open(readers: Sequence[Reader]) -> None:
    if any(reader.is_broken for reader in readers):
        msg = "the feed closed a connection before its snapshot was complete"
        raise SystemExit(msg)


async def main() -> None:
    """Serve one plan."""
    plan = ReadPlan(**await hear_line())
    readers = await open_readers(plan)
    say_line({"ready": True})
    start_ns = int((await hear_line())["start_ns"])
    gc.collect()
    # As in the generator: no pauses of our own.
    gc.disable()
    cpu_before = time.process_time()
    # The parent says so when the generator has finished.
    await hear_line()
    busy_s = (plan.last - plan.first) / plan.rate
    cpu_share = (time.process_time() - cpu_before) / busy_s
    await settle(readers, plan.patience_s)
    say_line(asdict(report(plan, readers, start_ns, cpu_share)))
    for reader in readers:
        reader.close()


if __name__ == "__main__":
    uvloop.run(main())
