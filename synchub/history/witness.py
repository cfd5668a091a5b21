"""How far histories were, written beside the archive: for the day on which all processes end with the store.

The archive follows some seconds behind. This file follows within about one, and is
synced, so it knows more than a store that has lost its last second to a power cut.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from synchub.history.model import Head

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE: Final = "heads.json"


def read(folder: Path) -> dict[str, Head]:
    """Return what is written down; nothing where there is no file, or none that can be read.

    Raises:
        OSError: the folder cannot be read.
    """
    try:
        told = orjson.loads((folder / _FILE).read_bytes())
        return {merchant: Head(epoch=str(epoch), seq=int(seq)) for merchant, (epoch, seq) in told.items()}
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, AttributeError):
        return {}


def write(folder: Path, heads: Mapping[str, Head]) -> None:
    """Write down what was seen, keeping what others have seen further on.

    Raises:
        OSError: the folder cannot be written.
    """
    known = read(folder)
    merged = {**known, **{merchant: _further(known.get(merchant), head) for merchant, head in heads.items()}}
    if merged == known:
        return
    folder.mkdir(parents=True, exist_ok=True)
    data = orjson.dumps({merchant: [head.epoch, head.seq] for merchant, head in merged.items()})
    handle, draft = tempfile.mkstemp(dir=folder, prefix=f".{_FILE}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(folder / _FILE)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise


def _further(known: Head | None, seen: Head) -> Head:
    return known if known and known.epoch == seen.epoch and known.seq > seen.seq else seen
