"""How a segment is written and read, and when one may be written. Pure.

A segment is a file of lines, each with a hash over itself and the line before: a
header, the entries, a footer. Its chain starts from the hash of the segment before,
so all segments are one chain.
"""

from __future__ import annotations

import hashlib
from itertools import takewhile
from typing import TYPE_CHECKING, Final

import orjson

from synchub.archive.model import Entry, Extent, Header, Log, Note, Segment
from synchub.kit.hash_chain import GENESIS, ChainBroken, canonical, follow, seal, unseal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FORM: Final = 1
"""Version of the files' form."""

_NOTE_SEPARATOR: Final = "|"


def entry_from(seq: int, flat: Sequence[bytes]) -> Entry:
    """Turn one entry of a stream, its fields as the store returns them, into its archived form."""
    texts = [part.decode(errors="backslashreplace") for part in flat]
    fields: dict[str, object] = dict(zip(texts[::2], texts[1::2], strict=True))
    digest = hashlib.sha1(b"\x1f".join(flat), usedforsecurity=False).hexdigest()
    return Entry(seq=seq, content=canonical({**fields, "seq": seq}), digest=digest)


def fields_of(entry: Entry) -> dict[str, str]:
    """Return the fields of an archived entry, without its sequence."""
    found: dict[str, str] = orjson.loads(entry.content)
    return {name: value for name, value in found.items() if name != "seq"}


def write_segment(header: Header, entries: Sequence[Entry]) -> tuple[bytes, str]:
    """Return a segment's bytes and its hash."""
    contents = [
        canonical(_document(header)),
        *(entry.content for entry in entries),
        canonical({"entries": len(entries), "last": header.last}),
    ]
    return write_lines(header.previous, contents)


def read_segment(data: bytes) -> Segment:
    """Read a segment and check everything in it that can be checked without the others.

    Raises:
        ChainBroken: it is not as it was written; line 1 is the header.
    """
    contents, own_hash = read_lines(data)
    header = _header(contents[0])
    entries = tuple(_entry(content, line) for line, content in enumerate(contents[1:-1], 2))
    _check_entries(header, entries)
    if contents[-1] != canonical({"entries": len(entries), "last": header.last}):
        raise ChainBroken(len(contents), "it is no footer of these entries")
    return Segment(header=header, entries=entries, hash=own_hash)


def read_header(line: bytes) -> Header:
    """Read a segment's first line alone.

    Raises:
        ChainBroken: it is not as it was written.
    """
    [(content, _)] = follow(_previous(line), [line])
    return _header(content)


def write_lines(previous: str, contents: Iterable[bytes]) -> tuple[bytes, str]:
    """Chain contents from a hash on; return the file and its last hash."""
    lines = []
    for content in contents:
        line, previous = seal(previous, content)
        lines.append(line + b"\n")
    return b"".join(lines), previous


def read_lines(data: bytes) -> tuple[list[bytes], str]:
    """Return the contents of a file whose first line says from which hash it goes on, and its last hash.

    Raises:
        ChainBroken: a line is not as it was written, or the file is cut off.
    """
    lines = data.split(b"\n")
    if lines.pop() or len(lines) < 2:  # noqa: PLR2004 - a header and a footer at least
        raise ChainBroken(len(lines) + 1, "the file ends before its last line does")
    followed = list(follow(_previous(lines[0]), lines))
    return [content for content, _ in followed], followed[-1][1]


def why_not_after(header: Header, before: Segment | None, *, merchant: str, log: Log) -> str:
    """Say why a segment cannot be the next one after another; empty when it can."""
    tip = before.header if before else None
    if (header.merchant, header.log) != (merchant, log):
        return f"it belongs to the {header.log} of {header.merchant}"
    if header.number != (tip.number if tip else 0) + 1:
        return f"it calls itself number {header.number}"
    if header.previous != (before.hash if before else GENESIS):
        return "it does not continue the segment before it"
    if header.after_epoch != (tip.epoch if tip else ""):
        return "it names another epoch before it than there is"
    end = tip.last if tip else 0
    # Decisions are numbered for the archive alone: losing the last of them begins no new epoch.
    may_go_back = log is Log.DECISIONS or not tip or header.epoch != tip.epoch
    if header.after > end or (header.after < end and not may_go_back):
        return f"it says that it follows sequence {header.after}, and the one before ends at {end}"
    return ""


