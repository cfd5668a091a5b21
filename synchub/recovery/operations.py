"""What can be done when a store has lost more than its last moments: bring back what is archived.

The archive is believed only where its chain holds. What the store knows by now is left
as it is, so this can be done again, also after it was ended in the middle.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from synchub.archive import operations as archive
from synchub.archive.model import Log
from synchub.archive.showing import read_branches
from synchub.errors import InvalidRequest, NotFound
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import now_ms
from synchub.recovery import rules, store
from synchub.recovery.model import Books, Plan, Restored

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from synchub.archive.model import Finding
    from synchub.lua import Executes
    from synchub.settings import Settings


class Recovery:
    """One merchant's archive beside its store."""

    def __init__(self, redis: Executes, folder: Path, merchant: str, settings: Settings) -> None:
        self._redis = redis
        self._folder = folder
        self._keys = MerchantKeys(merchant)
        self._settings = settings
        self._finding: Finding | None = None
        self._books = Books()

    async def check(self) -> None:
        """Check every hash of the archive, before anything is done.

        Raises:
            NotFound: nothing is archived of this merchant.
            InvalidRequest: the archive is not as it was written; nothing of it is believed.
            OutcomeUnknown, StoreUnavailable: the store did not answer.
        """
        merchant = self._keys.merchant
        notes = await archive.read_notes(self._redis, merchant)
        found = await archive.verify(self._folder, merchant, notes)
        finding = next(one for one in found if one.log is Log.LEDGER)
        if finding.broken:
            msg = f"A broken archive restores nothing: {finding.broken}. Put a whole copy in its place."
            raise InvalidRequest(msg)
        if not finding.segments:
            msg = f"Nothing is archived of {merchant} in {self._folder}."
            raise NotFound(msg)
        self._finding = finding

    async def plan(self) -> Plan:
        """Read the archive, and say what the store has lost of it; checks it first.

        Raises:
            NotFound, InvalidRequest: as :meth:`check` says.
            ChainBroken, FileNotFoundError: it was changed since it was checked.
            OutcomeUnknown, StoreUnavailable: the store did not answer.
        """
        if self._finding is None:
            await self.check()
        assert self._finding is not None  # noqa: S101 - it was just checked
        self._books = await asyncio.to_thread(self._read, await self._branch(self._finding))
        return await self._planned(self._finding)

    async def apply(self, tell: Callable[[int, int], None]) -> Restored:
        """Bring back what :meth:`plan` has found; ``tell`` hears how many SKUs are done, of how many.

        Raises:
            OutcomeUnknown, StoreUnavailable: a part may be done; do it again.
            Frozen: the store's history is not proven yet.
        """
        assert self._finding is not None  # noqa: S101 - there is nothing to apply without a plan
        cause = f"restored:{self._finding.epoch}"
        portions = list(rules.portions(self._books))
        total, done, counted = sum(len(portion) for portion in portions), 0, [0, 0, 0, 0]
        numbers: dict[str, int] = {}
        for portion in portions:
            found = await store.recover(
                self._redis, self._keys, portion, cause=cause, now_ms=now_ms(), settings=self._settings
            )
            for told, (*counts, number) in zip(portion, found, strict=True):
                numbers[told["sku"]] = number
                counted = [before + more for before, more in zip(counted, counts, strict=True)]
            done += len(portion)
            tell(done, total)
        sales, sales_known, sources, sources_known = counted
        return Restored(
            sales=sales,
            sales_known=sales_known,
            sources=sources,
            sources_known=sources_known,
            differing=self._differing(numbers),
        )

    def _read(self, branch: int | None) -> Books:
        books = Books()
        for entry, is_lost in read_branches(self._folder, self._keys.merchant, branch):
            rules.take(books, entry, is_lost=is_lost)
        return books

    async def _branch(self, finding: Finding) -> int | None:
        """Return where the store's history leaves the archived one; None where it does not."""
        epoch = await store.read_epoch(self._redis, self._keys)
        return None if epoch == finding.epoch else await store.branch_of(self._redis, self._keys, epoch)

    async def _planned(self, finding: Finding) -> Plan:
        sales, sources = rules.lost_sales(self._books), rules.lost_sources(self._books)
        accounts = await store.accounts_known(self._redis, self._keys)
        return Plan(
            merchant=self._keys.merchant,
            epoch=finding.epoch,
            seq=finding.seq,
            entries=self._books.entries,
            lost=self._books.lost,
            sales=len(sales),
            units=sum(sale.open for sale in sales),
            sources=len(sources),
            skus=len({sale.sku for sale in sales} | {source.name[0] for source in sources}),
            holds=len({hold for _, hold, _ in self._books.holds}),
            unknown_accounts=tuple(sorted({source.name[1] for source in sources} - accounts)),
        )

    def _differing(self, numbers: dict[str, int]) -> tuple[tuple[str, int, int], ...]:
        """Compare with what the archive says last, and what was held then is free by now."""
        held: dict[str, int] = {}
        for (sku, _, _), units in self._books.holds.items():
            held[sku] = held.get(sku, 0) + units
        archived = {sku: self._books.numbers.get(sku, 0) + held.get(sku, 0) for sku in numbers}
        return tuple(
            (sku, archived[sku], one) for sku, one in sorted(numbers.items()) if one != archived[sku]
        )
