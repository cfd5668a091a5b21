"""Tells all subscribers of the merchants that this process has taken on.

A merchant's subscribers are told by one process at a time, which holds a lease; when it dies another one
takes over within seconds, from what is stored. One task reads the feeds of all merchants taken on and hands
each change to the lanes that watch the SKU, so that a thousand lanes cost one read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Final

import sentry_sdk

from synchub import metrics
from synchub.errors import Conflict, Misconfigured
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import monotonic_ms, now_ms
from synchub.kit.tasks import end, is_ending
from synchub.logs import get_logger
from synchub.redis import open_redis
from synchub.subscriptions import rules, store
from synchub.subscriptions.catching_up import head_of
from synchub.subscriptions.equipment import TROUBLE, LaneLost
from synchub.subscriptions.lanes import Lane
from synchub.subscriptions.model import Spot, Standing, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from synchub.stock.model import FeedEntry
    from synchub.subscriptions.equipment import Equipment
    from synchub.subscriptions.model import Subscription

LEASE_MS: Final = 5000
RENEW_EVERY_MS: Final = LEASE_MS // 4
LOOK_EVERY_S: Final = 0.25
TAKE_EVERY_MS: Final = 1000
"""How often merchants of other processes are asked for."""
TAKEN_AT_ONCE: Final = 16
"""Merchants taken on in one look, so that processes that start together share them."""
PROVE_EVERY_MS: Final = 1000
"""How often it is checked whether a history has been renamed."""
BLOCK_MS: Final = 200
PAUSE_S: Final = 0.5
PUT_ASIDE_S: Final = 60.0
"""How long a lane rests that cannot go on for a fault of the hub's."""

_log: Final = get_logger()


class Round:
    """One merchant's lanes, and how far its feed has been handed to them."""

    def __init__(self, merchant: str, spot: Spot) -> None:
        self.keys = MerchantKeys(merchant)
        self.spot = spot
        self.lanes: dict[str, Lane] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.seen = 0
        """Which number of changes of its subscriptions has been looked at."""
        self.version = 0
        """Of its policies."""
        self.renewed_ms = 0
        self._by_sku: dict[str, set[Lane]] = {}
        self._others: set[Lane] = set()

    def add(self, lane: Lane, task: asyncio.Task[None]) -> None:
        """Have a lane told of changes from now on."""
        self.lanes[lane.subscription.id] = lane
        self.tasks[lane.subscription.id] = task
        for sku in lane.subscription.filter.skus:
            self._by_sku.setdefault(sku, set()).add(lane)
        if not lane.subscription.filter.skus:
            self._others.add(lane)

    def drop(self, name: str) -> asyncio.Task[None]:
        """Forget a lane and return its task."""
        lane = self.lanes.pop(name)
        self._others.discard(lane)
        for sku in lane.subscription.filter.skus:
            self._by_sku[sku].discard(lane)
            if not self._by_sku[sku]:
                del self._by_sku[sku]
        return self.tasks.pop(name)

    def hand_on(self, entries: Iterable[FeedEntry]) -> None:
        """Hand changes to the lanes that watch them."""
        for entry in entries:
            if entry.previous != self.spot.seq:
                self.fall_behind()
            self.spot = Spot(epoch=self.spot.epoch, seq=entry.seq)
            sku = entry.answer.sku
            for lane in self._by_sku.get(sku, ()):
                lane.note(entry.answer)
            for lane in self._others:
                if rules.matches(lane.subscription.filter, sku):
                    lane.note(entry.answer)

    def move(self, spot: Spot) -> None:
        """Go on in another history, or after a gap."""
        self.spot = spot
        self.fall_behind()

    def fall_behind(self) -> None:
        """Have every lane look for itself what it has missed."""
        for lane in self.lanes.values():
            lane.fall_behind()


