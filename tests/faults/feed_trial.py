"""One fault of the feed on real processes, and whether every reader was told the truth about it.

A store, one or two ``synchub serve``, and readers in the test's own process; changes are
applied past the hub, on a line to the store that no fault cuts. The order of a trial: all
readers have a state, changes begin, a random calm, the fault, and at the end every
reader must hold exactly what is true and must never have been told anything else.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from tests.faults.feed_crowd import Crowd, gathered, percentile
from tests.faults.feed_truth import SKUS, Publisher
from tests.support.fault_proxy import FaultProxy
from tests.support.merchants import Merchant, add_merchant
from tests.support.processes import Process, free_port
from tests.support.registry import KEY
from tests.support.topology import TOPOLOGY
from tests.support.valkey import Valkey
from tests.support.wait import eventually, lasting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

ONE_KEY: Final = {"FEED__READERS_PER_AGENT": "20000"}
"""All readers of a trial have one key."""
SHORT_WAITS: Final = {"REDIS__COMMAND_TIMEOUT_MS": "500", "SERVER__DRAIN_MS": "1000"}
"""A trial of seconds is over sooner than the waits that production has."""
RESUME_S: Final = 2.0
"""How long a return may take at the 99th percentile."""
_WITHIN_S: Final = 30.0
_DEGRADED_WITHIN_S: Final = 10.0
_MEANWHILE: Final = 10
"""Changes that are acknowledged while nobody can be told of them."""
_FORGETFUL: Final = 0.5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many follow, and how long the parts of a trial last."""

    readers: int
    calm_s: float = 0.3
    """At most; a random part of it passes before each repetition of the fault."""
    fault_s: float = 0.3
    """At least."""
    after_s: float = 0.2
    times: int = 1
    servers: int = 1
    pace_s: float = 0.04
    """Between two steps of the one who changes levels."""
    bound_ms: int = 500


@dataclass(kw_only=True)
class FeedReport:
    """What came out of one trial."""

    fault: str
    seed: int
    readers: int
    changes: int
    seconds: float
    counts: Counter[str]
    resumed_s: list[float]
    """How long each return took, the shortest first."""
    well_after_s: float
    """Longest time from the end of a fault until every reader knew of everything up to that end."""
    degraded_s: float
    """Longest time from the loss of the store until every reader was told; 0 if it was not lost."""
    broken: list[str] = field(default_factory=list)

    @property
    def resume_p50_s(self) -> float:
        """How long half of the returns took."""
        return percentile(self.resumed_s, 0.5)

    @property
    def resume_p99_s(self) -> float:
        """How long a return took, but for one in a hundred."""
        return percentile(self.resumed_s, 0.99)


@dataclass(kw_only=True)
class Site:
    """Everything that a fault can strike."""

    valkey: Valkey
    store_line: FaultProxy
    servers: list[Process]
    reader_lines: list[FaultProxy]
    crowd: Crowd = field(default_factory=lambda: Crowd([]))
    publisher: Publisher | None = None
    degraded_s: float = 0.0

    async def changed(self) -> None:
        """Return when some changes more have been acknowledged."""
        assert self.publisher is not None
        await self.publisher.more(_MEANWHILE)


class Act(Protocol):
    """One kind of harm; returns when it is undone."""

    async def __call__(self, site: Site, chance: random.Random, size: Size) -> None:
        """Do it and undo it."""


@dataclass(frozen=True, kw_only=True)
class FeedFault:
    """An act, and how big its trials are in the suite and in the campaign."""

    name: str
    act: Act
    short: Size
    long: Size


async def kill_server(site: Site, chance: random.Random, size: Size) -> None:
    """Crash one process that serves the feed; a supervisor starts it again on its port."""
    del size
    server = chance.choice(site.servers)
    server.kill()
    server.start(wait=False)
    await asyncio.to_thread(server.wait_until_up)


async def drain_server(site: Site, chance: random.Random, size: Size) -> None:
    """End one process in good order, as an upgrade does, and start it again."""
    del size
    server = chance.choice(site.servers)
    status = await asyncio.to_thread(server.stop)
    assert status == 0, f"{server.name} ended with {status}"
    server.start(wait=False)
    await asyncio.to_thread(server.wait_until_up)


async def kill_store(site: Site, chance: random.Random, size: Size) -> None:
    """Crash the store and start it again."""
    del chance, size
    await asyncio.to_thread(site.valkey.restart)


