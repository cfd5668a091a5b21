"""What is done when a store has been started anew: object, prove, give up.

State and ledger lie in one store and are lost together, so neither can vouch for the
other. What can are the memories of the processes and the archive. Each process objects
for itself, before its first command to a new server; the first that a script refuses
to work for proves the history for all.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.archive import operations as archive
from synchub.history import store, witness
from synchub.history.model import Finding, Head
from synchub.history.presence import Presence
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import now_ms
from synchub.kit.hash_chain import ChainBroken
from synchub.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.history.model import Proof, Standing
    from synchub.lua import Executes
    from synchub.redis import CoalescingRedis, Connected
    from synchub.settings import Settings

_AT_ONCE: Final = 100
_ENDLESS: Final = 2**53 - 1
"""A sequence that no history reaches: whatever had it has lost its end."""

_log: Final = get_logger(part="history")


async def read_standing(redis: Executes, merchant: str) -> Standing:
    """Return where a merchant's history stands, for people who look at it.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store did not answer.
    """
    return await store.read_standing(redis, MerchantKeys(merchant))


class Historian:
    """Vouches for what one process has seen, on the connection that its hot path uses."""

    def __init__(self, redis: CoalescingRedis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._proving: dict[str, asyncio.Task[None]] = {}
        self._written: dict[str, Head] = {}
        self.presence = Presence(redis, after_ms=settings.authority.after_ms)
        """Whether the store is there at all."""
        redis.on_run = self.object
        redis.on_frozen = self.prove

    async def object(self, connected: Connected) -> None:
        """Look whether the new server lacks anything that this process was told by the one before.

        Before anything else is sent there: otherwise it could be told of a unit that it has
        granted already. What nobody of this process knows of is somebody else's to object to.

        Raises:
            OutcomeUnknown, StoreUnavailable: it could not be asked; the connection must not be used.
        """
        known = [(merchant, self._seen(merchant)) for merchant in self._redis.heads]
        for start in range(0, len(known), _AT_ONCE):
            part = known[start : start + _AT_ONCE]
            await asyncio.gather(*(self._object(connected, merchant, seen) for merchant, seen in part))

    async def prove(self, merchant: str) -> None:
        """Prove the history, so that scripts work for this run of the server; of many callers one does.

        Raises:
            OutcomeUnknown, StoreUnavailable: the store did not answer.
        """
        if merchant not in self._proving:
            task = asyncio.create_task(self._prove(merchant), name="prove-history")
            self._proving[merchant] = task
            task.add_done_callback(lambda done: self._proved(merchant, done))
        await asyncio.shield(self._proving[merchant])

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look for the store again and again, so that an objection does not wait for a request."""
        async with self.presence.watching():
            yield

    async def write_down(self) -> None:
        """Write beside the archive what this process has seen; workers do so again and again.

        Raises:
            OSError: the folder cannot be written.
        """
        heads = {merchant: Head(epoch=epoch, seq=seq) for merchant, (epoch, seq) in self._redis.heads.items()}
        if heads != self._written:
            await asyncio.to_thread(witness.write, self._settings.archive.folder, heads)
            self._written = heads

    def _seen(self, merchant: str) -> Head | None:
        known = self._redis.heads.get(merchant)
        if known is None:
            return None
        return Head(epoch=known[0], seq=known[1], at_ms=self._redis.moved_ms.get(merchant, 0))

    async def _object(self, connected: Connected, merchant: str, seen: Head | None) -> None:
        proof = await store.prove(
            connected, MerchantKeys(merchant), seen=seen, now_ms=now_ms(), settings=self._settings
        )
        _tell(merchant, proof, seen)
        self._redis.saw(merchant, proof.epoch, proof.seq)

    async def _prove(self, merchant: str) -> None:
        seen = self._seen(merchant)
        written = await _written(self._settings, merchant)
        proof = await store.prove(
            self._redis,
            MerchantKeys(merchant),
            seen=seen,
            written=written,
            takes_on=True,
            now_ms=now_ms(),
            settings=self._settings,
        )
        _tell(merchant, proof, seen or written)

    def _proved(self, merchant: str, done: asyncio.Task[None]) -> None:
        self._proving.pop(merchant, None)
        if not done.cancelled():
            done.exception()  # seen, also when every caller has been cancelled


async def give_up(redis: Executes, merchant: str, epoch: str, *, settings: Settings) -> Proof:
    """Rename a history of which somebody has seen what is no longer there, unless it has another name by now.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store did not answer.
    """
    seen = Head(epoch=epoch, seq=_ENDLESS)
    proof = await store.prove(redis, MerchantKeys(merchant), seen=seen, now_ms=now_ms(), settings=settings)
    _tell(merchant, proof, None)
    return proof


async def _written(settings: Settings, merchant: str) -> Head | None:
    """Return how far the history is known outside the store; None to a process that has no archive."""
    folder = settings.archive.folder
    try:
        noted = (await asyncio.to_thread(witness.read, folder)).get(merchant)
        found = await archive.highest_archived(folder, merchant)
    except (ChainBroken, OSError) as problem:
        _log.warning("archive_cannot_vouch", merchant=merchant, reason=str(problem))
        return None
    archived = Head(epoch=found[0], seq=found[1]) if found else None
    if noted and archived and noted.epoch == archived.epoch and archived.seq > noted.seq:
        return archived
    return noted or archived  # of two epochs the archive, which follows later, has the older


def _tell(merchant: str, proof: Proof, seen: Head | None) -> None:
    if proof.finding is Finding.LOST:
        metrics.epochs_renewed.inc()
        _log.error(
            "history_lost",
            merchant=merchant,
            epoch=proof.epoch,
            seq=proof.seq,
            seen=seen.seq if seen else None,
        )
    elif proof.finding is Finding.TAKEN_ON:
        _log.info("history_taken_on", merchant=merchant, epoch=proof.epoch, seq=proof.seq)