class Dispatcher:
    """All rounds of one process; :meth:`run` until cancelled."""

    def __init__(self, equipment: Equipment) -> None:
        self._with = equipment
        self._redis = equipment.redis
        self._settings = equipment.settings
        self._client = open_redis(equipment.settings.redis, blocking_ms=BLOCK_MS, connections_max=2)
        self._rounds: dict[str, Round] = {}
        self._changed = asyncio.Event()
        self._refused: dict[str, int] = {}
        """Merchants that another process tells, and when it was found out."""
        self._proved_ms = 0
        self._is_well = True

    async def run(self) -> None:
        """Tell subscribers what there is to tell; what is in hand when it is cancelled is told again."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._look_after(), name="push-look-after")
                tasks.create_task(self._follow(), name="push-follow")
        finally:
            await self._give_back()
            await self._client.aclose()

    # ---------------------------------------------------------------------------------- who is to be told

    async def _look_after(self) -> None:
        while not is_ending():
            try:
                await self._look()
            except TROUBLE as trouble:
                self._say(is_well=False, why=type(trouble).__name__)
            else:
                self._say(is_well=True)
            self._count()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        news = await store.read_news(self._redis)
        for merchant in self._rounds.keys() - news.keys():
            await self._leave(merchant)
        await self._take_on(sorted(news.keys() - self._rounds.keys()))
        for merchant, number in news.items():
            if merchant in self._rounds:
                await self._tend(merchant, number)

    async def _take_on(self, merchants: list[str]) -> None:
        """Take on merchants whom nobody tells; those of others are asked for now and then."""
        now, taken = monotonic_ms(), 0
        self._refused = {name: since for name, since in self._refused.items() if now - since < TAKE_EVERY_MS}
        for merchant in merchants:
            if merchant in self._refused or taken >= TAKEN_AT_ONCE:
                continue
            keys = MerchantKeys(merchant)
            if not await store.take_lease(self._redis, keys, owner=self._with.owner, ttl_ms=LEASE_MS):
                self._refused[merchant] = now
                continue
            taken += 1
            head = await head_of(self._redis, keys)
            self._rounds[merchant] = Round(merchant, Spot(epoch=head.epoch, seq=head.feed_seq))
            self._rounds[merchant].renewed_ms = monotonic_ms()
            self._changed.set()

    async def _tend(self, merchant: str, number: int) -> None:
        one = self._rounds[merchant]
        if monotonic_ms() - one.renewed_ms >= RENEW_EVERY_MS:
            if not await store.take_lease(self._redis, one.keys, owner=self._with.owner, ttl_ms=LEASE_MS):
                await self._leave(merchant)
                return
            one.renewed_ms = monotonic_ms()
        for name in [name for name, task in one.tasks.items() if task.done()]:
            await end(one.drop(name))
            one.seen = 0
        if number != one.seen:
            await self._read_again(one)
            one.seen = number
        version = self._with.decided.version(merchant)
        for lane in list(one.lanes.values()):
            await self._check(one, lane, is_edited=version != one.version)
        one.version = version

    async def _read_again(self, one: Round) -> None:
        """Take over what has changed about the merchant's subscriptions."""
        found = {sub.id: sub for sub in await store.read_all(self._redis, one.keys.merchant)}
        for name, lane in list(one.lanes.items()):
            if name not in found or found[name].created_at_ms != lane.subscription.created_at_ms:
                await end(one.drop(name))
        for name, subscription in found.items():
            standing = await store.read_lane(self._redis, one.keys, name)
            if standing is None or standing.born_ms != subscription.created_at_ms:
                continue  # being made or being deleted at this moment
            if name in one.lanes:
                one.lanes[name].renew(subscription, standing)
            else:
                self._start(one, subscription, standing)

    def _start(self, one: Round, subscription: Subscription, standing: Standing) -> None:
        lane = Lane(subscription, standing, self._with, lambda: one.spot)
        one.add(lane, asyncio.create_task(_told(lane), name="lane"))

    async def _check(self, one: Round, lane: Lane, *, is_edited: bool) -> None:
        """End what is over, and wake a lane whose time or view has come."""
        subscription, standing = lane.subscription, lane.standing
        holder = self._with.holder_of(subscription)
        if holder is None:
            metrics.subscriptions_over.labels("key").inc()
            _log.warning(
                "subscription_ended",
                reason="key",
                subscription=subscription.id,
                merchant=subscription.merchant,
                agent=subscription.agent,
            )
            await self._remove(one, lane)
        elif rules.is_forgotten(subscription, standing, now_ms()):
            await self._remove(one, lane)
        elif (
            is_edited
            or holder is not lane.holder
            or (lane.status() is Status.EXPIRED and not standing.is_expiry_noted)
        ):
            lane.holder = holder
            lane.stir()

    async def _remove(self, one: Round, lane: Lane) -> None:
        await end(one.drop(lane.subscription.id))
        merchant, name = one.keys.merchant, lane.subscription.id
        present, record = await store.read(self._redis, merchant, name)
        if present is not None and present.created_at_ms == lane.subscription.created_at_ms:
            limits = self._settings.subscriptions
            with contextlib.suppress(Conflict):  # changed at this very moment: the next look knows
                await store.write(self._redis, present, before=record, is_gone=True, settings=limits)
                await store.close_lane(self._redis, one.keys, name)

    async def _leave(self, merchant: str) -> None:
        one = self._rounds.pop(merchant)
        await end(*one.tasks.values())

    async def _give_back(self) -> None:
        """End all lanes, and let others take over at once."""
        merchants = list(self._rounds)
        for merchant in merchants:
            await self._leave(merchant)
        try:
            for merchant in merchants:
                keys = MerchantKeys(merchant)
                await store.take_lease(self._redis, keys, owner=self._with.owner, ttl_ms=0)
        except TROUBLE:
            pass  # the leases end by themselves

    # --------------------------------------------------------------------------------- what is there to tell

    async def _follow(self) -> None:
        while not is_ending():
            try:
                await self._prove()
                await self._read()
            except TROUBLE as trouble:
                self._say(is_well=False, why=type(trouble).__name__)
                await asyncio.sleep(PAUSE_S)
            except (KeyError, ValueError) as fault:
                # Nobody but the stock script writes there; whoever it was, the answers still say what is so.
                _log.error("push_entry_unreadable", fault=type(fault).__name__)
                await self._skip()

    async def _read(self) -> None:
        positions = {merchant: one.spot.seq for merchant, one in self._rounds.items()}
        if not positions:
            self._changed.clear()
            await self._changed.wait()
            return
        found = await store.read_changes(
            self._client, positions, block_ms=BLOCK_MS, limit=self._settings.feed.read_max
        )
        for merchant, entries in found.items():
            one = self._rounds.get(merchant)
            if one is not None and one.spot.seq == positions[merchant]:
                one.hand_on(entries)

    async def _prove(self) -> None:
        """Notice that a history has been renamed, or ends before where we are."""
        if monotonic_ms() - self._proved_ms < PROVE_EVERY_MS:
            return
        for one in list(self._rounds.values()):
            head = await head_of(self._redis, one.keys)
            if head.epoch != one.spot.epoch or head.feed_seq < one.spot.seq:
                one.move(Spot(epoch=head.epoch, seq=head.feed_seq))
        self._proved_ms = monotonic_ms()

    async def _skip(self) -> None:
        for one in list(self._rounds.values()):
            head = await head_of(self._redis, one.keys)
            one.move(Spot(epoch=head.epoch, seq=head.feed_seq))

    # --------------------------------------------------------------------------------------------- numbers

    def _count(self) -> None:
        lanes = [lane for one in self._rounds.values() for lane in one.lanes.values()]
        by_status = Counter(lane.status() for lane in lanes)
        for status in Status:
            metrics.subscriptions.labels(status.value).set(by_status[status])
        metrics.push_breakers_open.set(sum(lane.is_held_back for lane in lanes))
        waiting = [lane.waits_since_ms for lane in lanes if lane.waits_since_ms]
        metrics.push_oldest.set(min(waiting, default=0) / 1000)

    def _say(self, *, is_well: bool, why: str = "") -> None:
        if is_well is not self._is_well:
            self._is_well = is_well
            if is_well:
                _log.info("push_resumed")
            else:
                _log.warning("push_interrupted", reason=why)


async def _told(lane: Lane) -> None:
    """Run a lane; one that cannot go on is put aside for a while, so that no other has to wait for it."""
    try:
        await lane.run()
    except LaneLost:
        return
    except Misconfigured as problem:
        _log.error("lane_left_out", subscription=lane.subscription.id, reason=problem.detail)
    except Exception as fault:  # noqa: BLE001 - whatever is wrong with one lane, the others go on; reported
        _log.error("lane_failed", subscription=lane.subscription.id, fault=type(fault).__name__)
        sentry_sdk.capture_exception(fault)
    await asyncio.sleep(PUT_ASIDE_S)
