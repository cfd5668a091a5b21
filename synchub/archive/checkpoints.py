"""States folded from the ledger, written beside its segments. Everything here blocks.

A checkpoint saves reading from the first entry on, and is nothing to be believed: it
can be computed again from the segments, and equals what is computed byte for byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from synchub.archive import rules
from synchub.archive.folder import checkpoints_of, headers, segments_of
from synchub.archive.model import Checkpoint, Log
from synchub.kit.hash_chain import GENESIS, ChainBroken, canonical
from synchub.ledger.rules import entry_of, fold_one

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from synchub.archive.folder import Folder
    from synchub.archive.model import Header
    from synchub.ledger.model import LedgerEntry


def write_at(root: Path, merchant: str, number: int) -> bool:
    """Write the checkpoint at the end of a segment unless there is one.

    Raises:
        OSError: the folder cannot be written.
        ChainBroken: a segment or checkpoint is not as it was written.
    """
    folder = checkpoints_of(root, merchant)
    if folder.has(number):
        return False
    return folder.add(number, write(merchant, build(root, merchant, number))[0])


def build(root: Path, merchant: str, number: int) -> Checkpoint:
    """Fold everything up to the end of segment ``number``, from the last checkpoint that still counts."""
    segments, folder = segments_of(root, merchant, Log.LEDGER), checkpoints_of(root, merchant)
    earlier = [found for found in folder.numbers() if found < number]
    base, following = _base(segments, folder, earlier, number)
    state = dict(base.state) if base else {}
    for entry in entries(segments, following):
        fold_one(state, entry)
    last = segments.segment(number)
    return Checkpoint(
        number=number,
        epoch=last.header.epoch,
        seq=last.header.last,
        segment_hash=last.hash,
        previous=read(folder.read(earlier[-1])).hash if earlier else GENESIS,
        state=state,
        hash="",
    )


def entries(segments: Folder, following: list[Header]) -> Iterator[LedgerEntry]:
    """Yield the entries of these segments that still count at the end of the last one."""
    for header, bound in zip(following, rules.lineage(following), strict=True):
        if bound >= header.first:
            for entry in segments.segment(header.number).entries:
                if entry.seq <= bound:
                    yield entry_of(entry.seq, rules.fields_of(entry))


def write(merchant: str, checkpoint: Checkpoint) -> tuple[bytes, str]:
    """Return a checkpoint's bytes and its hash; equal states give equal bytes."""
    header = {
        "form": rules.FORM,
        "checkpoint": checkpoint.number,
        "merchant": merchant,
        "epoch": checkpoint.epoch,
        "seq": checkpoint.seq,
        "segment": checkpoint.segment_hash,
        "previous": checkpoint.previous,
    }
    return rules.write_lines(
        checkpoint.previous, [canonical(header), *state_lines(checkpoint.state), _footer(checkpoint.state)]
    )


def state_lines(state: Mapping[tuple[str, ...], str]) -> list[bytes]:
    """Return the one text of a state: a line for each thing, in the order of their names."""
    return [canonical({"key": list(key), "value": state[key]}) for key in sorted(state)]


def read(data: bytes) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ChainBroken: it is not as it was written.
    """
    contents, own_hash = rules.read_lines(data)
    try:
        header = orjson.loads(contents[0])
        things = [orjson.loads(content) for content in contents[1:-1]]
        checkpoint = Checkpoint(
            number=int(header["checkpoint"]),
            epoch=header["epoch"],
            seq=int(header["seq"]),
            segment_hash=header["segment"],
            previous=header["previous"],
            state={tuple(thing["key"]): thing["value"] for thing in things},
            hash=own_hash,
        )
    except (ValueError, KeyError, TypeError):
        raise ChainBroken(1, "it is no checkpoint") from None
    if contents[-1] != _footer(checkpoint.state):
        raise ChainBroken(len(contents), "it does not hold as many things as it says")
    return checkpoint


def _base(
    segments: Folder, folder: Folder, earlier: list[int], number: int
) -> tuple[Checkpoint | None, list[Header]]:
    """Return the newest earlier checkpoint that no later segment has gone back behind, and what follows."""
    following: list[Header] = []
    upto = number
    for candidate in reversed(earlier):
        following = headers(segments, candidate + 1, upto) + following
        upto = candidate
        checkpoint = read(folder.read(candidate))
        if all(header.after >= checkpoint.seq for header in following):
            return checkpoint, following
    return None, headers(segments, 1, upto) + following


def _footer(state: Mapping[tuple[str, ...], str]) -> bytes:
    return canonical({"things": len(state)})
