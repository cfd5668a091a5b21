"""Posts an emulated platform's webhooks: in order per item, with retries, and with faults.

A delivery that a fault withholds is gone for good, as on real platforms: only
polling can find what it said.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp

from synchub.connector_kit.emulated_faults import FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TRIES: Final = 3
RETRY_AFTER_S: Final = 0.5
TIMEOUT_S: Final = 5.0
COPIES: Final = 5
HELD_S: Final = 0.5
LANES: Final = 16
"""Items share lanes; within a lane each delivery waits for the answer to the one before."""
LOST_EACH: Final = 3
"""While webhooks are lost here and there, it is every third one."""
MAX_PENDING: Final = 20_000
"""Deliveries beyond this many unsent ones are withheld: the hub has been away too long."""

WITHHELD: Final = 0
"""The status of a delivery that was never sent."""

COUNTED: Final = (
    "posted",
    "accepted",
    "refused",
    "failed",
    "pending",
    "withheld",
    "duplicates",
    "duplicates_accepted",
    "forged",
    "forged_accepted",
    "disabled",
)
"""Deliveries by what became of them; ``refused`` (4xx) includes the forged ones, the others do not.

``disabled`` counts how often the platform gave up on the address altogether.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One webhook as the platform would post it."""

    item: str
    headers: Mapping[str, str]
    body: bytes
    forged: bool = False

    def __repr__(self) -> str:
        """Leave out the headers, which are signed."""
        return f"<Outgoing for {self.item}, {len(self.body)} bytes>"


@dataclass(frozen=True, slots=True)
class _Job:
    outgoing: Outgoing
    answer: asyncio.Future[int]


class HookSender:
    """The platform's outgoing side; ``counts`` says what became of the deliveries."""

    def __init__(
        self,
        url: str,
        *,
        is_open: Callable[[FaultKind], bool],
        seed: int,
        tries: int = TRIES,
        disable_after: int = 0,
        heard: Callable[[int, bytes], int] = lambda status, _body: status,
        wanted: Callable[[Outgoing], bool] = lambda _outgoing: True,
    ) -> None:
        """``disable_after`` failed deliveries in a row the subscription ends; 0: never.

        ``wanted`` says whether somebody is subscribed to a delivery.
        """
        self.counts: Counter[str] = Counter()
        self.is_subscribed = True
        self._disable_after = disable_after
        self._failed_in_a_row = 0
        self._at_risk = 0
        self._url = url
        self._is_open = is_open
        self._tries = tries
        self._heard = heard
        self._wanted = wanted
        self._chance = random.Random(seed)  # noqa: S311 - repeatable runs, not secrets
        self._lanes: list[asyncio.Queue[_Job]] = [asyncio.Queue() for _ in range(LANES)]
        self._held: list[_Job] = []
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the connection pool and begin to work off the lanes."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), trust_env=False)
        work = [self._work_off(lane) for lane in self._lanes]
        self._tasks = [asyncio.create_task(job) for job in (*work, self._release_held())]

    async def stop(self) -> None:
        """Forget what is unsent and close."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def send(self, outgoing: Outgoing) -> asyncio.Future[int]:
        """Queue one delivery; the future becomes the hub's last HTTP status or ``WITHHELD``."""
        job = _Job(outgoing, asyncio.get_running_loop().create_future())
        if self._is_withheld() or not self._wanted(outgoing):
            self.counts["withheld"] += 1
            job.answer.set_result(WITHHELD)
            return job.answer
        self.counts["pending"] += 1
        self.counts["forged" if outgoing.forged else "posted"] += 1
        if self._is_open(FaultKind.REORDER):
            self._held.append(job)
        else:
            self._lane_of(outgoing).put_nowait(job)
        return job.answer

    def _is_withheld(self) -> bool:
        silent = self._is_open(FaultKind.STALL) or self._is_open(FaultKind.DOWN)
        if silent or not self.is_subscribed or self.counts["pending"] >= MAX_PENDING:
            return True
        self._at_risk += self._is_open(FaultKind.LOSE)
        return self._is_open(FaultKind.LOSE) and self._at_risk % LOST_EACH == 0

    def _lane_of(self, outgoing: Outgoing) -> asyncio.Queue[_Job]:
        return self._lanes[sum(outgoing.item.encode()) % LANES]

    async def _work_off(self, lane: asyncio.Queue[_Job]) -> None:
        while True:
            await self._deliver(await lane.get())

    async def _release_held(self) -> None:
        while True:
            await asyncio.sleep(HELD_S)
            held, self._held = self._held, []
            self._chance.shuffle(held)
            for job in held:
                await self._deliver(job)

    async def _deliver(self, job: _Job) -> None:
        status = await self._post_until_accepted(job.outgoing)
        self.counts["pending"] -= 1
        self.counts[_outcome(status, job.outgoing)] += 1
        if not job.outgoing.forged:
            self._give_up_on_failures(status)
        if not job.answer.done():
            job.answer.set_result(status)

    def _give_up_on_failures(self, status: int) -> None:
        self._failed_in_a_row = 0 if _is_success(status) else self._failed_in_a_row + 1
        if self.is_subscribed and 0 < self._disable_after <= self._failed_in_a_row:
            self.is_subscribed = False
            self._failed_in_a_row = 0
            self.counts["disabled"] += 1

    async def _post_until_accepted(self, outgoing: Outgoing) -> int:
        status = await self._post(outgoing)
        if outgoing.forged:
            return status
        for _ in range(self._tries - 1):
            if _is_success(status):
                break
            await asyncio.sleep(RETRY_AFTER_S)
            status = await self._post(outgoing)
        if self._is_open(FaultKind.DUPLICATE):
            for _ in range(COPIES - 1):
                self.counts["duplicates"] += 1
                self.counts["duplicates_accepted"] += _is_success(await self._post(outgoing))
        return status

    async def _post(self, outgoing: Outgoing) -> int:
        if self._session is None:
            return WITHHELD
        try:
            async with self._session.post(
                self._url, data=outgoing.body, headers=outgoing.headers, allow_redirects=False
            ) as answer:
                return self._heard(answer.status, await answer.read())
        except (aiohttp.ClientError, TimeoutError):
            return WITHHELD


def _is_success(status: int) -> bool:
    return 200 <= status < 300  # noqa: PLR2004 - the 2xx class


def _outcome(status: int, outgoing: Outgoing) -> str:
    if _is_success(status):
        return "forged_accepted" if outgoing.forged else "accepted"
    return "refused" if 400 <= status < 500 else "failed"  # noqa: PLR2004 - the 4xx class