async def hole_store_line(site: Site, chance: random.Random, size: Size) -> None:
    """Let nothing pass between hub and store until every reader was told; changes go on meanwhile."""
    del chance
    site.store_line.hole()
    began = time.monotonic()
    try:
        await asyncio.gather(_all_degraded(site), site.changed())
        site.degraded_s = max(site.degraded_s, time.monotonic() - began)
        await lasting(max(0.0, began + size.fault_s - time.monotonic()))
    finally:
        site.store_line.mend()


async def slow_store_line(site: Site, chance: random.Random, size: Size) -> None:
    """Make every question to the store old before its answer is there; half of the readers begin anew."""
    line = site.store_line
    line.requests.latency_s, line.replies.latency_s = chance.uniform(0.01, 0.03), chance.uniform(0.01, 0.03)
    try:
        for reader in site.crowd.readers:
            reader.cut(forgets=chance.random() < _FORGETFUL)
        await asyncio.gather(site.crowd.all_know(_now_ms(), within_s=_WITHIN_S), site.changed())
        await lasting(size.fault_s)
    finally:
        line.requests.latency_s = line.replies.latency_s = 0.0


async def hole_reader_lines(site: Site, chance: random.Random, size: Size) -> None:
    """Let nothing pass between readers and hub until every reader behind the line has given its line up."""
    del chance
    lost = Counter({reader: reader.counts["silent"] for reader in site.crowd.readers})
    for line in site.reader_lines:
        line.hole()
    try:
        await eventually(
            lambda: all(reader.counts["silent"] > count for reader, count in lost.items()),
            within_s=_WITHIN_S,
            what="the silence on every line",
        )
        await lasting(size.fault_s)
    finally:
        for line in site.reader_lines:
            line.mend()
        # What was asked into the hole could not be answered before.
        site.crowd.count_from(time.monotonic())


async def reset_reader_lines(site: Site, chance: random.Random, size: Size) -> None:
    """Cut every reader's connection with a reset, some of them again while they come back."""
    for _ in range(3):
        for line in site.reader_lines:
            line.reset()
        await lasting(chance.uniform(0, size.fault_s))


async def return_at_once(site: Site, chance: random.Random, size: Size) -> None:
    """Have all readers lose their connections and come back in the same moment."""
    del chance, size
    for reader in site.crowd.readers:
        reader.cut()


_SHORT: Final = Size(readers=60)
_LONG: Final = Size(readers=200, calm_s=5, fault_s=10, after_s=3, times=3, bound_ms=1000)

FEED_FAULTS: Final = (
    FeedFault(
        name="feed-killed",
        act=kill_server,
        short=Size(readers=200),
        long=_LONG,
    ),
    FeedFault(
        name="feed-store-killed",
        act=kill_store,
        short=Size(readers=60, servers=2, times=2),
        long=Size(readers=200, servers=2, calm_s=5, after_s=3, times=5, bound_ms=1000),
    ),
    FeedFault(name="feed-store-holed", act=hole_store_line, short=_SHORT, long=_LONG),
    FeedFault(name="feed-store-slow", act=slow_store_line, short=_SHORT, long=_LONG),
    FeedFault(name="feed-lines-holed", act=hole_reader_lines, short=_SHORT, long=_LONG),
    FeedFault(name="feed-lines-reset", act=reset_reader_lines, short=_SHORT, long=_LONG),
    FeedFault(
        name="feed-drained",
        act=drain_server,
        short=_SHORT,
        long=Size(readers=200, servers=2, calm_s=5, after_s=3, times=3, bound_ms=1000),
    ),
    FeedFault(
        name="feed-all-at-once",
        act=return_at_once,
        short=Size(readers=400, servers=2),
        # Slowly changed and seldom beaten: what is tried here is the return.
        long=Size(readers=5000, servers=2, calm_s=3, after_s=5, times=3, pace_s=1.0, bound_ms=5000),
    ),
)
_BEHIND_LINES: Final = frozenset({hole_reader_lines, reset_reader_lines})


def feed_fault(name: str) -> FeedFault:
    """The fault of that name."""
    return next(fault for fault in FEED_FAULTS if fault.name == name)


