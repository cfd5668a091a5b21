"""The archive's own loop: every worker looks, and a lease decides which of them writes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from synchub import metrics
from synchub.archive.model import Log, Outcome, Turn
from synchub.archive.operations import Archivist
from synchub.ingress.consumer import TROUBLE
from synchub.kit.hash_chain import ChainBroken
from synchub.kit.tasks import is_ending
from synchub.logs import get_logger
from synchub.redis import CoalescingRedis

if TYPE_CHECKING:
    from synchub.archive.model import Extent
    from synchub.hub import Hub

_log = get_logger()


class ArchiveLoop:
    """Archives every merchant's logs, one segment of each at a time, so that none waits for another."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        # A page of entries is large: it must not stand before the hot path's commands.
        self._redis = CoalescingRedis(hub.settings.redis)
        self._archivist = Archivist(self._redis, hub.settings)
        self._complaints: dict[tuple[str, Log], str] = {}

    async def run(self) -> None:
        """Archive until cancelled."""
        try:
            while not is_ending():
                await self._write_down()
                if not await self.look():
                    await asyncio.sleep(self._hub.settings.archive.every_ms / 1000)
        finally:
            await self._redis.close()

    async def look(self) -> bool:
        """Give each log of each merchant one turn; returns whether somewhere more waits already."""
        directory = self._hub.directory
        merchants = {one.merchant for one in directory.accounts()}
        merchants |= {one.merchant for one in directory.agents() if one.merchant}
        unarchived = archived = 0
        is_more = False
        for merchant in sorted(merchants):
            try:
                extents = await self._archivist.extents(merchant)
                turns = [await self._turn(merchant, log, extents[log]) for log in Log]
                if Outcome.WRITTEN in {turn.outcome for turn in turns}:
                    extents = await self._archivist.extents(merchant)
                await self._drop_excess(merchant, extents[Log.LEDGER])
            except TROUBLE as trouble:
                self._complain(merchant, Log.LEDGER, _words(trouble))
                continue
            is_more |= any(turn.is_full for turn in turns)
            unarchived += extents[Log.LEDGER].unarchived
            archived += extents[Log.LEDGER].archived
        metrics.ledger_unarchived.set(unarchived)
        metrics.archived_seq.set(archived)
        return is_more

    async def _write_down(self) -> None:
        try:
            await self._hub.history.write_down()
        except OSError as trouble:
            self._complain("", Log.LEDGER, _words(trouble))

    async def _turn(self, merchant: str, log: Log, extent: Extent) -> Turn:
        """Take one turn; whatever hinders it is said once, and the next log has its turn all the same."""
        try:
            turn = await self._archivist.turn(merchant, log, extent)
            if turn.outcome is Outcome.WRITTEN and log is Log.LEDGER:
                await self._archivist.write_checkpoint(merchant)
        except (ChainBroken, *TROUBLE) as trouble:
            turn = Turn(outcome=Outcome.REFUSED, reason=_words(trouble))
        if turn.outcome is Outcome.REFUSED:
            self._complain(merchant, log, turn.reason)
        elif turn.outcome is Outcome.WRITTEN:
            self._is_well(merchant, log)
        return turn

    async def _drop_excess(self, merchant: str, extent: Extent) -> None:
        dropped = await self._archivist.drop_excess(merchant, extent)
        if dropped:
            _log.error("archive_entries_dropped", merchant=merchant, entries=dropped)

    def _complain(self, merchant: str, log: Log, reason: str) -> None:
        metrics.archive_failures.inc()
        if self._complaints.get((merchant, log)) != reason:
            _log.error("archive_interrupted", merchant=merchant, log=log.value, reason=reason)
        self._complaints[merchant, log] = reason

    def _is_well(self, merchant: str, log: Log) -> None:
        if self._complaints.pop((merchant, log), None):
            _log.info("archive_resumed", merchant=merchant, log=log.value)


def _words(trouble: BaseException) -> str:
    return f"{type(trouble).__name__}: {trouble}"
