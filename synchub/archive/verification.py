"""A walk over one log's whole archive that believes nothing. Blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.archive import checkpoints, rules
from synchub.archive.folder import Folder, checkpoints_of, segments_of
from synchub.archive.model import Finding, Log, Note, Segment
from synchub.kit.hash_chain import GENESIS, ChainBroken
from synchub.ledger.rules import State, entry_of, fold_one

if TYPE_CHECKING:
    from pathlib import Path

    from synchub.archive.model import Header

_FIRST_ENTRY: Final = 2
"""The line of a segment's first entry."""


def verify(root: Path, merchant: str, log: Log, note: Note | None) -> Finding:
    """Check every line, every join and every checkpoint, up to the first that is broken.

    With the store's ``note`` also that nothing was taken off the end.
    """
    walk = _Walk(root, merchant, log)
    broken = walk.run(note)
    tip = walk.before
    return Finding(
        merchant=merchant,
        log=log,
        segments=tip.header.number if tip else 0,
        entries=walk.entries,
        epoch=tip.header.epoch if tip else "",
        seq=tip.header.last if tip else 0,
        hash=tip.hash if tip else GENESIS,
        missing=walk.missing,
        checkpoints=walk.checkpoints,
        broken=f"{merchant}, {log.value}: {broken}" if broken else "",
    )


class _Walk:
    def __init__(self, root: Path, merchant: str, log: Log) -> None:
        self.before: Segment | None = None
        self.entries = self.missing = self.checkpoints = 0
        self._merchant = merchant
        self._log = log
        self._segments: Folder = segments_of(root, merchant, log)
        self._checkpoints: Folder = checkpoints_of(root, merchant)
        self._headers: list[Header] = []
        self._epochs: set[str] = set()
        self._state: State = {}
        self._last_checkpoint = GENESIS

    def run(self, note: Note | None) -> str:
        numbers = self._segments.numbers()
        due = set(self._checkpoints.numbers()) if self._log is Log.LEDGER else set()
        for number in range(1, (numbers[-1] if numbers else 0) + 1):
            if broken := self._segment(number, note):
                return f"segment {number}: {broken}"
            if number in due and (broken := self._checkpoint(number)):
                return f"checkpoint {number}: {broken}"
        beyond = {number for number in due if number > len(self._headers)}
        if beyond:
            return f"checkpoint {min(beyond)}: there is no segment of that number"
        if note and note.number > len(self._headers):
            return f"segment {len(self._headers) + 1}: it is not there, and the store knows of {note.number}"
        return ""

    def _segment(self, number: int, note: Note | None) -> str:
        try:
            segment = self._segments.segment(number)
        except FileNotFoundError:
            return "it is not there"
        except ChainBroken as problem:
            return self._place(number, problem)
        header = segment.header
        reason = rules.why_not_after(header, self.before, merchant=self._merchant, log=self._log)
        if reason:
            return reason
        if self._is_taken_up_again(header):
            return "it takes up an epoch that had been given up"
        if note and note.number == number and note.hash != segment.hash:
            return "it is not the one that the store knows of"
        self._take(segment)
        return ""

    def _is_taken_up_again(self, header: Header) -> bool:
        present = self.before.header.epoch if self.before else None
        return header.epoch != present and header.epoch in self._epochs

    def _take(self, segment: Segment) -> None:
        header = segment.header
        end = self.before.header.last if self.before else 0
        self.before = segment
        self._headers.append(header)
        self._epochs.add(header.epoch)
        self.entries += len(segment.entries)
        self.missing += header.missing
        if self._log is not Log.LEDGER:
            return
        if header.after < end:
            # It goes back: what had been folded since is none of this history.
            self._state = {}
            for entry in checkpoints.entries(self._segments, self._headers):
                fold_one(self._state, entry)
            return
        for one in segment.entries:
            fold_one(self._state, entry_of(one.seq, rules.fields_of(one)))

    def _checkpoint(self, number: int) -> str:
        try:
            found = checkpoints.read(self._checkpoints.read(number))
        except ChainBroken as problem:
            return str(problem)
        assert self.before is not None  # noqa: S101 - a segment of this number was just taken
        tip = self.before.header
        expected = (number, self.before.hash, self._last_checkpoint, tip.epoch, tip.last)
        told = (found.number, found.segment_hash, found.previous, found.epoch, found.seq)
        if told != expected:
            return "it does not belong to this segment and the checkpoint before it"
        if checkpoints.state_lines(found.state) != checkpoints.state_lines(self._state):
            return "it is not what the entries up to there add up to"
        self._last_checkpoint = found.hash
        self.checkpoints += 1
        return ""

    def _place(self, number: int, problem: ChainBroken) -> str:
        """Name the entry where one can be told."""
        try:
            header = self._segments.header(number)
        except ChainBroken:
            return str(problem)
        sequence = header.first + problem.line - _FIRST_ENTRY
        if not header.first <= sequence <= header.last:
            return str(problem)
        return f"line {problem.line}, the entry of sequence {sequence}: {problem.why}"
