"""What can be done with the archive: write to it, check it, read it, ask how far it reaches.

Nothing is trimmed from the store before a segment with it lies synced in the
folder. A crash anywhere leaves a chain that the next turn continues: a draft means
nothing, and a segment that the store has not been told of is found and told of.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.archive import checkpoints, rules, store
from synchub.archive.folder import merchants_in, segments_of
from synchub.archive.model import Extent, Finding, Header, Log, Note, Outcome, Segment, Turn
from synchub.archive.showing import end_of, pick, read_archived
from synchub.archive.store import Archived
from synchub.archive.verification import verify as verify_log
from synchub.errors import Fault
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import monotonic_ms, now_ms
from synchub.kit.hash_chain import GENESIS, ChainBroken

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from synchub.archive.folder import Folder
    from synchub.archive.model import Entry
    from synchub.archive.showing import Shown, Wanted
    from synchub.lua import Executes
    from synchub.settings import Settings

LEASE_MS: Final = 10_000
"""Longer than any sync of a healthy disk; after a longer one the next turn finishes what this one began."""

_SHOWN_AT_ONCE: Final = 1000
_BEHIND: Final = "The store ends at {newest}, before the archive does ({seq}): it has lost its end."
_OTHER_FOLDER: Final = (
    "The store knows of segment {known} and the folder {folder} ends with {number}. Is it the right folder?"
    " If it is lost, let a new one begin: `synchub audit begin`."
)
_DIFFERS: Final = "The store's entry {seq} is not the archived one: it has lost its end and grown another."


class Archivist:
    """Writes the archive of every merchant, one segment per turn."""

    def __init__(self, redis: Executes, settings: Settings) -> None:
        self._redis = redis
        self._archive = settings.archive
        self._kept = {Log.LEDGER: settings.stock.ledger_max, Log.DECISIONS: 1}
        self._owner = secrets.token_hex(8)
        self._folders: dict[tuple[str, Log], Folder] = {}
        self._swept: set[tuple[str, Log]] = set()
        self._waiting_since_ms: dict[tuple[str, Log], int] = {}

    async def extents(self, merchant: str) -> dict[Log, Extent]:
        """Return how far the merchant's logs have come, and how far they are archived."""
        return await store.read_extents(self._redis, MerchantKeys(merchant))

    async def turn(self, merchant: str, log: Log, extent: Extent) -> Turn:
        """Archive at most one segment and trim what the store need not keep.

        Raises:
            OSError: the folder cannot be written; nothing was trimmed, but see ``archive.backlog_max``.
            OutcomeUnknown, StoreUnavailable: the next turn goes on from wherever this one came to.
        """
        if not self._is_due(merchant, log, extent):
            return Turn(outcome=Outcome.WAITING if extent.unarchived else Outcome.IDLE)
        keys = MerchantKeys(merchant)
        async with self._lease(keys) as held:
            if not held:
                return Turn(outcome=Outcome.BUSY)
            try:
                return await self._work(merchant, log)
            except (ChainBroken, FileNotFoundError) as problem:
                reason = f"The archive is damaged or incomplete: {problem}."
                return self._refused(merchant, log, reason)

    async def write_checkpoint(self, merchant: str) -> bool:
        """Write the checkpoint that is due, if one is.

        Raises:
            OSError: the folder cannot be written.
            ChainBroken: a segment or checkpoint is not as it was written.
        """
        tip = await asyncio.to_thread(self._folder(merchant, Log.LEDGER).tip)
        every = self._archive.checkpoint_every
        number = tip.header.number // every * every if tip else 0
        return number > 0 and await asyncio.to_thread(
            checkpoints.write_at, self._archive.folder, merchant, number
        )

    async def drop_excess(self, merchant: str, extent: Extent) -> int:
        """Give up the oldest entries when more wait than may; return how many went.

        Without the store there would be no hub at all, so it must not be filled up by
        an archive that cannot be written. The chain tells how many are missing.
        """
        most = self._archive.backlog_max
        if extent.unarchived <= most:
            return 0
        first_kept = extent.newest - most + 1
        dropped = await store.drop_before(self._redis, MerchantKeys(merchant), Log.LEDGER, first_kept)
        metrics.archive_dropped.inc(dropped)
        return dropped

    def _is_due(self, merchant: str, log: Log, extent: Extent) -> bool:
        if not extent.unarchived:
            self._waiting_since_ms.pop((merchant, log), None)
            return False
        since_ms = self._waiting_since_ms.setdefault((merchant, log), monotonic_ms())
        return rules.is_due(
            extent,
            waited_ms=monotonic_ms() - since_ms,
            wait_ms=self._archive.wait_ms,
            segment_max=self._archive.segment_max,
        )

    async def _work(self, merchant: str, log: Log) -> Turn:
        # Read again: another worker may just have done it.
        extent = (await self.extents(merchant))[log]
        folder = self._folder(merchant, log)
        if (merchant, log) not in self._swept:
            await asyncio.to_thread(folder.sweep)
            self._swept.add((merchant, log))
        tip = await asyncio.to_thread(folder.tip)
        if reason := await self._disagreement(folder, tip, extent):
            return self._refused(merchant, log, reason)
        if tip and tip.header.epoch == extent.epoch:
            return await self._go_on(merchant, log, tip, extent)
        after = await self._branch(merchant, log, tip, extent) if tip else 0
        return await self._write(merchant, log, tip, extent, after=after)

    async def _go_on(self, merchant: str, log: Log, tip: Segment, extent: Extent) -> Turn:
        """Continue the history that the last segment belongs to, if it is still the same."""
        keys, seq = MerchantKeys(merchant), tip.header.last
        stored = await store.read_range(self._redis, keys, log, first=seq, last=seq, limit=1)
        reason = ""
        if extent.newest < seq:
            reason = _BEHIND.format(newest=extent.newest, seq=seq)
        elif stored and stored[0].content != tip.entries[-1].content:
            reason = _DIFFERS.format(seq=seq)
        if reason and log is Log.DECISIONS:
            after = await self._branch(merchant, log, tip, extent)
            return await self._write(merchant, log, tip, extent, after=after)
        if reason:
            return self._refused(merchant, log, reason)
        if extent.note != rules.note_of(tip):
            # A crash came between the segment and the note; without an entry there is nothing to trim.
            digest = stored[0].digest if stored else ""
            await self._note(keys, log, rules.note_of(tip), digest)
        return await self._write(merchant, log, tip, extent, after=seq)

    async def _write(
        self, merchant: str, log: Log, tip: Segment | None, extent: Extent, *, after: int
    ) -> Turn:
        keys, limit = MerchantKeys(merchant), self._archive.segment_max
        page = await store.read_range(self._redis, keys, log, first=after + 1, limit=limit)
        run = rules.run_of(page, limit)
        if not run:
            self._waiting_since_ms.pop((merchant, log), None)
            return Turn(outcome=Outcome.IDLE)
        header = Header(
            log=log,
            merchant=merchant,
            number=tip.header.number + 1 if tip else 1,
            epoch=extent.epoch,
            after_epoch=tip.header.epoch if tip else "",
            after=after,
            first=run[0].seq,
            last=run[-1].seq,
            previous=tip.hash if tip else GENESIS,
            written_at_ms=now_ms(),
        )
        data, own_hash = await asyncio.to_thread(rules.write_segment, header, run)
        if not await asyncio.to_thread(self._folder(merchant, log).add, header.number, data):
            return Turn(outcome=Outcome.BUSY)
        metrics.archive_segments.labels(log.value).inc()
        metrics.archive_last_written.set_to_current_time()
        note = Note(number=header.number, epoch=header.epoch, seq=header.last, hash=own_hash)
        await self._note(keys, log, note, run[-1].digest)
        self._waiting_since_ms.pop((merchant, log), None)
        is_full = len(page) == limit or len(run) < len(page)
        return Turn(outcome=Outcome.WRITTEN, entries=len(run), is_full=is_full)

    async def _note(self, keys: MerchantKeys, log: Log, note: Note, digest: str) -> None:
        """Tell the store; when something came between, the next turn looks at everything again."""
        archived = Archived(note=note, digest=digest, kept=self._kept[log])
        await store.note(self._redis, keys, log, archived, owner=self._owner)

    async def _branch(self, merchant: str, log: Log, tip: Segment, extent: Extent) -> int:
        """Find where a history of another epoch left the archived one: the last entry that both have."""
        folder, bound = self._folder(merchant, log), tip.header.last
        for number in range(tip.header.number, 0, -1):
            segment = await asyncio.to_thread(folder.segment, number)
            if segment.header.first <= extent.newest:
                common = await self._common(merchant, log, segment, bound)
                if common is not None:
                    return common
            if segment.header.first <= extent.oldest:
                break
            bound = min(bound, segment.header.after)
        # Nothing in the store is archived; what came before it was trimmed and therefore is.
        return min(max(0, extent.oldest - 1), tip.header.last)

    async def _common(self, merchant: str, log: Log, segment: Segment, bound: int) -> int | None:
        entries: list[Entry] = [entry for entry in segment.entries if entry.seq <= bound]
        if not entries:
            return None
        stored = await store.read_range(
            self._redis,
            MerchantKeys(merchant),
            log,
            first=entries[0].seq,
            last=entries[-1].seq,
            limit=len(entries),
        )
        return rules.last_common(entries, stored)

    async def _disagreement(self, folder: Folder, tip: Segment | None, extent: Extent) -> str:
        """Say why this folder cannot be the one that the store knows of; empty when it can."""
        note = extent.note
        if note is None:
            return ""
        if tip is None or tip.header.number < note.number:
            return _OTHER_FOLDER.format(
                known=note.number, folder=folder.path, number=tip.header.number if tip else 0
            )
        known = tip
        if tip.header.number > note.number:
            known = await asyncio.to_thread(folder.segment, note.number)
        if known.hash != note.hash:
            return f"Segment {note.number} in {folder.path} is another one than the store knows of."
        if note.epoch == extent.epoch != tip.header.epoch:
            return f"Another store, or a later state of this one, has gone on writing to {folder.path}."
        return ""

    def _refused(self, merchant: str, log: Log, reason: str) -> Turn:
        self._waiting_since_ms.pop((merchant, log), None)
        return Turn(outcome=Outcome.REFUSED, reason=f"{merchant}, {log.value}: {reason}")

    def _folder(self, merchant: str, log: Log) -> Folder:
        known = self._folders.get((merchant, log))
        if known is None:
            known = self._folders[merchant, log] = segments_of(self._archive.folder, merchant, log)
        return known

    @asynccontextmanager
    async def _lease(self, keys: MerchantKeys) -> AsyncIterator[bool]:
        if not await store.take_lease(self._redis, keys, owner=self._owner, ttl_ms=LEASE_MS):
            yield False
            return
        try:
            yield True
        finally:
            with suppress(Fault):  # it ends by itself
                await store.take_lease(self._redis, keys, owner=self._owner, ttl_ms=0)


