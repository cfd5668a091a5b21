"""What changes in a run of fan-out, a process of its own: the levels of a hub, or frames for its peers.

Two manners. At a rate, change n is due at ``start + n x interval`` whatever happens. Pressed, only so many
changes are under way at a time, which not all readers have been told of yet; the readers' process says so.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol, TypeVar
from urllib.parse import urlsplit

import uvloop

from benchmarks.children import hear_line, say_line
from benchmarks.coverage import Pattern
from benchmarks.figures import Latency, latency_of
from benchmarks.ticker import Ticker
from synchub.connector_kit.events import Level, Scale, Version
from synchub.keyspace import MerchantKeys
from synchub.redis import CoalescingRedis
from synchub.settings import load_settings
from synchub.stock.operations import apply
from synchub.stock.rules import Circumstances, rows_of

BATCH = 64
"""Most changes in one script, as in a worker."""
AT_ONCE = 16
PATIENCE_S = 30.0
NCHAN_ADDS = 40
"""About what the server writes around a message: its id, field names, the mark of a chunk."""

T = TypeVar("T")
Kind = Literal["hub", "bare", "nchan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """Who is told of changes. ``url``: of the hub's store, or where a peer takes frames."""

    kind: Kind
    url: str
    skus: int
    merchant: str = ""
    account: str = ""
    frame_bytes: int = 0
    must_create: bool = True
    """Whether SKUs are not there yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRun:
    """One run: at ``rate`` per second, or with so many changes ``under_way``."""

    first: int
    start_ns: int
    seconds: float
    rate: float = 0.0
    under_way: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """Changes ``first`` to ``last`` (exclusive) were made; ``slip`` is how late, at a rate."""

    first: int
    last: int
    elapsed_s: float
    cpu_share: float
    slip: Latency


class Tells(Protocol):
    """Something that changes can be given to."""

    async def open(self) -> None:
        """Make ready."""

    async def tell(self, numbers: Sequence[int]) -> None:
        """Make these changes."""

    async def close(self) -> None:
        """Give back what was opened."""


class StoreTeller:
    """Applies levels by the hub's own script, as its workers do."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._pattern = Pattern(skus=plan.skus)
        self._keys = MerchantKeys(plan.merchant)
        self._settings = load_settings(redis={"url": plan.url})
        self._redis = CoalescingRedis(self._settings.redis)

    async def open(self) -> None:
        """Create the SKUs: the first change of each."""
        if not self._plan.must_create:
            return
        for wave in _parts(_parts(range(self._plan.skus), BATCH), AT_ONCE):
            await asyncio.gather(*(self.tell(numbers) for numbers in wave))

    async def tell(self, numbers: Sequence[int]) -> None:
        """Apply them in one script."""
        rows = [row for number in numbers for row in rows_of([self._level(number)], self._about(number))]
        for applied in await apply(self._redis, self._keys, rows, settings=self._settings):
            assert applied.outcome == "applied", applied

    async def close(self) -> None:
        """Give back what was opened."""
        await self._redis.close()

    def _level(self, number: int) -> Level:
        return Level(
            item=self._pattern.sku(number),
            location="WH1",
            quantity=self._pattern.quantity(number),
            version=Version(scale=Scale.SEQUENCE, number=number + 1),
        )

    def _about(self, number: int) -> Circumstances:
        now_ms = time.time_ns() // 1_000_000
        op = f"bench:{number}"
        return Circumstances(
            account=self._plan.account, at_ms=now_ms, is_read=False, op=op, cause="benchmark"
        )


class BareTeller:
    """Hands frames to the bare writer."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._pattern = Pattern(skus=plan.skus)
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connect."""
        address = urlsplit(self._plan.url)
        _, self._writer = await asyncio.open_connection(address.hostname, address.port)

    async def tell(self, numbers: Sequence[int]) -> None:
        """Send one frame for each."""
        assert self._writer is not None
        for number in numbers:
            self._writer.write(frame_of(number, self._pattern, self._plan.frame_bytes))

    async def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()


