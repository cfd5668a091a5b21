"""The sets that this process's readers follow, kept as they are in the store.

Every change of a set is an entry in a stream of the merchant's, which is read together with
the feed, so processes learn of it within milliseconds. Each set is also looked at every
``LOOK_EVERY_S``, which keeps it alive and finds what an entry that was lost has not told.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synchub.errors import Fault, NotFound
from synchub.feed import set_store, sets
from synchub.keyspace import MerchantKeys
from synchub.kit.tasks import is_ending
from synchub.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from synchub.feed.model import Filter
    from synchub.feed.sets import SetState
    from synchub.lua import Executes
    from synchub.settings import FeedSettings

LOOK_EVERY_S: Final = 10.0
"""How often every set in use is looked at without cause."""
RETRY_S: Final = 0.2
"""Pause before sets are read again after the store has not answered."""

Name = tuple[str, str]
"""Merchant and id."""
_log = get_logger(part="feed")


@dataclass(slots=True)
class _Followed:
    agent: str
    filter: Filter
    readers: int = 0


class FollowedSets:
    """Sets in use, by merchant and id."""

    def __init__(self, redis: Executes, limits: FeedSettings) -> None:
        self._redis = redis
        self._limits = limits
        self._known: dict[Name, _Followed] = {}
        self._positions: dict[str, str] = {}
        self._moved: set[Name] = set()
        self._wake = asyncio.Event()
        self.on_changed: Callable[[str, str, Filter | None], object] | None = None
        """Told merchant and id of a set that is another now, and what it is; None when it is gone."""

    @property
    def positions(self) -> Mapping[str, str]:
        """Up to which entry the changes of each merchant's sets are known."""
        return self._positions

    async def take(self, merchant: str, agent: str, set_id: str) -> None:
        """Keep a set up to date from now on, until :meth:`give_back`.

        Raises:
            NotFound: the agent has no such set.
            StoreUnavailable, OutcomeUnknown: it could not be read.
        """
        keys, name = MerchantKeys(merchant), (merchant, set_id)
        if merchant not in self._positions:
            # Before the set is read: what changes meanwhile is then read once more.
            newest = await set_store.read_newest_change(self._redis, keys)
            self._positions.setdefault(merchant, newest)
        state = await sets.look_up(self._redis, keys, agent, set_id, limits=self._limits)
        known = self._known.get(name)
        if known is None or not _is_of(known.filter, state):
            found = await sets.read(self._redis, keys, agent, set_id, limits=self._limits)
            known = self._known.setdefault(name, _Followed(agent, found))
            self._keep(name, found)
        known.readers += 1
        self._positions.setdefault(merchant, "0-0")

    def current(self, merchant: str, set_id: str) -> Filter:
        """Return a set that was taken, as this process knows it.

        Raises:
            NotFound: it has been deleted meanwhile.
        """
        known = self._known.get((merchant, set_id))
        if known is None:
            msg = "This key has no such set."
            raise NotFound(msg)
        return known.filter

    def give_back(self, merchant: str, set_id: str) -> None:
        """Follow a set no longer for one of its readers."""
        known = self._known.get((merchant, set_id))
        if known is None:
            return
        known.readers -= 1
        if known.readers <= 0:
            self._forget((merchant, set_id))

    def noticed(self, merchant: str, position: str, set_ids: Iterable[str]) -> None:
        """Take in that these sets have changed, up to a place in the stream."""
        if merchant in self._positions:
            self._positions[merchant] = position
        self._moved.update(name for set_id in set_ids if (name := (merchant, set_id)) in self._known)
        if self._moved:
            self._wake.set()

    async def run(self) -> None:
        """Read what has changed, and look at everything now and then, until cancelled."""
        while not is_ending():
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                self._moved.update(self._known)
            self._wake.clear()
            await self._renew()

    async def _renew(self) -> None:
        moved, self._moved = self._moved, set()
        for name in moved:
            try:
                await self._look(name)
            except Fault as fault:
                _log.warning("feed_set_not_read", merchant=name[0], fault=type(fault).__name__)
                self._moved.add(name)
        if self._moved:
            await asyncio.sleep(RETRY_S)
            self._wake.set()

    async def _look(self, name: Name) -> None:
        merchant, set_id = name
        known = self._known.get(name)
        if known is None:
            return
        keys = MerchantKeys(merchant)
        try:
            state = await sets.look_up(self._redis, keys, known.agent, set_id, limits=self._limits)
            if _is_of(known.filter, state):
                return
            found = await sets.read(self._redis, keys, known.agent, set_id, limits=self._limits)
        except NotFound:
            self._forget(name)
            if self.on_changed is not None:
                self.on_changed(merchant, set_id, None)
            return
        self._keep(name, found)

    def _keep(self, name: Name, found: Filter) -> None:
        known = self._known.get(name)
        if known is None or known.filter == found:
            return
        known.filter = found
        if self.on_changed is not None:
            self.on_changed(*name, found)

    def _forget(self, name: Name) -> None:
        self._known.pop(name, None)
        merchant = name[0]
        if all(other != merchant for other, _ in self._known):
            self._positions.pop(merchant, None)


def _is_of(known: Filter, state: SetState) -> bool:
    return (known.rev, known.mark) == (state.rev, state.mark)