async def highest_archived(folder: Path, merchant: str) -> tuple[str, int] | None:
    """Return epoch and sequence up to which the ledger lies in the folder; None when nothing does.

    Needs no store: whoever has to judge a store that has come back asks here.

    Raises:
        ChainBroken: the last segment is not as it was written.
    """
    tip = await asyncio.to_thread(segments_of(folder, merchant, Log.LEDGER).tip)
    return (tip.header.epoch, tip.header.last) if tip else None


async def list_merchants(folder: Path) -> list[str]:
    """Return the merchants that have an archive in the folder."""
    return await asyncio.to_thread(merchants_in, folder)


async def verify(folder: Path, merchant: str, notes: dict[Log, Note | None]) -> list[Finding]:
    """Check all that is archived of a merchant, against the store's notes where there are any."""
    return [await asyncio.to_thread(verify_log, folder, merchant, log, notes.get(log)) for log in Log]


async def read_notes(redis: Executes, merchant: str) -> dict[Log, Note | None]:
    """Return what the store knows of the archive.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store did not answer.
    """
    extents = await store.read_extents(redis, MerchantKeys(merchant))
    return {log: extent.note for log, extent in extents.items()}


async def count_unarchived(redis: Executes, merchant: str) -> int:
    """Return how many ledger entries lie only in the store.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store did not answer.
    """
    return (await store.read_extents(redis, MerchantKeys(merchant)))[Log.LEDGER].unarchived


