"""Two ways of sending prepared requests.

Open loop: request n is due at ``start + n x interval`` whatever the receiver does, and its latency counts
from that moment, so a receiver that stalls is charged for everything that was due meanwhile.
Closed loop: every connection sends its next request when the last is answered; it measures throughput.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.ticker import Ticker

if TYPE_CHECKING:
    from benchmarks.http1 import Connection

FIRST_SHARE_LEFT_OUT = 0.1
"""Of a closed loop: the time until all connections are under way is no throughput."""


class OpenLoop:
    """Sends each request when it is due, on any free connection."""

    def __init__(self, requests: Sequence[bytes], interval_ns: int) -> None:
        self._requests = requests
        self._interval_ns = interval_ns
        self._start_ns = 0
        self._next = 0
        self._free: list[Connection] = []
        self._due: deque[int] = deque()
        self._ticker: Ticker | None = None
        self._done = asyncio.Event()
        self.statuses: list[int] = []
        self.latencies_ns: list[int] = []
        self.slips_ns: list[int] = []
        self.waits_ns: list[int] = []

    async def run(self, connections: list[Connection], start_ns: int, drain_s: float) -> None:
        """Send all, then wait until all are answered or ``drain_s`` has passed."""
        self._free = list(connections)
        self._start_ns = start_ns
        self._ticker = Ticker(self.tick)
        self._ticker.arm(start_ns)
        length_s = len(self._requests) * self._interval_ns / 1e9
        try:
            async with asyncio.timeout(max(0.0, (start_ns - time.monotonic_ns()) / 1e9) + length_s + drain_s):
                await self._done.wait()
        except TimeoutError:
            pass  # what is not answered by now is in the report as the difference between sent and answered
        finally:
            self._ticker.close()

    def intended_ns(self, number: int) -> int:
        """When request ``number`` is due."""
        return self._start_ns + number * self._interval_ns

    def tick(self) -> None:
        """Take up all that is due and wake again for the next."""
        while self._next < len(self._requests):
            late_ns = time.monotonic_ns() - self.intended_ns(self._next)
            if late_ns < 0:
                break
            self.slips_ns.append(late_ns)
            self._due.append(self._next)
            self._next += 1
            self._send_due()
        if self._ticker is not None and self._next < len(self._requests):
            self._ticker.arm(self.intended_ns(self._next))

    def answered(self, connection: Connection, status: int) -> None:
        """Count an answer from the moment its request was due."""
        self.latencies_ns.append(time.monotonic_ns() - self.intended_ns(connection.number))
        self.statuses.append(status)
        if connection.is_open:
            self._free.append(connection)
        self._send_due()
        if len(self.statuses) == len(self._requests):
            self._done.set()

    def _send_due(self) -> None:
        while self._due and self._free:
            number, connection = self._due.popleft(), self._free.pop()
            if not connection.is_open:
                self._due.appendleft(number)
                continue
            connection.send(number, self._requests[number])
            self.waits_ns.append(time.monotonic_ns() - self.intended_ns(number))


class ClosedLoop:
    """Keeps every connection busy until all requests are answered."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self._requests = requests
        self._next = 0
        self._sent_ns = [0] * len(requests)
        self._done = asyncio.Event()
        self._open = 0
        self.statuses: list[int] = []
        self.latencies_ns: list[int] = []
        self.answered_ns: list[int] = []

    async def run(self, connections: list[Connection]) -> None:
        """Send all and wait for all answers."""
        self._open = len(connections)
        if not self._requests:
            return
        for connection in connections:
            self._send_next(connection)
        await self._done.wait()

    def answered(self, connection: Connection, status: int) -> None:
        """Count an answer and send the next request on its connection."""
        now_ns = time.monotonic_ns()
        self.statuses.append(status)
        self.answered_ns.append(now_ns)
        self.latencies_ns.append(now_ns - self._sent_ns[connection.number])
        self._open -= not connection.is_open
        if len(self.statuses) == len(self._requests) or not self._open:
            self._done.set()
        elif connection.is_open:
            self._send_next(connection)

    def per_second(self) -> float:
        """Answers per second after the first tenth."""
        skipped = int(len(self.answered_ns) * FIRST_SHARE_LEFT_OUT)
        counted = self.answered_ns[skipped:]
        return (len(counted) - 1) / ((counted[-1] - counted[0]) / 1e9) if len(counted) > 1 else 0.0

    def _send_next(self, connection: Connection) -> None:
        if self._next < len(self._requests):
            number, self._next = self._next, self._next + 1
            self._sent_ns[number] = time.monotonic_ns()
            connection.send(number, self._requests[number])
