"""A chain of hashes over lines of JSON: whoever has the last hash can tell whether any line was changed.

A line is a JSON object whose last member is ``hash``. Take that member out of the
line and what remains, byte for byte, is its content; the hash is SHA-256 over the
previous line's hash as 64 hexadecimal digits, a line feed, and the content. So a
checker never has to write JSON, only to cut: ``docs/archive.md`` has one in ten
lines, and an example with its hashes.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

GENESIS: Final = "0" * 64
"""What stands for the previous hash where there is none."""

_TAIL: Final = re.compile(rb',"hash":"([0-9a-f]{64})"\}')
_TAIL_BYTES: Final = 75


class ChainBroken(ValueError):
    """A line that is not as it was written; ``line`` counts from 1."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line
        self.why = why


def canonical(document: Mapping[str, object]) -> bytes:
    """Return the one text of a document: JSON in UTF-8, names in order, no spaces."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def hash_of(previous: str, content: bytes) -> str:
    """Return the hash of a content that follows the line with the hash ``previous``."""
    return hashlib.sha256(previous.encode() + b"\n" + content).hexdigest()


def seal(previous: str, content: bytes) -> tuple[bytes, str]:
    """Return the line of a content, without its line feed, and the line's hash."""
    own = hash_of(previous, content)
    return content[:-1] + b',"hash":"' + own.encode() + b'"}', own


def unseal(line: bytes) -> tuple[bytes, str]:
    """Return content and hash as the line tells them; whether they fit is for :func:`follow` to say.

    Raises:
        ValueError: the line does not end with a hash.
    """
    tail = _TAIL.fullmatch(line[-_TAIL_BYTES:])
    if tail is None:
        msg = "it does not end with a hash"
        raise ValueError(msg)
    return line[:-_TAIL_BYTES] + b"}", tail[1].decode()


def follow(previous: str, lines: Iterable[bytes]) -> Iterator[tuple[bytes, str]]:
    """Yield content and hash of line after line, each checked before it is yielded.

    Raises:
        ChainBroken: at the first line that is not what was written there.
    """
    for number, line in enumerate(lines, 1):
        try:
            content, told = unseal(line)
        except ValueError as problem:
            raise ChainBroken(number, str(problem)) from None
        if hash_of(previous, content) != told:
            raise ChainBroken(number, "it does not have the hash that is written in it")
        yield content, told
        previous = told