async def try_feed(
    folder: Path, fault: FeedFault, size: Size, *, seed: int, settings: Mapping[str, str] | None = None
) -> FeedReport:
    """Carry one trial out; ``seed`` decides everything random about it."""
    _log.warning("fault %s, seed %s", fault.name, seed)
    chance = random.Random(seed)
    started = time.monotonic()
    async with _opened(folder, size.servers, settings or {}) as (site, merchant):
        ports = _ports(site, chance, behind=fault.act in _BEHIND_LINES)
        publishing = Publisher(site.valkey.url, merchant, folder=folder, seed=seed, pace_s=size.pace_s)
        async with publishing as publisher:
            site.publisher = publisher
            await publisher.change(SKUS)
            site.crowd = gathered(
                publisher.truth, size.readers, ports, key=merchant.key, bound_ms=size.bound_ms, seed=seed
            )
            publisher.start()
            async with site.crowd as crowd:
                await crowd.all_know(_now_ms(), within_s=_WITHIN_S)
                well_after_s = await _suffer(site, fault.act, size, chance)
                await publisher.stop()
                await crowd.all_know(_now_ms(), within_s=_WITHIN_S)
                return FeedReport(
                    fault=fault.name,
                    seed=seed,
                    readers=size.readers,
                    changes=len(publisher.truth.acked),
                    seconds=time.monotonic() - started,
                    counts=crowd.counts(),
                    resumed_s=crowd.resumed_s(),
                    well_after_s=well_after_s,
                    degraded_s=site.degraded_s,
                    broken=[*crowd.broken(), *crowd.disagreements(), *_ended(site)],
                )


async def _suffer(site: Site, act: Act, size: Size, chance: random.Random) -> float:
    """Let the fault strike; return the longest time until all readers knew of everything again."""
    longest = 0.0
    for _ in range(size.times):
        await lasting(chance.uniform(0, size.calm_s))
        await act(site, chance, size)
        ended_ms = _now_ms()
        await site.crowd.all_know(ended_ms, within_s=_WITHIN_S)
        longest = max(longest, (_now_ms() - ended_ms) / 1000)
    await asyncio.gather(lasting(size.after_s), site.changed())
    return longest


async def _all_degraded(site: Site) -> None:
    """Return when every reader has been told that nothing could be verified."""
    told = {reader for reader in site.crowd.readers if reader.judge.is_degraded}

    def is_told() -> bool:
        told.update(reader for reader in site.crowd.readers if reader.judge.is_degraded)
        return len(told) == len(site.crowd.readers)

    await eventually(is_told, within_s=_DEGRADED_WITHIN_S, what="the word that the store is away")


@contextlib.asynccontextmanager
async def _opened(
    folder: Path, servers: int, settings: Mapping[str, str]
) -> AsyncIterator[tuple[Site, Merchant]]:
    async with contextlib.AsyncExitStack() as opened:
        valkey = Valkey(folder / "valkey")
        opened.push_async_callback(asyncio.to_thread, valkey.stop)
        await asyncio.to_thread(valkey.start)
        # Before the processes are there, so that they know it from the start.
        merchant = await add_merchant(valkey.url)
        store_line = await opened.enter_async_context(FaultProxy(valkey.port))
        environment = {
            "SYNCHUB_REDIS__URL": store_line.url,
            "SYNCHUB_SECRETS__KEY": base64.b64encode(KEY).decode(),
            **{f"SYNCHUB_{name}": value for name, value in {**ONE_KEY, **settings}.items()},
        }
        processes = [_server(folder, number, environment) for number in range(1, servers + 1)]
        for process in processes:
            opened.push_async_callback(asyncio.to_thread, process.stop)
            process.start(wait=False)
        for process in processes:
            await asyncio.to_thread(process.wait_until_up)
        lines = [await opened.enter_async_context(FaultProxy(process.port)) for process in processes]
        try:
            yield Site(valkey=valkey, store_line=store_line, servers=processes, reader_lines=lines), merchant
        except BaseException:  # whatever it is, what the processes said is shown with it
            for process in processes:
                print(f"--- {process.name}\n{process.log()}")  # noqa: T201 - pytest shows it with a failure
            raise


def _server(folder: Path, number: int, environment: Mapping[str, str]) -> Process:
    port = free_port()
    local = {"--host": "127.0.0.1", "--port": str(port)}
    words = TOPOLOGY["api"].argv
    argv = [local.get(before, word) for before, word in zip(("", *words), words, strict=False)]
    return Process(f"serve-{number}", argv, folder, port=port, environment=environment)


def _ports(site: Site, chance: random.Random, *, behind: bool) -> list[Callable[[], int]]:
    """Where readers connect: one process, or whichever a balancer would have chosen."""
    addresses = [line.port for line in site.reader_lines] if behind else [one.port for one in site.servers]
    return [partial(chance.choice, addresses)]


def _ended(site: Site) -> list[str]:
    return [f"{process.name} has ended" for process in site.servers if not process.runs]


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
