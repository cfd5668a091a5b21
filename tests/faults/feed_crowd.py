"""Many readers at once, each with a judge of its own, who come back as the rules say, or all at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from tests.faults.feed_judge import Judge
from tests.faults.feed_line import Line, request_of
from tests.faults.feed_truth import SKUS
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.faults.feed_line import Frame
    from tests.faults.feed_truth import Truth

SILENT_BEATS: Final = 6
"""A connection on which so many heartbeats are missing is dead."""
_CONNECT_S: Final = 10.0
_WATCH_EVERY_S: Final = 0.2
_LONGEST_PAUSE: Final = 2.0
"""In first pauses."""
_SHARE: Final = (0.25, 0.75)
"""Which part of its pause a reader waits."""
_LISTED: Final = 8
_FIRST_HB_S: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What a reader asks for, and whether it is told of a SKU then."""

    query: str
    follows: Callable[[str], bool]


class Reader:
    """Follows one filter over one transport, for ever."""

    def __init__(
        self,
        truth: Truth,
        watched: Watched,
        *,
        number: int,
        key: str,
        is_socket: bool,
        port: Callable[[], int],
    ) -> None:
        kind = "WebSocket" if is_socket else "SSE"
        self.judge = Judge(truth, watched.follows, name=f"reader {number} ({kind}, {watched.query})")
        self.line: Line | None = None
        self.connections = 0
        self.resumed_s: list[float] = []
        """From the beginning of each connection that came back until the state was complete again."""
        self.counts: Counter[str] = Counter()
        """Ends of connections, by what they came to."""
        self._watched = watched
        self._key = key
        self._is_socket = is_socket
        self._port = port
        self._chance = random.Random(number)
        self._pause = 1.0
        self._is_due = asyncio.Event()
        self._asked_at = 0.0
        self._has_told = False

    @property
    def follows_now(self) -> bool:
        """Whether it has a state, and a connection that has told it so."""
        return self.line is not None and self._has_told and self.judge.seq is not None

    async def follow(self) -> None:
        """Connect again and again, until sent away for good."""
        while self.judge.may_return:
            await self._visit()
            self._pause = 1.0 if self._has_told else min(_LONGEST_PAUSE, self._pause * 1.5)
            wait_s = self.judge.retry_s * self._pause * self._chance.uniform(*_SHARE)
            try:
                async with asyncio.timeout(wait_s):
                    await self._is_due.wait()
            except TimeoutError:
                pass
            self._is_due.clear()
        self.judge.broken.append(f"{self.judge.name}: was sent away for good")

    def cut(self, *, forgets: bool = False) -> None:
        """Lose the connection, perhaps the memory too, and come back without the pause that was asked for."""
        self._is_due.set()
        if forgets:
            self.judge.forget()
        if self.line is not None:
            self.line.cut()

    def count_from(self, at: float) -> None:
        """Count the return that is under way only from then on."""
        self._asked_at = max(self._asked_at, at)

    def drop_if_silent(self, now: float) -> None:
        """Give a connection up on which too many heartbeats are missing."""
        line = self.line
        hb_s = self.judge.hb_s if self._has_told else max(_FIRST_HB_S, self.judge.hb_s)
        if line is not None and now - line.heard_at > SILENT_BEATS * hb_s:
            self.counts["silent"] += 1
            line.cut()

    async def _visit(self) -> None:
        port, loop = self._port(), asyncio.get_running_loop()
        request = request_of(
            port, self._watched.query, self._key, self.judge.cursor, is_socket=self._is_socket
        )
        self._has_told = False
        self._asked_at = time.monotonic()
        self.judge.connect()
        line = Line(request, self._take, is_socket=self._is_socket)
        try:
            async with asyncio.timeout(_CONNECT_S):
                await loop.create_connection(lambda: line, "127.0.0.1", port)
        except (OSError, TimeoutError):
            self.counts["refused"] += 1
            return
        self.line = line
        try:
            await line.lost.wait()
        finally:
            self.line = None
            line.cut()
        self.counts[f"status:{line.status}"] += 1
        if line.fault:
            self.judge.broken.append(f"{self.judge.name}: {line.fault}")

    def _take(self, frame: Frame) -> None:
        line, judge = self.line, self.judge
        if line is None:
            return
        if not judge.take(frame, asked_ms=line.asked_ms, now_ms=time.monotonic_ns() // 1_000_000):
            line.cut()
        elif frame.event in {"snap_end", "upd", "hb"} and not self._has_told:
            self._has_told = True
            self.connections += 1
            if self.connections > 1:
                self.resumed_s.append(time.monotonic() - self._asked_at)


@dataclass
class Crowd:
    """All readers of a trial."""

    readers: list[Reader]
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(reader.follow()) for reader in self.readers]
        self._tasks.append(asyncio.create_task(self._watch()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def all_know(self, at_ms: int, *, within_s: float) -> None:
        """Return when every reader knows everything up to a moment of the machine's monotonic clock."""
        waiting = list(self.readers)

        def is_known() -> bool:
            # One after the other: asking thousands again and again would slow down what is measured.
            while waiting and waiting[-1].follows_now and waiting[-1].judge.asof_ms >= at_ms:
                waiting.pop()
            return not waiting

        try:
            await eventually(is_known, within_s=within_s, what="a state of every reader")
        except AssertionError as problem:
            msg = (
                f"{problem}: of {len(waiting)} readers it is not known, {self.counts()}, {self.broken()[:5]}"
            )
            raise AssertionError(msg) from None

    def count_from(self, at: float) -> None:
        """Count returns that are under way only from then on."""
        for reader in self.readers:
            reader.count_from(at)

    def broken(self) -> list[str]:
        """Every broken promise."""
        return [sentence for reader in self.readers for sentence in reader.judge.broken]

    def disagreements(self) -> list[str]:
        """What readers hold that is not true, or do not hold that is."""
        return [sentence for reader in self.readers if (sentence := reader.judge.disagreement())]

    def counts(self) -> Counter[str]:
        """What all readers have counted."""
        total: Counter[str] = Counter()
        for reader in self.readers:
            total += reader.judge.counts + reader.counts
        return total

    def resumed_s(self) -> list[float]:
        """How long each return took, the shortest first."""
        return sorted(seconds for reader in self.readers for seconds in reader.resumed_s)

    async def _watch(self) -> None:
        while True:
            now = time.monotonic()
            for reader in self.readers:
                reader.drop_if_silent(now)
            await asyncio.sleep(_WATCH_EVERY_S)


def gathered(
    truth: Truth, count: int, ports: Sequence[Callable[[], int]], *, key: str, bound_ms: int, seed: int
) -> Crowd:
    """Readers of everything, of a prefix and of a list, half of each over WebSockets."""
    chance = random.Random(seed)
    return Crowd(
        [
            Reader(
                truth,
                _watched(number, chance, bound_ms),
                number=number,
                key=key,
                is_socket=bool(number % 2),
                port=ports[number % len(ports)],
            )
            for number in range(count)
        ]
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that this share of values does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _watched(number: int, chance: random.Random, bound_ms: int) -> Watched:
    bound = f"bound_ms={bound_ms}"
    kind = number // 2 % 3
    if kind == 0:
        return Watched(query=bound, follows=lambda _sku: True)
    if kind == 1:
        prefix = chance.choice(SKUS)[:2]
        return Watched(query=f"{bound}&prefix={prefix}", follows=lambda sku: sku.startswith(prefix))
    listed = frozenset(chance.sample(SKUS, _LISTED))
    return Watched(query=_listing(bound, sorted(listed)), follows=partial(_is_in, listed))


def _listing(bound: str, skus: Iterable[str]) -> str:
    return "&".join([bound, *(f"sku={sku}" for sku in skus)])


def _is_in(listed: frozenset[str], sku: str) -> bool:
    return sku in listed
