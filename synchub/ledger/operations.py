"""What can be done with a ledger: read it. Nothing but the apply scripts writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.ledger import store
from synchub.ledger.model import NO_SEQUENCE, LedgerPage

if TYPE_CHECKING:
    from synchub.keyspace import MerchantKeys
    from synchub.ledger.model import LedgerEntry
    from synchub.lua import Executes

PAGE_MAX: Final = 1000
"""Most entries in one page."""

SCANNED_MAX: Final = 10_000
"""Most entries looked at for one page of one SKU; the next page goes on from there."""


async def read(
    redis: Executes, keys: MerchantKeys, *, after: int = NO_SEQUENCE, limit: int = 100, sku: str | None = None
) -> LedgerPage:
    """Return entries after a sequence, in order, of one SKU or of all.

    What was trimmed is in the archive: a page that begins after ``oldest`` does not
    continue where the caller was. With a SKU a page may be empty although there is a
    next one.
    """
    epoch, head, oldest = await store.read_ends(redis, keys)
    found: list[LedgerEntry] = []
    position, limit = after, min(limit, PAGE_MAX)
    is_end = False
    scanned = 0
    while len(found) < limit and scanned < SCANNED_MAX and not is_end:
        asked = PAGE_MAX if sku is not None else limit
        entries = await store.read_after(redis, keys, position, limit=asked)
        is_end = len(entries) < asked
        scanned += len(entries)
        for entry in entries:
            position = entry.seq
            if sku is None or entry.sku == sku:
                found.append(entry)
            if len(found) == limit:
                is_end = is_end and entry is entries[-1]
                break
    return LedgerPage(
        epoch=epoch,
        head=head,
        oldest=oldest,
        entries=tuple(found),
        next_after=None if is_end else position,
    )
