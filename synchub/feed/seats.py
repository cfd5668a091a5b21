"""How many may follow at once: of one agent, of one merchant, and in this process."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NoReturn

from synchub import metrics
from synchub.errors import RateLimited, StoreUnavailable

if TYPE_CHECKING:
    from synchub.settings import FeedSettings

_RETRY_S: Final = 5


class Seats:
    """Counts connections as long as they last, and refuses those that are too many."""

    def __init__(self, limits: FeedSettings) -> None:
        self._limits = limits
        self._agents: Counter[tuple[str, str]] = Counter()
        self._merchants: Counter[str] = Counter()
        self._taken = 0
        self._is_closed = False

    def __len__(self) -> int:
        return self._taken

    def close(self) -> None:
        """Let nobody in from now on."""
        self._is_closed = True

    def taken(self, merchant: str, agent: str) -> Seat:
        """Return what counts one connection for as long as it is entered.

        Raises:
            RateLimited: the agent, the merchant or the process has as many as it may (when it is entered).
            StoreUnavailable: the process is stopping.
        """
        return Seat(self, merchant, agent)

    def check(self, merchant: str, agent: str) -> None:
        """Return when there is room for one more.

        Raises:
            RateLimited, StoreUnavailable: there is none.
        """
        limits = self._limits
        if self._is_closed:
            metrics.feed_refusals.labels("stopping").inc()
            msg = "This process is stopping; connect again."
            raise StoreUnavailable(msg, retry_after_s=1)
        if self._taken >= limits.readers_max:
            _refuse("process", "This process has as many feed readers as it may.")
        if self._merchants[merchant] >= limits.readers_per_merchant:
            most = limits.readers_per_merchant
            _refuse("merchant", f"This merchant already has {most} feed connections here.")
        if self._agents[merchant, agent] >= limits.readers_per_agent:
            most = limits.readers_per_agent
            _refuse("agent", f"This key already has {most} feed connections here.")

    def count(self, merchant: str, agent: str, by: int) -> None:
        """Count connections that have come or, negative, gone."""
        self._taken += by
        self._merchants[merchant] += by
        self._agents[merchant, agent] += by
        if not self._merchants[merchant]:
            del self._merchants[merchant]
        if not self._agents[merchant, agent]:
            del self._agents[merchant, agent]
        metrics.feed_readers.set(self._taken)


class Seat:
    """One connection that counts. No generator: there are thousands, and a frame each takes memory."""

    __slots__ = ("_agent", "_merchant", "_seats")

    def __init__(self, seats: Seats, merchant: str, agent: str) -> None:
        self._seats = seats
        self._merchant = merchant
        self._agent = agent

    def __enter__(self) -> None:
        self._seats.check(self._merchant, self._agent)
        self._seats.count(self._merchant, self._agent, 1)

    def __exit__(self, *_: object) -> None:
        self._seats.count(self._merchant, self._agent, -1)


def _refuse(limit: str, detail: str) -> NoReturn:
    metrics.feed_refusals.labels(limit).inc()
    raise RateLimited(detail, retry_after_s=_RETRY_S)