async def begin(redis: Executes, folder: Path, merchant: str) -> bool:
    """Let a merchant's archive begin anew in an empty folder; false when there is one already.

    For the day on which the folder is lost. The chain begins with what the store still has.
    """
    for log in Log:
        if await asyncio.to_thread(segments_of(folder, merchant, log).tip):
            return False
    await store.forget(redis, MerchantKeys(merchant))
    return True


async def show(redis: Executes | None, folder: Path, wanted: Wanted) -> AsyncGenerator[Shown, None]:
    """Yield the entries that are asked for: first what is archived, then what only the store has.

    Without a store only the former. Each segment is checked as it is read.

    Raises:
        ChainBroken, FileNotFoundError: the archive is damaged; ``verify`` says where.
        OutcomeUnknown, StoreUnavailable: the store did not answer.
    """
    archived = read_archived(folder, wanted)
    while part := await asyncio.to_thread(lambda: list(islice(archived, _SHOWN_AT_ONCE))):
        for one in part:
            yield one
    if redis is None:
        return
    keys = MerchantKeys(wanted.merchant)
    extent = (await store.read_extents(redis, keys))[wanted.log]
    end = await asyncio.to_thread(end_of, folder, wanted)
    position = end.last if end and end.epoch == extent.epoch else 0
    position = max(position, wanted.first - 1)
    while page := await store.read_range(
        redis, keys, wanted.log, first=position + 1, last=wanted.last, limit=_SHOWN_AT_ONCE
    ):
        for one in pick(page, extent.epoch, wanted, is_archived=False):
            yield one
        position = page[-1].seq