class NchanTeller:
    """Publishes over HTTP, one message after the other on one connection that is kept."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._pattern = Pattern(skus=plan.skus)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Connect."""
        address = urlsplit(self._plan.url)
        self._streams = await asyncio.open_connection(address.hostname, address.port)

    async def tell(self, numbers: Sequence[int]) -> None:
        """Publish each and wait for its answer."""
        async with self._turn:
            for number in numbers:
                await self._publish(message_of(number, self._pattern, self._plan.frame_bytes - NCHAN_ADDS))

    async def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()

    async def _publish(self, message: bytes) -> None:
        assert self._streams is not None
        answers, out = self._streams
        address = urlsplit(self._plan.url)
        head = (
            f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: text/json\r\n"
            f"X-EventSource-Event: upd\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(message)}\r\n\r\n"
        )
        out.write(head.encode() + message)
        told = await answers.readuntil(b"\r\n\r\n")
        assert told[9:10] == b"2", told
        length = next(
            int(line.partition(b":")[2])
            for line in told.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        await answers.readexactly(length)


class Progress:
    """Listens to the readers' process."""

    def __init__(self) -> None:
        self.complete = 0
        self.moved = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def listen(self) -> int:
        """Return the port."""
        self._server = await asyncio.start_server(self._hear, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _hear(self, said: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            while line := await said.readline():
                self.complete = int(line)
                self.moved.set()
        finally:
            answer.close()


async def at_rate(teller: Tells, run: LoadRun) -> list[int]:
    """Make each change when it is due, whatever became of those before; return how late each was begun."""
    interval_ns, count = interval_of(run.rate), round(run.rate * run.seconds)
    slips, due = array("q"), asyncio.Event()
    ticker = Ticker(due.set)
    async with asyncio.TaskGroup() as tasks:
        while len(slips) < count:
            due_ns = run.start_ns + len(slips) * interval_ns
            if (late_ns := time.monotonic_ns() - due_ns) < 0:
                due.clear()
                ticker.arm(due_ns)
                await due.wait()
                continue
            tasks.create_task(teller.tell([run.first + len(slips)]))
            slips.append(late_ns)
    ticker.close()
    return list(slips)


async def pressed(teller: Tells, run: LoadRun, progress: Progress) -> int:
    """Keep so many changes under way for the time given; return how many were made."""
    progress.complete = made = 0
    await asyncio.sleep(max(0, run.start_ns - time.monotonic_ns()) / 1e9)
    deadline = time.monotonic() + run.seconds
    while (goes_on := time.monotonic() < deadline) or progress.complete < made:
        room = run.under_way - (made - progress.complete) if goes_on else 0
        if room:
            await teller.tell(range(run.first + made, run.first + made + room))
            made += room
            continue
        progress.moved.clear()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await progress.moved.wait()
        except TimeoutError:
            break  # the readers will report what they miss
    return made


def interval_of(rate: float) -> int:
    """Nanoseconds between two changes."""
    return round(1e9 / rate)


def message_of(number: int, pattern: Pattern, size: int) -> bytes:
    """What a frame of the hub says of one change, filled up to ``size`` bytes."""
    sku, quantity = pattern.sku(number), pattern.quantity(number)
    told = (
        f'{{"prev":{number - 1},"seq":{number},"items":[{{"sku":"{sku}","available":{quantity}}}],"filling":"'
    )
    return f'{told}{"x" * (size - len(told) - 2)}"}}'.encode()


def frame_of(number: int, pattern: Pattern, size: int) -> bytes:
    """A whole frame of ``size`` bytes, without the mark of a chunk."""
    head = b"event: upd\nid: %d\ndata: " % number
    return head + message_of(number, pattern, size - len(head) - 2) + b"\n\n"


TELLERS: dict[Kind, Callable[[LoadPlan], Tells]] = {
    "hub": StoreTeller,
    "bare": BareTeller,
    "nchan": NchanTeller,
}


def _parts(things: Iterable[T], size: int) -> Iterator[list[T]]:
    several = iter(things)
    while part := list(itertools.islice(several, size)):
        yield part


async def _measure(teller: Tells, run: LoadRun, progress: Progress) -> LoadReport:
    before = time.process_time()
    slips: list[int] = []
    if run.rate:
        slips = await at_rate(teller, run)
        count = len(slips)
    else:
        count = await pressed(teller, run, progress)
    elapsed_s = (time.monotonic_ns() - run.start_ns) / 1e9
    return LoadReport(
        first=run.first,
        last=run.first + count,
        elapsed_s=elapsed_s,
        cpu_share=(time.process_time() - before) / elapsed_s,
        slip=latency_of(slips),
    )


async def main() -> None:
    """Serve one plan, run after run, until ended."""
    plan = LoadPlan(**await hear_line())
    progress, teller = Progress(), TELLERS[plan.kind](plan)
    port = await progress.listen()
    await teller.open()
    say_line({"port": port})
    while True:
        run = LoadRun(**await hear_line())
        say_line(asdict(await _measure(teller, run, progress)))


if __name__ == "__main__":
    uvloop.run(main())
