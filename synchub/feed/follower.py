"""One task per process that reads the feeds of all merchants somebody follows.

What ``asof`` promises is made here: the time is taken before a read is sent, and
counts only when its reply was not cut short. While the store does not answer,
heartbeats go on and ``asof`` stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from synchub import metrics
from synchub.errors import Fault, StoreUnavailable
from synchub.feed import rules, store
from synchub.feed.audiences import Turns
from synchub.feed.fanout import Tail
from synchub.feed.model import Health, ResetReason
from synchub.history import operations as history
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import monotonic_ms, now_ms
from synchub.kit.tasks import is_ending
from synchub.logs import get_logger
from synchub.redis import LOST, open_redis
from synchub.stock import operations as stock

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis.asyncio as aioredis

    from synchub.feed.followed_sets import FollowedSets
    from synchub.lua import Executes
    from synchub.redis import Part
    from synchub.settings import Settings
    from synchub.stock.model import FeedEntry, Position

BEAT_TICK_S: Final = 0.02
SOURCES_EVERY_S: Final = 1.0
"""How often it is looked whether accounts are heard."""
SOURCE_ROUNDS: Final = 5
"""Looks after which readers are told when accounts were heard, if nothing else is to be told of them."""
PROOF_EVERY_MS: Final = 1000
"""How often the name and length of each history are checked without cause."""
PROOFS_MAX: Final = 3
"""Tries to find the process and the store in one history."""
PAUSE_FIRST_S: Final = 0.05
PAUSE_MAX_S: Final = 1.0

_TROUBLE: Final = (*LOST, RedisError)
_TO_AGENT: Final = metrics.webhook_to_agent.labels("sse")
_log = get_logger(part="feed")


class FeedFollower:
    """Reads, checks that nothing is missing, publishes."""

    def __init__(self, settings: Settings, redis: Executes, sets: FollowedSets) -> None:
        self._redis = redis
        self._sets = sets
        self._settings = settings.feed
        self._hub_settings = settings
        self._client = open_redis(settings.redis, blocking_ms=settings.feed.read_block_ms, connections_max=2)
        self._answer_within_s = (settings.redis.command_timeout_ms + settings.feed.read_block_ms) / 1000
        self._tails: dict[str, Tail] = {}
        self._wanted = asyncio.Event()
        self._proofs: list[asyncio.Future[None]] = []
        self._must_prove = False
        self._proved_at_ms = 0
        self._failures = 0
        self._health = Health(fresh=True, since_ms=now_ms())
        self._fresh = asyncio.Event()
        self._fresh.set()
        self.is_running = False

    @property
    def health(self) -> Health:
        """Whether the last read of the store was answered, and since when that is so."""
        return self._health

    @property
    def tails(self) -> list[Tail]:
        """The merchants followed."""
        return list(self._tails.values())

    def lag_ms(self) -> int:
        """How long ago the oldest statement of completeness was true; 0 when nobody follows."""
        now = monotonic_ms()
        return max((now - tail.asof_ms for tail in self._tails.values()), default=0)

    async def run(self) -> None:
        """Read and send heartbeats until cancelled; readers are not told of the end."""
        self.is_running = True
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(), name="feed-follower")
                tasks.create_task(self._beat(), name="feed-heartbeats")
                tasks.create_task(self._watch_sources(), name="feed-sources")
                tasks.create_task(self._sets.run(), name="feed-sets")
        finally:
            self.is_running = False
            await self._client.aclose()

    async def tail(self, merchant: str) -> Tail:
        """Return the merchant's tail, which begins at the present head when nobody followed before.

        Register a reader with it before the next await, or it may be forgotten.

        Raises:
            StoreUnavailable, OutcomeUnknown: the head could not be read.
        """
        tail = self._tails.get(merchant)
        if tail is None:
            asof_ms = monotonic_ms()
            head = await store.named_head(self._redis, MerchantKeys(merchant))
            tail = self._tails.get(merchant) or Tail(merchant, head, asof_ms)
            self._tails[merchant] = tail
            self._wanted.set()
        return tail

    async def settled(self) -> None:
        """Return at once, or when the store answers again and has been checked for losses."""
        await self._fresh.wait()

    async def proven_head(self, tail: Tail) -> tuple[Position, int]:
        """Return the head, read in the tail's own history, and the oldest position that can be continued.

        Raises:
            StoreUnavailable, OutcomeUnknown: the store could not be read, or is in another history still.
        """
        keys = MerchantKeys(tail.merchant)
        for _ in range(PROOFS_MAX):
            seen = tail.seen
            head = await stock.read_head(self._redis, keys)
            oldest = await store.read_oldest(self._redis, keys)
            if head.epoch == tail.epoch and head.seq >= seen:
                tail.seen = max(tail.seen, head.seq)
                return head, head.feed_seq if oldest is None else oldest
            # Either the store or this process is in another history; the proof finds out which.
            await self.prove()
        msg = "The feed is settling after a change of the store."
        raise StoreUnavailable(msg, retry_after_s=1)

    async def prove(self) -> None:
        """Return after every history has been checked against the store.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        proof: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._proofs.append(proof)
        self._must_prove = True
        try:
            async with asyncio.timeout(self._answer_within_s):
                await proof
        except TimeoutError:
            msg = "The feed cannot be read at the moment."
            raise StoreUnavailable(msg, retry_after_s=1) from None

    async def _follow(self) -> None:
        task = asyncio.current_task()
        # Before Python 3.12 asyncio.wait_for, which redis-py sends with, can swallow a cancellation.
        while task is not None and not task.cancelling():
            self._forget_idle()
            if not self._tails:
                self._settle_proofs(self._take_proofs())
                self._wanted.clear()
                await self._wanted.wait()
            try:
                if self._must_prove or monotonic_ms() - self._proved_at_ms >= PROOF_EVERY_MS:
                    await self._prove_all()
                await self._read()
            except _TROUBLE as problem:
                self._must_prove = True
                self._failures += 1
                self._set_health(fresh=False, because=type(problem).__name__)
                await asyncio.sleep(self._pause_s())
            else:
                self._failures = 0
                self._set_health(fresh=True, because="answered")

    async def _read(self) -> None:
        tails = {MerchantKeys(name).feed: (tail, tail.position) for name, tail in self._tails.items()}
        limit = self._settings.read_max
        sets = {MerchantKeys(name).feed_set_changes: name for name in self._sets.positions}
        sent_ms = monotonic_ms()
        news = await store.read_news(
            self._client,
            {key: position for key, (_, position) in tails.items()},
            block_ms=self._settings.read_block_ms,
            limit=limit,
            others={key: self._sets.positions[name] for key, name in sets.items()},
        )
        for key, name in sets.items():
            if changes := news.get(key):
                self._sets.noticed(
                    name, changes[-1][0].decode(), [entry[b"id"].decode() for _, entry in changes]
                )
        for key, (tail, _) in tails.items():
            raw = news.get(key, [])
            await self._advance(tail, raw, None if len(raw) >= limit else sent_ms)

    async def _advance(self, tail: Tail, raw: list[store.RawEntry], asof_ms: int | None) -> None:
        try:
            entries = store.parsed(raw)
        except (KeyError, ValueError) as problem:
            # Nobody but the stock script writes here; whatever it was must not stop all other merchants.
            _log.error("feed_entry_unreadable", merchant=tail.merchant, fault=type(problem).__name__)
            await self._restart(tail, ResetReason.GAP)
            return
        broken = rules.broken_link(tail.position, entries)
        if broken is not None:
            await self._restart(tail, broken)
            return
        tail.publish(entries, asof_ms=asof_ms, now_ms=monotonic_ms())
        _time_the_way(entries)
        if raw:
            tail.last_entry = raw[-1][1]

    async def _prove_all(self) -> None:
        proofs = self._take_proofs()
        self._must_prove = False
        tails = self.tails
        believed = [(tail.seen, tail.last_entry) for tail in tails]
        try:
            found = await store.read_proofs(
                self._client, [(MerchantKeys(tail.merchant), tail.position) for tail in tails]
            )
            for tail, (seen, entry), (head, present) in zip(tails, believed, found, strict=True):
                is_shorter = head.seq < seen or head.feed_seq < tail.position
                is_other = entry is not None and present is not None and entry != present
                await self._judge(tail, head, is_lost=is_shorter or is_other)
        except _TROUBLE:
            self._proofs += proofs
            raise
        behind = [head.feed_seq - tail.position for tail, (head, _) in zip(tails, found, strict=True)]
        metrics.feed_lag_sequences.set(max(behind, default=0))
        self._proved_at_ms = monotonic_ms()
        self._settle_proofs(proofs)

    async def _judge(self, tail: Tail, head: Position, *, is_lost: bool) -> None:
        if head.epoch != tail.epoch:
            await self._restart(tail, ResetReason.EPOCH)
        elif is_lost:
            await self._restart(tail, ResetReason.CONTINUITY)

    async def _restart(self, tail: Tail, reason: ResetReason) -> None:
        """Have everyone start anew; a history that lost something first gets a new name, once for all."""
        keys = MerchantKeys(tail.merchant)
        asof_ms = monotonic_ms()
        if reason is ResetReason.CONTINUITY:
            direct = _Direct(self._client)
            await history.give_up(direct, tail.merchant, tail.epoch, settings=self._hub_settings)
        head = await store.named_head(_Direct(self._client), keys)
        _log.warning("feed_restarted", merchant=tail.merchant, reason=reason.value, seq=head.feed_seq)
        tail.restart(head, asof_ms, reason)

    async def _beat(self) -> None:
        turns = Turns()
        while not is_ending():
            now = monotonic_ms()
            for tail in self.tails:
                tail.judge(now)
                for audience in tail.audiences:
                    if now >= audience.beat_due_ms:
                        audience.beat_due_ms = now + audience.lens.hb_ms
                        await audience.beat(
                            tail.epoch,
                            tail.position,
                            tail.asof_ms,
                            is_degraded=tail.is_degraded,
                            turns=turns,
                        )
            await asyncio.sleep(BEAT_TICK_S)

    async def _watch_sources(self) -> None:
        """Tell readers when an account falls silent or is back, and now and then when it was heard."""
        turns, rounds = Turns(), 0
        while not is_ending():
            tails = self.tails
            await asyncio.gather(*(self._read_sources(tail) for tail in tails))
            for tail in tails:
                states = [
                    rules.source_state(
                        one.account,
                        one.heard_ms,
                        max_age_ms=one.max_age_ms,
                        wall_ms=now_ms(),
                        monotonic_ms=monotonic_ms(),
                    )
                    for one in tail.heard
                ]
                moved = rules.moved_sources(tail.sources, states, also_times=rounds % SOURCE_ROUNDS == 0)
                if moved:
                    await tail.tell_sources(moved, turns)
            rounds += 1
            await asyncio.sleep(SOURCES_EVERY_S)

    async def _read_sources(self, tail: Tail) -> None:
        # What was heard last is kept while the store does not answer: it grows older all the same.
        with contextlib.suppress(Fault):
            tail.heard = await store.read_sources(self._redis, MerchantKeys(tail.merchant))

    def _forget_idle(self) -> None:
        for merchant in [name for name, tail in self._tails.items() if tail.is_idle]:
            del self._tails[merchant]

    def _take_proofs(self) -> list[asyncio.Future[None]]:
        proofs, self._proofs = self._proofs, []
        return proofs

    @staticmethod
    def _settle_proofs(proofs: list[asyncio.Future[None]]) -> None:
        for proof in proofs:
            if not proof.done():
                proof.set_result(None)

    def _pause_s(self) -> float:
        longest = min(PAUSE_MAX_S, PAUSE_FIRST_S * 2 ** min(self._failures, 10))
        return random.uniform(longest / 2, longest)  # noqa: S311 - spreads reconnects, hides nothing

    def _set_health(self, *, fresh: bool, because: str) -> None:
        if fresh is self._health.fresh:
            return
        self._health = Health(fresh=fresh, since_ms=now_ms())
        if fresh:
            self._fresh.set()
            _log.info("feed_store_back", because=because)
        else:
            self._fresh.clear()
            _log.warning("feed_store_lost", because=because)


class _Direct:
    """Lets a script run on the follower's own connection, whose order of commands is known."""

    def __init__(self, client: aioredis.Redis) -> None:
        self._client = client

    async def execute(self, *command: Part) -> Any:
        """Send one command and return its answer."""
        return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py has no types here


def _time_the_way(entries: Sequence[FeedEntry]) -> None:
    """Measure from a report's arrival at the hub until its change was written to the readers."""
    written_ms = now_ms()
    for entry in entries:
        if entry.reported_ms:
            _TO_AGENT.observe(max(0, written_ms - entry.reported_ms) / 1000)
