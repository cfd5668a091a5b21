"""Entries of the archive in their order, for somebody who looks something up. Blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from synchub.archive import rules
from synchub.archive.folder import segments_of
from synchub.archive.model import Log
from synchub.ledger.rules import entry_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from synchub.archive.model import Entry, Header
    from synchub.ledger.model import LedgerEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries are asked for."""

    merchant: str
    log: Log
    sku: str | None = None
    first: int = 0
    last: int | None = None

    def covers(self, seq: int) -> bool:
        """Say whether an entry of this sequence is asked for."""
        return self.first <= seq and (self.last is None or seq <= self.last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One entry that was found."""

    epoch: str
    seq: int
    is_archived: bool
    fields: dict[str, str]


def read_archived(root: Path, wanted: Wanted) -> Iterator[Shown]:
    """Yield what the archive has, checked as it is read; also what a later segment has gone back behind.

    Raises:
        ChainBroken, FileNotFoundError: at the first segment that is damaged or missing.
    """
    folder = segments_of(root, wanted.merchant, wanted.log)
    for number in folder.numbers():
        header = folder.header(number)
        if header.last < wanted.first or (wanted.last is not None and header.first > wanted.last):
            continue
        yield from pick(folder.segment(number).entries, header.epoch, wanted, is_archived=True)


def read_branches(root: Path, merchant: str, branch: int | None) -> Iterator[tuple[LedgerEntry, bool]]:
    """Yield every archived entry of a ledger, and whether it belongs to a history that was given up.

    ``branch`` is the sequence at which the store has left the last archived history; None: it has not.

    Raises:
        ChainBroken, FileNotFoundError: at the first segment that is damaged or missing.
    """
    folder = segments_of(root, merchant, Log.LEDGER)
    found = [folder.header(number) for number in folder.numbers()]
    for header, bound in zip(found, rules.lineage(found), strict=True):
        upto = bound if branch is None else min(bound, branch)
        for entry in folder.segment(header.number).entries:
            yield entry_of(entry.seq, rules.fields_of(entry)), entry.seq > upto


def pick(
    entries: tuple[Entry, ...] | list[Entry], epoch: str, wanted: Wanted, *, is_archived: bool
) -> Iterator[Shown]:
    """Yield those of the entries that are asked for."""
    for entry in entries:
        fields = rules.fields_of(entry)
        if wanted.covers(entry.seq) and wanted.sku in {None, fields.get("sku")}:
            yield Shown(epoch=epoch, seq=entry.seq, is_archived=is_archived, fields=fields)


def end_of(root: Path, wanted: Wanted) -> Header | None:
    """Return the header of the last archived segment."""
    tip = segments_of(root, wanted.merchant, wanted.log).tip()
    return tip.header if tip else None
