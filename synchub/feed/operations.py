"""What can be done with the feed: take a seat, be greeted, follow, be sent away.

A reader is registered before anything is read for it, so nothing that happens
meanwhile can be missed: changes are noted while it catches up, and told in one
frame before it joins its audience. The same happens to a reader that takes too
little, and to those whose set has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from synchub import metrics
from synchub.feed import frames, rules
from synchub.feed.catch_up import CatchUp
from synchub.feed.changes import Changes, Page, Waiter
from synchub.feed.followed_sets import FollowedSets
from synchub.feed.follower import FeedFollower
from synchub.feed.model import (
    ByeReason,
    Cursor,
    FeedQuery,
    Filter,
    Framing,
    Health,
    Lens,
    Mode,
    ResetReason,
    ViewClass,
)
from synchub.feed.readers import Reader, count
from synchub.feed.registration import Registration
from synchub.feed.seats import Seats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from synchub.feed.fanout import Tail
    from synchub.lua import Executes
    from synchub.policies.model import Terms
    from synchub.settings import Settings

RETRY_MS: Final = 1000
"""Middle of the pause a reader is asked to make before it comes back; each is told its own."""
AGE_SPREAD: Final = 0.2
DRAIN_STEP_S: Final = 0.01


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
        self._sets = FollowedSets(redis, settings.feed)
        self._sets.on_changed = self._change_set
        self._follower = FeedFollower(settings, redis, self._sets)
        self._catch_up = CatchUp(redis, settings.feed, self._follower)
        self._changes = Changes(redis, settings.feed, self._follower)
        self._readers: dict[Reader, tuple[str, str]] = {}
        self._seats = Seats(settings.feed)

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
        self,
        chosen: Filter,
        *,
        bound_ms: int | None,
        cursor: str,
        tier: str,
        channel: str | None,
        mode: Mode = Mode.UPD,
    ) -> FeedQuery:
        """Turn checked parts of a request into a query, granting the bound."""
        bound = rules.granted_bound(bound_ms, self._settings.feed.bound_ms)
        return FeedQuery(filter=chosen, bound_ms=bound, cursor=cursor, tier=tier, channel=channel, mode=mode)

    def seat(self, merchant: str, agent: str) -> contextlib.AbstractContextManager[None]:
        """Count a connection as long as it lasts.

        Raises:
            RateLimited: the process, the merchant or the agent has as many as it may.
            StoreUnavailable: the process is stopping.
        """
        return self._seats.taken(merchant, agent)

    def registered(
        self, merchant: str, agent: str, query: FeedQuery, *, transport: asyncio.Transport, framing: Framing
    ) -> Registration:
        """Have changes noted for a new connection for as long as what is returned is entered.

        Raises:
            NotFound: the agent has no such set (when it is entered).
            StoreUnavailable, OutcomeUnknown: the merchant's head, or the set, could not be read.
        """
        return Registration(self, merchant, agent, query, transport, framing)

    async def register(
        self, merchant: str, agent: str, query: FeedQuery, transport: asyncio.Transport, framing: Framing
    ) -> Reader:
        """Begin what :meth:`registered` does; :meth:`forget` ends it."""
        set_id = query.filter.set_id
        if set_id:
            await self._sets.take(merchant, agent, set_id)
        try:
            tail = await self._follower.tail(merchant)
            reader = self._reader(merchant, agent, query, transport, framing, tail)
        except BaseException:  # also when the client has gone meanwhile: the set is followed by one less
            if set_id:
                self._sets.give_back(merchant, set_id)
            raise
        # So that waiting for it to drain begins and ends with what a reader may leave unread.
        transport.set_write_buffer_limits(high=self._settings.feed.buffer_max_bytes)
        tail.enroll(reader)
        self._readers[reader] = (merchant, agent)
        return reader

    def forget(self, reader: Reader, set_id: str) -> None:
        """End what :meth:`register` has begun."""
        merchant, _ = self._readers.pop(reader)
        reader.tail.drop(reader)
        if set_id:
            self._sets.give_back(merchant, set_id)

    def _reader(
        self,
        merchant: str,
        agent: str,
        query: FeedQuery,
        transport: asyncio.Transport,
        framing: Framing,
        tail: Tail,
    ) -> Reader:
        limits = self._settings.feed
        return Reader(
            transport,
            self._lens(merchant, query, framing),
            tail,
            agent=agent,
            limit_bytes=limits.buffer_max_bytes,
            owed_max=limits.owed_max,
            retry_ms=_spread(RETRY_MS, 0.5),
        )

    def age_s(self) -> float:
        """Return how old a new connection may get."""
        return _spread(self._settings.feed.connection_age_ms, AGE_SPREAD) / 1000

    @contextlib.asynccontextmanager
    async def waiting(self, merchant: str, agent: str, query: FeedQuery) -> AsyncIterator[Waiter]:
        """Have a poll woken by what changes from now on, until the block is left.

        Raises:
            NotFound: the agent has no such set.
            StoreUnavailable, OutcomeUnknown: the merchant's head, or the set, could not be read.
        """
        async with self._followed(merchant, agent, query.filter.set_id):
            tail = await self._follower.tail(merchant)
            waiter = Waiter(self._lens(merchant, query, Framing.SSE_PLAIN), tail, agent=agent)
            tail.enroll(waiter)
            self._readers[waiter] = (merchant, agent)
            try:
                yield waiter
            finally:
                tail.drop(waiter)
                del self._readers[waiter]

    async def poll(self, waiter: Waiter, since: str, *, limit: int, until_ms: float) -> Page:
        """Answer a poll with what has changed after ``since``, or without it with everything.

        Waits for a change until the monotonic time given. Repeatable: the same question is answered
        with the same changes or newer ones.

        Raises:
            CursorTooOld: the position cannot be continued.
            StoreUnavailable, OutcomeUnknown: the store could not be read.
        """
        return await self._changes.poll(waiter, since, limit=limit, until_ms=until_ms)

    async def greet(self, reader: Reader, query: FeedQuery, *, started_ms: int) -> Greeting:
        """Decide how a registered reader gets up to date; nothing is written yet.

        ``started_ms`` is the monotonic time when its request was handled.

        Raises:
            StoreUnavailable, OutcomeUnknown: the store could not be read.
        """
        head, oldest = await self._follower.proven_head(reader.tail)
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
        cursor = greeting.cursor
        del greeting
        if cursor is not None:
            await self._catch_up.replay(reader, cursor, drain)
        while not reader.ended:
            if reader.seq is None:
                self._tell_reset(reader)
                await self._catch_up.snapshot(reader, drain)
            elif reader in reader.tail.catching_up:
                await self._catch_up.settle(reader, drain)
            else:
                await reader.turn()

    def dismiss(
        self,
        merchant: str,
        agent: str,
        reason: ByeReason = ByeReason.AUTH,
        *,
        reconnect: bool | None = None,
    ) -> int:
        """End an agent's connections: its key is revoked, or (``reconnect``) may see something else."""
        theirs = [reader for reader, owner in self._readers.items() if owner == (merchant, agent)]
        for reader in theirs:
            reader.end(reason, reconnect=reconnect)
        return len(theirs)

    def renew_views(self, merchant: str) -> None:
        """Show the merchant's readers everything anew, because it has decided otherwise about them.

        Readers of versions that name their SKUs are told that all of these may be another now.
        """
        renewed: dict[Lens, Lens] = {}
        for reader in [one for one in self._readers if one.tail.merchant == merchant]:
            old = reader.next_lens or reader.lens
            if old not in renewed:
                renewed[old] = _other(old, old.filter, self._view(merchant, old.view.tier, old.view.channel))
            if old.mode is Mode.INV and old.filter.is_list and reader.seq is not None:
                reader.tail.renew(reader, renewed[old])
            else:
                reader.tail.change_lens(reader, renewed[old], ResetReason.POLICY)

    async def drain(self, within_ms: int) -> None:
        """Take no new readers and send the present ones away, spread over the time given."""
        self._seats.close()
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

    def _change_set(self, merchant: str, set_id: str, chosen: Filter | None) -> None:
        """Tell those who follow a set what it has gained and lost, or send them away when it is gone."""
        renewed: dict[Lens, Lens] = {}
        for reader in [one for one in self._readers if one.tail.merchant == merchant]:
            old = reader.next_lens or reader.lens
            if old.filter.set_id != set_id:
                continue
            if chosen is None:
                reader.end(ByeReason.AUTH)
                continue
            if old not in renewed:
                renewed[old] = _other(old, chosen, old.view)
            reader.tail.renew(reader, renewed[old])

    def _followed(
        self, merchant: str, agent: str, set_id: str
    ) -> contextlib.AbstractAsyncContextManager[None]:
        return self._followed_set(merchant, agent, set_id) if set_id else _NO_SET

    @contextlib.asynccontextmanager
    async def _followed_set(self, merchant: str, agent: str, set_id: str) -> AsyncIterator[None]:
        """Keep a set up to date as long as it is followed."""
        await self._sets.take(merchant, agent, set_id)
        try:
            yield
        finally:
            self._sets.give_back(merchant, set_id)

    def _lens(self, merchant: str, query: FeedQuery, framing: Framing) -> Lens:
        view = self._view(merchant, query.tier, query.channel)
        chosen = query.filter
        if chosen.set_id:
            chosen = self._sets.current(merchant, chosen.set_id)
        return Lens(
            filter=chosen,
            view=view,
            hb_ms=rules.heartbeat_ms(query.bound_ms),
            framing=framing,
            fingerprint=rules.fingerprint(chosen, view, query.mode),
            mode=query.mode,
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


def _other(lens: Lens, chosen: Filter, view: ViewClass) -> Lens:
    return replace(lens, filter=chosen, view=view, fingerprint=rules.fingerprint(chosen, view, lens.mode))


_NO_SET: Final = contextlib.nullcontext()


def _terms_of(decided: Decisions, merchant: str, tier: str, channel: str | None, sku: str) -> Terms:
    return decided.terms(merchant, sku, tier, channel)


def _spread(middle: int, share: float) -> int:
    """Return a value up to ``share`` away from the middle, so that many do not come at once."""
    return int(middle * random.uniform(1 - share, 1 + share))  # noqa: S311 - spreads load, hides nothing
