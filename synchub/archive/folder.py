"""The archive of one merchant on disk: files that appear whole or not at all, and never change.

A file is written under another name, synced, and only then given its own name by a
hard link, which fails when there is one already: of two processes that write the
same number, one wins and the other sees that it has lost. What a crash leaves
behind under the other name means nothing and is removed. Everything here blocks.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from synchub.archive import rules
from synchub.archive.model import Log, Segment
from synchub.keyspace import NAME

if TYPE_CHECKING:
    from synchub.archive.model import Header

CHECKPOINTS: Final = "checkpoints"

_FILE: Final = re.compile(r"(\d{12})\.jsonl")
_DRAFT: Final = ".draft"
_HEADER_MAX: Final = 4096
_ONLY_OURS: Final = 0o600
_FOLDER_MODE: Final = 0o700


def merchants_in(root: Path) -> list[str]:
    """Return the merchants that have an archive there."""
    if not root.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and NAME.fullmatch(entry.name))


class Folder:
    """Numbered files in one area of a merchant's archive: a log's segments, or the checkpoints."""

    def __init__(self, root: Path, merchant: str, area: str) -> None:
        self.path = root / merchant / area
        self._tip: Segment | None = None

    def numbers(self) -> list[int]:
        """Return the numbers of all files, in order."""
        if not self.path.is_dir():
            return []
        names = (_FILE.fullmatch(entry.name) for entry in os.scandir(self.path))
        return sorted(int(name[1]) for name in names if name)

    def has(self, number: int) -> bool:
        """Say whether there is such a file."""
        return self._file(number).exists()

    def read(self, number: int) -> bytes:
        """Return a file's bytes.

        Raises:
            FileNotFoundError: there is none of that number.
        """
        return self._file(number).read_bytes()

    def segment(self, number: int) -> Segment:
        """Read one segment.

        Raises:
            FileNotFoundError: there is none of that number.
            ChainBroken: it is not as it was written.
        """
        return rules.read_segment(self.read(number))

    def header(self, number: int) -> Header:
        """Read the first line of a segment alone.

        Raises:
            FileNotFoundError: there is none of that number.
            ChainBroken: it is not as it was written.
        """
        with self._file(number).open("rb") as file:
            return rules.read_header(file.readline(_HEADER_MAX).rstrip(b"\n"))

    def sweep(self) -> None:
        """Remove what crashes have left; only for the one that writes."""
        if self.path.is_dir():
            for entry in os.scandir(self.path):
                if entry.name.endswith(_DRAFT):
                    with suppress(FileNotFoundError):
                        Path(entry.path).unlink()

    def tip(self) -> Segment | None:
        """Return the last segment, of its entries only the last; None when there is none.

        Whatever is found here that this process has not written is synced, so that the
        store may be told of it.

        Raises:
            ChainBroken: it is not as it was written.
        """
        known = self._tip.header.number if self._tip else 0
        if not known or not self.has(known):
            known = max(self.numbers(), default=0)
        elif not self.has(known + 1):
            return self._tip
        while self.has(known + 1):
            known += 1
        if not known:
            self._tip = None
            return None
        _sync(self.path)
        found = self.segment(known)
        self._tip = Segment(header=found.header, entries=found.entries[-1:], hash=found.hash)
        return self._tip

    def add(self, number: int, data: bytes) -> bool:
        """Write a file for good; false when there is one of that number.

        It lies on the disk, whole and under its name, when this returns. A failure at
        any point leaves either nothing or the whole file.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        _make(self.path)
        draft = self.path / f"{number:012d}.{secrets.token_hex(4)}{_DRAFT}"
        try:
            _write(draft, data)
            os.link(draft, self._file(number))
        except (FileExistsError, FileNotFoundError):
            return False  # another process was quicker, or has the right by now and has removed the draft
        finally:
            with suppress(OSError):
                draft.unlink()
        _sync(self.path)
        return True

    def _file(self, number: int) -> Path:
        return self.path / f"{number:012d}.jsonl"


def headers(folder: Folder, first: int, last: int) -> list[Header]:
    """Return the headers of segments ``first`` to ``last``.

    Raises:
        FileNotFoundError, ChainBroken: one is missing, or not as it was written.
    """
    return [folder.header(number) for number in range(first, last + 1)]


def segments_of(root: Path, merchant: str, log: Log) -> Folder:
    """Return the folder of a log's segments."""
    return Folder(root, merchant, log.value)


def checkpoints_of(root: Path, merchant: str) -> Folder:
    """Return the folder of the ledger's checkpoints."""
    return Folder(root, merchant, CHECKPOINTS)


def _write(path: Path, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _ONLY_OURS)
    try:
        remaining = memoryview(data)
        while remaining:
            remaining = remaining[os.write(file, remaining) :]
        os.fsync(file)
    finally:
        os.close(file)


def _make(path: Path) -> None:
    """Create a folder that survives power loss, with those above it."""
    if path.is_dir():
        return
    _make(path.parent)
    path.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    _sync(path.parent)


def _sync(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
