"""A platform that posts signed deliveries at a steady rate and remembers every answer.

The rate is open-loop: a delivery is sent when it is due, however long the answers
before it take, as platforms do. Half of the SKUs report levels, the others changes.
A level's quantity is its sequence, so the hub's number tells which report it has; a
change counted twice or not at all shows in the sum.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self

import aiohttp

from tests.support.deliveries import body_of, delta, level, signed
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.merchants import Merchant

BASE: Final = 1000
"""What every SKU that reports changes begins with."""

LEVELS: Final = "LEVEL-"
"""How the names of SKUs begin that report levels, whose sequence is the quantity."""

NOTHING_CHANGED: Final = frozenset({"store_unavailable", "signature_refused", "payload_too_large"})
"""Problem codes which promise that the delivery has not been taken."""

_TIMEOUT_S: Final = 6.0
_BUSY: Final = 500
_RESEND_AT_ONCE: Final = 32


@dataclass(slots=True, kw_only=True)
class Sent:
    """One delivery and what was answered to it."""

    id: str
    sku: str
    is_level: bool
    number: int
    """The quantity, which is also the sequence, or the amount."""
    body: bytes = field(repr=False)
    status: int | None = None
    """None: no answer came."""
    code: str = ""
    retry_after: str | None = None
    at_s: float = 0.0
    """Monotonic time of the latest answer."""

    @property
    def is_accepted(self) -> bool:
        """Whether the hub has promised to apply it."""
        return self.status is not None and self.status // 100 == 2

    @property
    def is_refused(self) -> bool:
        """Whether the hub has said that it has not taken it."""
        return self.code in NOTHING_CHANGED


class Load:
    """Deliveries of one merchant's platform."""

    def __init__(
        self,
        url: Callable[[], str],
        merchant: Merchant,
        *,
        seed: int,
        rate: float = 200,
        skus: int = 20,
    ) -> None:
        self.merchant = merchant
        self.sent: list[Sent] = []
        self._url = url
        self._chance = random.Random(seed)
        self._rate = rate
        self._levels = [f"{LEVELS}{number:02d}" for number in range(skus // 2)]
        self._changes = [f"DELTA-{number:02d}" for number in range(skus - skus // 2)]
        self._sequence = 0
        self._session: aiohttp.ClientSession | None = None
        self._posting: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), connector=aiohttp.TCPConnector(limit=0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._posting:
            task.cancel()
        await asyncio.gather(*self._posting, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    @property
    def answers(self) -> Counter[str]:
        """How many answers of each kind: a status, a problem's code, or ``unknown``."""
        return Counter(sent.code or str(sent.status or "unknown") for sent in self.sent)

    @property
    def accepted(self) -> int:
        """How many deliveries have been accepted."""
        return sum(sent.is_accepted for sent in self.sent)

    async def prepare(self) -> None:
        """Return when every SKU that reports changes has its first level accepted."""
        await eventually(self._is_let_in, what="the first accepted delivery")
        first = [self._remember(self._level(sku, BASE, 1)) for sku in self._changes]
        await asyncio.gather(*map(self._post, first))
        assert all(sent.is_accepted for sent in first), self.answers

    async def run(self, seconds: float) -> None:
        """Send for so long, then wait for the answers that are still due."""
        until = time.monotonic() + seconds
        await self.run_until(lambda: time.monotonic() >= until)

    async def run_until(self, is_over: Callable[[], bool]) -> None:
        """Send until ``is_over``, then wait for the answers that are still due."""
        loop = asyncio.get_running_loop()
        started, count = loop.time(), 0
        while not is_over():
            count += 1
            await asyncio.sleep(max(0.0, started + count / self._rate - loop.time()))
            if len(self._posting) < _BUSY:
                self._start(self._remember(self._next()))
        await self.settle()

    async def settle(self) -> None:
        """Wait for every answer that is still due."""
        while self._posting:
            await asyncio.wait(set(self._posting))

    async def resend(self) -> None:
        """Send everything that was not accepted again, with the same ids, until it is."""
        at_once = asyncio.Semaphore(_RESEND_AT_ONCE)

        async def again(sent: Sent) -> None:
            async with at_once:
                await eventually(lambda: self._is_accepted(sent), within_s=30, what=f"accepting {sent.id}")

        await asyncio.gather(*(again(sent) for sent in self.sent if not sent.is_accepted))

    async def _is_accepted(self, sent: Sent) -> bool:
        await self._post(sent)
        return sent.is_accepted

    async def _is_let_in(self) -> bool:
        """Whether the hub knows the account by now."""
        probe = Sent(id="probe", sku="", is_level=True, number=0, body=body_of())
        await self._post(probe)
        return probe.is_accepted

    def _start(self, sent: Sent) -> None:
        task = asyncio.create_task(self._post(sent))
        self._posting.add(task)
        task.add_done_callback(self._posting.discard)

    async def _post(self, sent: Sent) -> None:
        assert self._session is not None
        headers = signed(self.merchant, sent.body, message_id=sent.id)
        try:
            async with self._session.post(
                self._url() + self.merchant.hook, data=sent.body, headers=headers
            ) as answer:
                sent.status, sent.retry_after = answer.status, answer.headers.get("Retry-After")
                sent.code = "" if answer.ok else str((await answer.json(content_type=None))["code"])
        except (aiohttp.ClientError, TimeoutError, ValueError):
            sent.status, sent.code = None, ""
        sent.at_s = time.monotonic()

    def _next(self) -> Sent:
        if self._chance.random() < 0.5:
            self._sequence += 1
            return self._level(self._chance.choice(self._levels), self._sequence, self._sequence)
        amount = self._chance.choice((-3, -2, -1, 1, 2, 5))
        sku = self._chance.choice(self._changes)
        return Sent(id=self._id(), sku=sku, is_level=False, number=amount, body=body_of(delta(sku, amount)))

    def _level(self, sku: str, quantity: int, sequence: int) -> Sent:
        body = body_of(level(sku, quantity), sequence=sequence)
        return Sent(id=self._id(), sku=sku, is_level=True, number=quantity, body=body)

    def _remember(self, sent: Sent) -> Sent:
        self.sent.append(sent)
        return sent

    def _id(self) -> str:
        return f"msg_{len(self.sent)}"


def unavailable(sent: Sent) -> bool:
    """Whether the hub asked to have it sent again later, as it must while the store is away."""
    return sent.status == HTTPStatus.SERVICE_UNAVAILABLE and sent.retry_after is not None
