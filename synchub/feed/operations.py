"""What can be done with the feed: take a seat, be greeted, follow, be sent away.

A reader is registered before anything is read for it, so nothing that happens
meanwhile can be missed: changes are noted while it catches up, and told in one
frame before it joins its audience.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from synchub import metrics
from synchub.errors import RateLimited, StoreUnavailable
from synchub.feed import frames, rules, store
from synchub.feed.catch_up import CatchUp
from synchub.feed.fanout import Reader, count
from synchub.feed.follower import FeedFollower
from synchub.feed.model import (
    ByeReason,
    Cursor,
    FeedQuery,
    Filter,
    Framing,
    Health,
    Lens,
    ResetReason,
    ViewClass,
)
from synchub.keyspace import MerchantKeys
from synchub.stock import operations as stock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from synchub.lua import Executes
    from synchub.policies.model import Terms
    from synchub.settings import Settings

RETRY_MS: Final = 1000
"""Middle of the pause a reader is asked to make before it comes back; each is told its own."""
AGE_SPREAD: Final = 0.2
DRAIN_STEP_S: Final = 0.01
PROOFS_MAX: Final = 3
"""Tries to find the process and the store in one history while greeting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What a new connection is told first, and how it goes on."""

    hello: bytes
    cursor: Cursor | None
    """Continue from here; otherwise a snapshot."""
    reset: ResetReason | None
    """Tell it to drop what it holds before the snapshot."""


class Decisions(Protocol):
    """What merchants have decided, known without asking a store."""

    def terms(self, merchant: str, sku: str, tier: str | None = None, channel: str | None = None) -> Terms:
        """Return what holds for a SKU and an asker."""

    def version(self, merchant: str) -> int:
        """Return which of the merchant's decisions these are."""


