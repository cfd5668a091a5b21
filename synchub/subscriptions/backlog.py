"""What an endpoint has not been told yet: the latest answer of each SKU, never a list of changes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from synchub.subscriptions.catching_up import changed_since
from synchub.subscriptions.model import EVERYTHING, Spot
from synchub.subscriptions.rules import next_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.settings import Settings
    from synchub.stock.model import Answer
    from synchub.subscriptions.model import Filter

AGAIN_S: Final = 0.05
"""Pause before it is looked again after the history has moved under a look."""


class Backlog:
    """Collects what matches as it changes; once let go, finds it again from a position."""

    def __init__(
        self,
        redis: Executes,
        keys: MerchantKeys,
        chosen: Filter,
        settings: Settings,
        present: Callable[[], Spot],
        looks: asyncio.Semaphore,
    ) -> None:
        """``present`` says up to where changes have been handed to :meth:`note`.

        ``looks`` keeps many that have fallen behind together from reading at once.
        """
        self.is_behind = True
        """Whether there may be more than is collected."""
        self._redis = redis
        self._keys = keys
        self._chosen = chosen
        self._settings = settings
        self._most = settings.subscriptions.pending_max + len(chosen.skus)
        self._present = present
        self._looks = looks
        self._collects = False
        self._changed: dict[str, Answer] = {}
        self._floor = Spot(epoch="", seq=EVERYTHING)
        self._truncated_to = EVERYTHING

    @property
    def size(self) -> int:
        """How many SKUs are known to be untold."""
        return len(self._changed)

    def note(self, answer: Answer) -> bool:
        """Take in a change that matches, in the order of the changes; say whether there may be news."""
        if not self._collects or answer.seq <= self._floor.seq:
            return self.is_behind
        self._changed[answer.sku] = answer
        if len(self._changed) > self._most:
            self.let_go()
        return True

    def let_go(self) -> None:
        """Forget everything but that there may be something."""
        self._collects, self.is_behind = False, True
        self._changed = {}

    async def fill(self, spot: Spot) -> Spot:
        """Find what has changed after a position, until there is something or the present is reached.

        Returns where an endpoint stands that has been told all before it.

        Raises:
            OutcomeUnknown, StoreUnavailable: the store does not answer.
        """
        while not self._changed and self.is_behind:
            before = spot
            async with self._looks:
                spot = await self._look(spot)
            if spot == before and not self._changed and self.is_behind:
                await asyncio.sleep(AGAIN_S)
        if self._changed:
            return spot
        reach = self._reach()
        return reach if reach.epoch == spot.epoch and reach.seq > spot.seq else spot

    def take(self, most: int) -> tuple[list[Answer], Spot]:
        """Return what is to be told next, and where an endpoint stands that was told it."""
        reach = self._reach()
        part, upto = next_part(self._changed, reach.seq, most)
        return part, replace(reach, seq=upto)

    def strike_off(self, upto: int) -> None:
        """Forget what has been told."""
        self._changed = {sku: answer for sku, answer in self._changed.items() if answer.seq > upto}

    def is_truncated(self, spot: Spot) -> bool:
        """Say whether what follows a position are states, because the changes are no longer known."""
        return spot.seq < self._truncated_to

    async def _look(self, spot: Spot) -> Spot:
        # Collects before it reads, so that nothing falls between the two.
        self._collects, self._floor = True, Spot(epoch="", seq=EVERYTHING)
        missed = await changed_since(self._redis, self._keys, spot, self._chosen, self._settings)
        if missed.reach.epoch != spot.epoch:
            spot = Spot(epoch=missed.reach.epoch, seq=EVERYTHING)
        if missed.truncated:
            self._truncated_to = missed.reach.seq
        has_joined = missed.is_all and self._collects and self._present().epoch == missed.reach.epoch
        newer = self._changed if has_joined else {}
        self._collects, self.is_behind = has_joined, not has_joined
        self._floor = missed.reach
        self._changed = missed.changed | {
            sku: answer for sku, answer in newer.items() if answer.seq > missed.reach.seq
        }
        return spot if self._changed or missed.reach.seq <= spot.seq else missed.reach

    def _reach(self) -> Spot:
        """Up to where what is collected is complete."""
        present = self._present()
        if not self._collects or present.epoch != self._floor.epoch:
            return self._floor
        return max(self._floor, present, key=lambda spot: spot.seq)
