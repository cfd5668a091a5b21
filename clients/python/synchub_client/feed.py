"""The feed as an agent uses it.

``get`` answers at once from memory or refuses; ``read`` asks the hub where memory may
not answer. Both keep the promise that nothing they return is older than the bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, Self

import aiohttp

from synchub_client.changes import Changes
from synchub_client.clock import Clock
from synchub_client.core import FeedCore
from synchub_client.errors import FeedClosed, HubUnavailable, NotServed, ProtocolBroken, Stale
from synchub_client.following import Follower
from synchub_client.links import Hub
from synchub_client.model import Mode, Watch
from synchub_client.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from synchub_client.links import Connection
    from synchub_client.model import Item, Source

BOUND_FLOOR_MS: Final = 500
"""The hub keeps no feed fresher than this."""
QUESTIONS_AT_ONCE: Final = 16
TRIES: Final = 2
"""Questions asked before a SKU is given up whose answers come out of date."""
FAREWELL_S: Final = 1.0
"""How long leaving may wait for the hub."""


class FeedClient:
    """Follows a merchant's stock.

    ``async with FeedClient(url, key, skus=[...]) as feed:`` connects in the background
    and comes back by itself after every loss. ``skus`` names what to follow, or
    ``prefix`` what it begins with; without either it is everything. ``bound_ms`` is
    the age that no answer exceeds.
    """

    def __init__(  # noqa: PLR0913 - each is one choice of the user, by name, with a default
        self,
        url: str,
        key: str,
        *,
        skus: Iterable[str] | None = None,
        prefix: str = "",
        bound_ms: int = 1000,
        mode: Literal["upd", "inv"] = "upd",
        transport: Literal["sse", "websocket"] = "sse",
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        if bound_ms < BOUND_FLOOR_MS:
            msg = f"bound_ms is at least {BOUND_FLOOR_MS}"
            raise ValueError(msg)
        self._url, self._key, self._transport = url, key, transport
        self._given = session
        self._clock = Clock()
        self._core = FeedCore(bound_s=bound_ms / 1000, watch=_watch(skus, prefix, mode))
        self._selection = Selection(self._core, bound_ms)
        self._choosing = asyncio.Lock()
        self._readers: weakref.WeakSet[Changes] = weakref.WeakSet()
        self._waiting: set[asyncio.Future[None]] = set()
        self._questions: dict[str, asyncio.Task[Item]] = {}
        self._slots = asyncio.Semaphore(QUESTIONS_AT_ONCE)
        self._hub: Hub | None = None
        self._follower: Follower | None = None
        self._running: asyncio.Task[None] | None = None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self._running is not None:
            msg = "a feed is entered once; make a new one"
            raise RuntimeError(msg)
        session = self._given
        if session is None:
            session = await self._stack.enter_async_context(aiohttp.ClientSession())
        self._hub = Hub(session, self._url, self._key)
        self._follower = Follower(self._core, self._connect, self._clock, self._told)
        self._running = asyncio.create_task(self._follower.run(), name="synchub-feed")
        self._running.add_done_callback(self._ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._questions.values(), *([self._running] if self._running else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        hub, self._hub = self._hub, None
        if hub is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self._selection.forget(hub)
        await self._stack.aclose()

    # ------------------------------------------------------------------------------------------ answers

    def get(self, sku: str) -> Item:
        """Return what is known of a SKU, at once.

        Raises:
            Stale: it may be older than the bound.
            Unknown: the feed holds nothing of this SKU, and that is known within the bound.
            HubRefused: the hub has refused the feed or ended it for good.
            FeedClosed: outside of ``async with``.
        """
        self._check()
        return self._core.get(sku, self._clock())

    async def read(self, sku: str) -> Item:
        """Return what is known of a SKU, asking the hub where memory may not answer.

        A SKU that nobody has reported comes back in state ``UNKNOWN_SKU``.

        Raises:
            Stale: the hub could not be asked, or its answers came out of date.
            HubRefused: the hub has refused the feed or the question.
            FeedClosed: outside of ``async with``.
        """
        try:
            return self.get(sku)
        except NotServed:
            pass
        asking = self._questions.get(sku)
        if asking is None:
            asking = asyncio.create_task(self._ask(sku), name="synchub-question")
            self._questions[sku] = asking
            asking.add_done_callback(lambda task: self._asked(sku, task))
        # Others may wait for the same answer: who gives up must not take it from them.
        return await asyncio.shield(asking)

    def age(self, sku: str) -> timedelta:
        """Return how old the knowledge of a SKU may be at most, fresh or not.

        Raises:
            NotServed: nothing is held of it.
        """
        self._check()
        return timedelta(seconds=min(self._core.age_s(sku, self._clock()), timedelta.max.total_seconds() / 2))

    def items(self) -> Mapping[str, Item]:
        """Return a copy of everything followed; empty while it may be older than the bound."""
        self._check()
        return MappingProxyType(dict(self._core.items(self._clock())))

    # -------------------------------------------------------------------------------------------- health

    @property
    def is_fresh(self) -> bool:
        """Whether everything followed is known within the bound."""
        return self._running is not None and not self._running.done() and self._core.is_fresh(self._clock())

    @property
    def is_degraded(self) -> bool:
        """Whether the hub says that it cannot reach its own store."""
        return self._core.is_degraded

    @property
    def problem(self) -> Exception | None:
        """Why there is no connection at the moment; None when there is one."""
        return None if self._follower is None else self._follower.problem

    @property
    def sources(self) -> Mapping[str, Source]:
        """How the accounts behind the numbers do, by name, as far as the hub tells."""
        return MappingProxyType(dict(self._core.sources))

    async def ready(self) -> None:
        """Return when everything followed is known within the bound.

        Raises:
            HubRefused: the hub refuses the feed.
            FeedClosed: outside of ``async with``.
        """
        self._check()
        while not self._core.is_fresh(self._clock()):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)
            self._check()

    # ------------------------------------------------------------------------------------------- changes

    def changes(self) -> Changes:
        """Return an iterator over what changes from now on; several loops may each have one.

        Of each SKU only the latest waits, so a slow loop skips what is out of date and
        needs no more memory than there are SKUs.
        """
        self._check()
        changes = Changes()
        self._readers.add(changes)
        return changes

    def __aiter__(self) -> Changes:
        return self.changes()

    # --------------------------------------------------------------------------------------- what to follow

    async def follow(self, *skus: str) -> None:
        """Follow these SKUs too; they are told of as soon as the hub has sent their state.

        Raises:
            ValueError: the feed follows by prefix, or everything.
            HubRefused, HubUnavailable: nothing has changed.
        """
        await self._choose(add=skus)

    async def unfollow(self, *skus: str) -> None:
        """Follow these SKUs no longer.

        Raises:
            ValueError: the feed follows by prefix, or everything.
            HubRefused, HubUnavailable: nothing has changed.
        """
        await self._choose(remove=skus)

    # ------------------------------------------------------------------------------------------- details

    def _check(self) -> None:
        if self._running is None or self._hub is None:
            raise FeedClosed
        if self._running.done():
            if self._running.cancelled() or (failure := self._running.exception()) is None:
                raise FeedClosed
            raise failure

    async def _choose(self, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        self._check()
        async with self._choosing:
            if self._hub is None or self._follower is None:
                raise FeedClosed
            if await self._selection.change(self._hub, add=add, remove=remove):
                self._follower.move()

    async def _connect(self, cursor: str) -> Connection:
        if self._hub is None:
            raise FeedClosed
        return await self._selection.connect(self._hub, cursor, by_socket=self._transport == "websocket")

    def _told(self) -> None:
        changes = self._core.take_changes()
        if changes:
            for reader in self._readers:
                reader.add(changes)
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _ended(self, running: asyncio.Task[None]) -> None:
        failure = None if running.cancelled() else running.exception()
        for reader in self._readers:
            reader.end(failure if isinstance(failure, Exception) else None)
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def _ask(self, sku: str) -> Item:
        problem: Exception | None = None
        for _ in range(TRIES):
            try:
                item = await self._ask_once(sku)
            except (HubUnavailable, ProtocolBroken) as trouble:
                problem = trouble
                continue
            if item is not None:
                return item
            with contextlib.suppress(NotServed):
                return self._core.get(sku, self._clock())
        raise Stale(sku) from problem

    async def _ask_once(self, sku: str) -> Item | None:
        async with self._slots:
            if self._hub is None:
                raise FeedClosed
            question = self._core.ask(sku, self._clock())
            answer = await self._hub.ask_stock(sku)
            return self._core.settle(question, answer, self._clock())

    def _asked(self, sku: str, task: asyncio.Task[Item]) -> None:
        del self._questions[sku]
        if not task.cancelled():
            task.exception()  # whoever still waits is told; nobody else has to be


def _watch(skus: Iterable[str] | None, prefix: str, mode: str) -> Watch:
    if isinstance(skus, str):
        msg = "skus is a list of names, not one name"
        raise TypeError(msg)
    if skus is not None and prefix:
        msg = "name SKUs or a prefix, not both"
        raise ValueError(msg)
    named = None if skus is None else frozenset(skus)
    if named is not None and not named:
        msg = "skus is empty; leave it out to follow everything"
        raise ValueError(msg)
    return Watch(skus=named, prefix=prefix, mode=Mode(mode))
