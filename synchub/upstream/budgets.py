"""Whose turn it is to call one account's platform.

All processes share one bucket. In each of them only the most urgent of those who wait asks for a turn, so the
store sees one per process and can prefer the most urgent of all. With the store away a process takes a part
of the limits by itself, and tells the store afterwards what it has used.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from bisect import insort
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.errors import UpstreamPutOff
from synchub.kit.waiting import unless
from synchub.upstream import rules, store
from synchub.upstream.model import Bucket, Place, Wanted

if TYPE_CHECKING:
    from synchub.connector_kit.contract import Quota
    from synchub.upstream.model import Limits
    from synchub.upstream.reach import Reach

LOOK_AGAIN_MS: Final = 50
"""How often a turn is asked for that begins with the end of somebody else's call in another process."""
NOT_COUNTABLE_MS: Final = 1000
"""With the store away, calls that it alone can count are put off for so long."""
_ENDED_BY_OTHERS: Final = frozenset({"slots", "outranked"})
_NOT_TODAY: Final = frozenset({"day", "listing", "store"})
_WHY: Final = {
    "bucket": "The platform's limits leave no room for this call in time.",
    "throttled": "The platform has asked for fewer calls.",
    "slots": "Too many calls to the platform are on their way.",
    "outranked": "More urgent calls to the platform wait as well.",
    "day": "The platform's limit of calls a day is used up.",
    "listing": "The platform's limit of changes to this listing a day is used up.",
    "store": "With the store away changes to listings cannot be counted.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A call that may be made, until its end is told."""

    name: str
    wanted: Wanted
    is_local: bool
    """The store does not know of it."""


@dataclass(order=True, slots=True)
class _Waiter:
    rank: tuple[int, int]
    stirred: asyncio.Event = field(default_factory=asyncio.Event, compare=False)
    refused: store.Turn | None = field(default=None, compare=False)
    """What it was told last, since it is its turn to ask."""


class Budget:
    """One account's limits, as one process counts them."""

    def __init__(self, place: Place, limits: Limits, connector: str, reach: Reach) -> None:
        self._place = place
        self._limits = limits
        self._connector = connector
        self._reach = reach
        self._numbers = itertools.count(1)
        self._waiting: list[_Waiter] = []
        self._on_way = 0
        self._calls_today = 0
        self._owed = 0.0
        self._owed_calls = 0
        now = reach.times.now_ms()
        self._known = Bucket(
            left=limits.capacity, at_ms=now, capacity=limits.capacity, restored_per_s=limits.restored_per_s
        )
        self._alone: Bucket | None = None
        """What this process takes by itself, while the store is away."""

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits and nothing is on its way."""
        return not self._waiting and not self._on_way and not self._owed

    async def take(self, wanted: Wanted, *, wait_ms: int, lease_ms: int) -> Lease:
        """Wait for the call's turn; :meth:`settle` is to be told its end.

        Raises:
            UpstreamPutOff: it would take longer; ``retry_after_s`` says how long.
        """
        until_ms = self._reach.times.now_ms() + wait_ms
        waiter = _Waiter((-wanted.priority, next(self._numbers)))
        insort(self._waiting, waiter)
        try:
            return await self._turn(waiter, wanted, until_ms, lease_ms)
        finally:
            self._waiting.remove(waiter)
            self._stir()

    async def settle(
        self, lease: Lease, *, quota: Quota | None = None, throttled_s: int = 0, is_unused: bool = False
    ) -> None:
        """Note that a call is over and what the platform said: what is left, or how long it wants none."""
        self._on_way -= 1
        try:
            self._learn(quota, throttled_s)
            if lease.is_local and is_unused:
                self._give_back(lease)
            ended = store.Ended(
                call=lease.name,
                listing=lease.wanted.listing,
                quota=quota,
                throttled_ms=throttled_s * 1000,
                is_unused=is_unused,
            )
            now_ms = self._reach.times.store_ms()
            told = await self._reach.ask(
                lambda: store.settle(self._reach.redis, self._place, self._limits, ended, now_ms=now_ms)
            )
            if told is not None:
                self._know(told)
        finally:
            self._stir()

    async def _turn(self, waiter: _Waiter, wanted: Wanted, until_ms: int, lease_ms: int) -> Lease:
        while True:
            waiter.stirred.clear()
            left_ms = until_ms - self._reach.times.now_ms()
            first = self._waiting[0]
            if first is waiter:
                name = f"{self._reach.process}-{next(self._numbers)}"
                turn, is_local = await self._ask(name, wanted, max(0, left_ms), lease_ms)
                if turn.has_begun:
                    self._on_way += 1
                    return Lease(name=name, wanted=wanted, is_local=is_local)
                await self._wait(waiter, turn, until_ms)
            elif left_ms > 0:
                await unless(waiter.stirred, self._reach.times.sleep(left_ms / 1000))
            elif first.refused is not None:
                raise self._put_off(first.refused)
            else:
                await waiter.stirred.wait()  # without patience, but the first one is just being answered

    async def _wait(self, waiter: _Waiter, turn: store.Turn, until_ms: int) -> None:
        """Wait until it may be this one's turn, if that is in time."""
        left_ms = until_ms - self._reach.times.now_ms()
        may_be_sooner = turn.why in _ENDED_BY_OTHERS
        if turn.why in _NOT_TODAY or left_ms <= 0 or (not may_be_sooner and turn.wait_ms > left_ms):
            raise self._put_off(turn)
        if waiter.refused is None:
            for other in self._waiting:
                other.stirred.set()
            waiter.stirred.clear()
        waiter.refused = turn
        pause_ms = min(turn.wait_ms, LOOK_AGAIN_MS) if may_be_sooner else turn.wait_ms
        await unless(waiter.stirred, self._reach.times.sleep(max(1, min(pause_ms, left_ms)) / 1000))

    def _stir(self) -> None:
        """Let the first of those who wait look again."""
        if self._waiting:
            self._waiting[0].stirred.set()

    async def _ask(self, name: str, wanted: Wanted, waits_ms: int, lease_ms: int) -> tuple[store.Turn, bool]:
        reserve = self._reach.settings.reserve_percent
        owed, self._owed = self._owed, 0.0
        owed_calls, self._owed_calls = self._owed_calls, 0
        asked = store.Wish(
            call=name,
            process=self._reach.process,
            wanted=wanted,
            kept=rules.kept_share(wanted.priority, reserve),
            slots=rules.slots_of(wanted.priority, self._limits.concurrency, reserve),
            owed=owed,
            owed_calls=owed_calls,
            lease_ms=lease_ms,
            waits_ms=waits_ms,
        )
        now_ms = self._reach.times.store_ms()
        turn = await self._reach.ask(
            lambda: store.take(self._reach.redis, self._place, self._limits, asked, now_ms=now_ms)
        )
        if turn is None:
            self._owed += owed
            self._owed_calls += owed_calls
            return self._ask_oneself(asked), True
        self._know(turn.left)
        return turn, False

    def _ask_oneself(self, asked: store.Wish) -> store.Turn:
        now = self._reach.times.now_ms()
        wanted, per_day = asked.wanted, self._limits.per_day
        bucket = self._alone = rules.filled(self._alone or rules.part_of(rules.filled(self._known, now)), now)
        calls = self._calls_today + self._owed_calls
        wait_ms, why = rules.wait_ms(bucket, wanted.cost, asked.kept), "bucket"
        if wanted.listing and self._limits.per_listing_per_day:
            wait_ms, why = NOT_COUNTABLE_MS, "store"
        elif per_day and calls >= per_day - math.floor(per_day * asked.kept):
            wait_ms, why = NOT_COUNTABLE_MS, "day"
        elif bucket.closed_until_ms > now:
            why = "throttled"
        elif self._on_way >= asked.slots:
            wait_ms, why = LOOK_AGAIN_MS, "slots"
        left = store.Left(
            left=bucket.left,
            capacity=bucket.capacity,
            restored_per_s=bucket.restored_per_s,
            calls_today=calls,
        )
        if wait_ms:
            return store.Turn(has_begun=False, left=left, why=why, wait_ms=wait_ms)
        self._alone = replace(bucket, left=bucket.left - wanted.cost)
        self._owed += wanted.cost
        self._owed_calls += 1
        return store.Turn(has_begun=True, left=left)

    def _know(self, left: store.Left) -> None:
        """Take over what the store says."""
        self._alone = None
        self._calls_today = left.calls_today
        self._known = replace(
            self._known,
            left=left.left,
            at_ms=self._reach.times.now_ms(),
            capacity=left.capacity,
            restored_per_s=left.restored_per_s,
        )
        if metrics.upstream_accounts.has(self._place.account):
            metrics.upstream_budget.labels(self._place.account).set(max(0.0, left.left))
            metrics.upstream_capacity.labels(self._place.account).set(left.capacity)

    def _learn(self, quota: Quota | None, throttled_s: int) -> None:
        """Keep what the platform itself said, in case the store cannot be told."""
        now = self._reach.times.now_ms()
        for mine in ("_known", "_alone"):
            bucket: Bucket | None = getattr(self, mine)
            if bucket is None:
                continue
            if quota is not None:
                bucket = replace(bucket, left=min(bucket.left, quota.remaining))
            if throttled_s:
                closed_ms = max(bucket.closed_until_ms, now + throttled_s * 1000)
                bucket = replace(bucket, left=min(bucket.left, 0.0), at_ms=now, closed_until_ms=closed_ms)
            setattr(self, mine, bucket)

    def _give_back(self, lease: Lease) -> None:
        self._owed = max(0.0, self._owed - lease.wanted.cost)
        self._owed_calls = max(0, self._owed_calls - 1)
        if self._alone is not None:
            self._alone = replace(self._alone, left=self._alone.left + lease.wanted.cost)

    def _put_off(self, turn: store.Turn) -> UpstreamPutOff:
        metrics.upstream_put_off.labels(self._connector, turn.why).inc()
        return UpstreamPutOff(_WHY[turn.why], retry_after_s=max(1, math.ceil(turn.wait_ms / 1000)))