class Feed:
    """The feed of one process."""

    def __init__(self, settings: Settings, redis: Executes, decisions: Decisions) -> None:
        self._decisions = decisions
        self._redis = redis
        self._settings = settings
        self._follower = FeedFollower(settings, redis)
        self._catch_up = CatchUp(redis, settings.feed, self._follower)
        self._readers: dict[Reader, tuple[str, str]] = {}
        self._seats: Counter[tuple[str, str]] = Counter()
        self._taken = 0
        self._is_draining = False

    @property
    def readers(self) -> int:
        """Connections that follow now."""
        return len(self._readers)

    @property
    def health(self) -> Health:
        """Whether the store answers this process."""
        return self._follower.health

    @property
    def is_running(self) -> bool:
        """Whether the feed is being read."""
        return self._follower.is_running

    def lag_ms(self) -> int:
        """Age of the oldest statement of completeness that readers rely on."""
        return self._follower.lag_ms()

    async def run(self) -> None:
        """Tell every reader what has changed, until cancelled; :meth:`drain` first."""
        await self._follower.run()

    def query(
        self, chosen: Filter, *, bound_ms: int | None, cursor: str, tier: str, channel: str | None
    ) -> FeedQuery:
        """Turn checked parts of a request into a query, granting the bound."""
        bound = rules.granted_bound(bound_ms, self._settings.feed.bound_ms)
        return FeedQuery(filter=chosen, bound_ms=bound, cursor=cursor, tier=tier, channel=channel)

    @contextlib.contextmanager
    def seat(self, merchant: str, agent: str) -> Iterator[None]:
        """Count a connection as long as it lasts.

        Raises:
            RateLimited: the process or the agent has as many as it may.
            StoreUnavailable: the process is stopping.
        """
        limits = self._settings.feed
        if self._is_draining:
            msg = "This process is stopping; connect again."
            raise StoreUnavailable(msg, retry_after_s=1)
        if self._taken >= limits.readers_max:
            msg = "This process has as many feed readers as it may."
            raise RateLimited(msg, retry_after_s=5)
        if self._seats[merchant, agent] >= limits.readers_per_agent:
            msg = f"This key already has {limits.readers_per_agent} feed connections here."
            raise RateLimited(msg, retry_after_s=5)
        self._taken += 1
        self._seats[merchant, agent] += 1
        metrics.feed_readers.set(self._taken)
        try:
            yield
        finally:
            self._taken -= 1
            self._seats[merchant, agent] -= 1
            if not self._seats[merchant, agent]:
                del self._seats[merchant, agent]
            metrics.feed_readers.set(self._taken)

    @contextlib.asynccontextmanager
    async def registered(
        self, merchant: str, agent: str, query: FeedQuery, *, transport: asyncio.Transport, framing: Framing
    ) -> AsyncIterator[Reader]:
        """Have changes noted for a new connection from now on, until the block is left.

        Raises:
            StoreUnavailable, OutcomeUnknown: the merchant's head could not be read.
        """
        tail = await self._follower.tail(merchant)
        reader = Reader(
            transport,
            self._lens(merchant, query, framing),
            tail,
            limit_bytes=self._settings.feed.buffer_max_bytes,
            retry_ms=_spread(RETRY_MS, 0.5),
        )
        tail.catching_up.add(reader)
        self._readers[reader] = (merchant, agent)
        age_s = _spread(self._settings.feed.connection_age_ms, AGE_SPREAD) / 1000
        ending = asyncio.get_running_loop().call_later(age_s, reader.end, ByeReason.LIMIT)
        try:
            yield reader
        finally:
            ending.cancel()
            tail.drop(reader)
            del self._readers[reader]

    async def greet(self, reader: Reader, query: FeedQuery, *, started_ms: int) -> Greeting:
        """Decide how a registered reader gets up to date; nothing is written yet.

        ``started_ms`` is the monotonic time when its request was handled.

        Raises:
            StoreUnavailable, OutcomeUnknown: the store could not be read.
        """
        keys = MerchantKeys(reader.tail.merchant)
        for _ in range(PROOFS_MAX):
            seen = reader.tail.seen
            head = await stock.read_head(self._redis, keys)
            oldest = await store.read_oldest(self._redis, keys)
            if head.epoch == reader.tail.epoch and head.seq >= seen:
                break
            # Either the store or this process is in another history; the follower finds out which.
            await self._follower.prove()
        else:
            msg = "The feed is settling after a change of the store."
            raise StoreUnavailable(msg, retry_after_s=1)
        reader.tail.seen = max(reader.tail.seen, head.seq)
        oldest = head.feed_seq if oldest is None else oldest
        cursor = rules.read_cursor(query.cursor)
        reset = None
        if query.cursor:
            reset = rules.obstacle(cursor, mark=reader.lens.fingerprint, head=head, oldest=oldest)
        hello = frames.hello(
            reader.lens,
            head=head,
            oldest=oldest,
            started_ms=started_ms,
            bound_ms=query.bound_ms,
            resume=rules.resumption(query, reset),
            retry_ms=reader.retry_ms,
        )
        return Greeting(hello=hello, cursor=cursor if reset is None else None, reset=reset)

    async def follow(self, reader: Reader, greeting: Greeting, drain: Callable[[], Awaitable[None]]) -> None:
        """Serve a reader whose response head is out until the connection shall be closed.

        ``drain`` waits until the connection takes more. Cancel to stop.
        """
        reader.started = True
        reader.write(greeting.hello)
        count("hello", 1)
        if greeting.reset is not None:
            reader.interrupt(greeting.reset)
        joined = greeting.cursor is not None and await self._catch_up.replay(reader, greeting.cursor, drain)
        while not reader.ended:
            if not joined:
                self._tell_reset(reader)
                joined = await self._catch_up.snapshot(reader, drain)
            else:
                await reader.interruption()
                joined = False

    def dismiss(self, merchant: str, agent: str, reason: ByeReason = ByeReason.AUTH) -> int:
        """End every connection of one agent, for example when its key is revoked."""
        theirs = [reader for reader, owner in self._readers.items() if owner == (merchant, agent)]
        for reader in theirs:
            reader.end(reason)
        return len(theirs)

    def renew_views(self, merchant: str) -> None:
        """Show the merchant's readers everything anew, because it has decided otherwise about them."""
        renewed: dict[Lens, Lens] = {}
        for reader in [one for one in self._readers if one.tail.merchant == merchant]:
            old = reader.lens
            if old not in renewed:
                view = self._view(merchant, old.view.tier, old.view.channel)
                renewed[old] = replace(old, view=view, fingerprint=rules.fingerprint(old.filter, view))
            reader.tail.change_lens(reader, renewed[old], ResetReason.POLICY)

    async def drain(self, within_ms: int) -> None:
        """Take no new readers and send the present ones away, spread over the time given."""
        self._is_draining = True
        leaving = list(self._readers)
        random.shuffle(leaving)
        steps = max(1, int(within_ms / 1000 / DRAIN_STEP_S))
        per_step = max(1, -(-len(leaving) // steps))
        pause_s = within_ms / 1000 / max(1, -(-len(leaving) // per_step))
        for start in range(0, len(leaving), per_step):
            for reader in leaving[start : start + per_step]:
                reader.end(ByeReason.DRAIN)
            if start + per_step < len(leaving):
                await asyncio.sleep(pause_s)

    def _lens(self, merchant: str, query: FeedQuery, framing: Framing) -> Lens:
        view = self._view(merchant, query.tier, query.channel)
        return Lens(
            filter=query.filter,
            view=view,
            hb_ms=rules.heartbeat_ms(query.bound_ms),
            framing=framing,
            fingerprint=rules.fingerprint(query.filter, view),
        )

    def _view(self, merchant: str, tier: str, channel: str | None) -> ViewClass:
        decided = self._decisions
        return ViewClass(
            merchant=merchant,
            tier=tier,
            channel=channel,
            revision=f"{decided.version(merchant)}.{self._settings.stock.low_threshold}",
            terms_of=partial(_terms_of, decided, merchant, tier, channel),
        )

    @staticmethod
    def _tell_reset(reader: Reader) -> None:
        reason = reader.begin()
        if reason is not None:
            reader.write(frames.reset(reader.lens, reader.tail.epoch, reason))
            metrics.feed_resets.labels(reason.value).inc()
            count("reset", 1)


def _terms_of(decided: Decisions, merchant: str, tier: str, channel: str | None, sku: str) -> Terms:
    return decided.terms(merchant, sku, tier, channel)


def _spread(middle: int, share: float) -> int:
    """Return a value up to ``share`` away from the middle, so that many do not come at once."""
    return int(middle * random.uniform(1 - share, 1 + share))  # noqa: S311 - spreads load, hides nothing