def run_of(entries: Sequence[Entry], limit: int) -> list[Entry]:
    """Return the entries from the first one up to the first hole, at most ``limit``."""
    first = entries[0].seq if entries else 0
    run = takewhile(lambda pair: pair[1].seq == first + pair[0], enumerate(entries[:limit]))
    return [entry for _, entry in run]


def is_due(extent: Extent, *, waited_ms: int, wait_ms: int, segment_max: int) -> bool:
    """Say whether a segment is to be written now."""
    return extent.unarchived >= segment_max or (extent.unarchived > 0 and waited_ms >= wait_ms)


def last_common(archived: Iterable[Entry], stored: Iterable[Entry]) -> int | None:
    """Return the highest sequence at which both have the same entry; None when there is none."""
    ours = {entry.seq: entry.content for entry in archived}
    return max((entry.seq for entry in stored if ours.get(entry.seq) == entry.content), default=None)


def lineage(headers: Sequence[Header]) -> list[int]:
    """Return for each segment up to which sequence its entries still count at the end of them all.

    A segment that goes back to an earlier sequence gives up what was archived after it.
    """
    bounds: list[int] = []
    bound: float = float("inf")
    for header in reversed(headers):
        bounds.append(int(min(bound, header.last)))
        bound = min(bound, header.after)
    return bounds[::-1]


def note_of(segment: Segment) -> Note:
    """Return what the store is to remember of a segment."""
    header = segment.header
    return Note(number=header.number, epoch=header.epoch, seq=header.last, hash=segment.hash)


def write_note(note: Note) -> str:
    """Return the note's stored text."""
    return _NOTE_SEPARATOR.join([str(note.number), note.epoch, str(note.seq), note.hash])


def read_note(text: bytes | None) -> Note | None:
    """Read a stored note; one that is none, which somebody else has written, is as good as no note."""
    try:
        number, epoch, seq, own_hash = (text or b"").decode().split(_NOTE_SEPARATOR)
        return Note(number=int(number), epoch=epoch, seq=int(seq), hash=own_hash)
    except ValueError:
        return None


def _document(header: Header) -> dict[str, object]:
    return {
        "form": FORM,
        "log": header.log.value,
        "merchant": header.merchant,
        "number": header.number,
        "epoch": header.epoch,
        "after_epoch": header.after_epoch,
        "after": header.after,
        "first": header.first,
        "last": header.last,
        "previous": header.previous,
        "written_at_ms": header.written_at_ms,
    }


def _header(content: bytes) -> Header:
    try:
        told = orjson.loads(content)
        form = told.pop("form")
        header = Header(**{**told, "log": Log(told["log"])})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ChainBroken(1, "it is no header of a segment") from None
    if form != FORM:
        raise ChainBroken(1, f"it has form {form}, which this version of the hub cannot read")
    return header


def _entry(content: bytes, line: int) -> Entry:
    try:
        return Entry(seq=int(orjson.loads(content)["seq"]), content=content)
    except (ValueError, KeyError, TypeError):
        raise ChainBroken(line, "it is no entry") from None


def _check_entries(header: Header, entries: Sequence[Entry]) -> None:
    for position, entry in enumerate(entries):
        if entry.seq != header.first + position:
            raise ChainBroken(position + 2, f"sequence {header.first + position} is not there")
    if not entries or entries[-1].seq != header.last:
        raise ChainBroken(len(entries) + 2, f"the header promises entries up to {header.last}")


def _previous(line: bytes) -> str:
    try:
        return str(orjson.loads(unseal(line)[0])["previous"])
    except (ValueError, KeyError, TypeError):
        raise ChainBroken(1, "it is no first line") from None
