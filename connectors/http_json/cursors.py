"""Where reading an endpoint stands: one small JSON object, opaque to everybody else.

It remembers of which address and kind it is. When the merchant changes these, an old cursor
means nothing any more and is refused, so that polling begins anew.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from synchub.errors import CursorRefused, UpstreamFailed

if TYPE_CHECKING:
    from connectors.http_json.settings import EndpointSettings

CHARS_MAX: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A position; the empty one is the beginning of everything."""

    start: str = ""
    """What ``cursor_param`` says: microseconds, a number or the endpoint's own token."""
    tie: str = ""
    """The id of the last row read at the time ``start``."""
    floor: str = ""
    """Where this round of pages began, in microseconds: the next one never begins before it."""
    reached: str = ""
    """The latest time or number seen in this round."""
    page: str = ""
    """The link, token or number of the next page of this round."""
    seen: str = ""
    """A digest of the rows of the page before."""
    after: str = ""
    """The last row that was handed on of an answer larger than a page, which is read again."""
    then: str = ""
    """The cursor after that answer, as it was when it was read first."""
    then_last: bool = False
    """Whether that cursor is the end of a round."""


def write_cursor(cursor: Cursor, settings: EndpointSettings) -> str:
    """Return the cursor as text; empty at the beginning of everything.

    Raises:
        UpstreamFailed: longer than a cursor may be, since the endpoint's tokens are.
    """
    kept = {one.name: value for one in fields(cursor) if (value := getattr(cursor, one.name))}
    if not kept:
        return ""
    text = json.dumps({"of": _whose(settings), **kept}, ensure_ascii=False, separators=(",", ":"))
    if len(text) > CHARS_MAX:
        msg = "The endpoint's tokens or links are too long to be kept."
        raise UpstreamFailed(msg)
    return text


def read_cursor(text: str, settings: EndpointSettings) -> Cursor:
    """Return the cursor that a text is.

    Raises:
        CursorRefused: none of ours, or of other settings.
    """
    if not text:
        return Cursor()
    cursor = _parsed(text, settings)
    if cursor is None:
        msg = "The position is none of this endpoint's, or its settings have changed since."
        raise CursorRefused(msg)
    return cursor


def _parsed(text: str, settings: EndpointSettings) -> Cursor | None:
    try:
        found = json.loads(text)
        is_ours = found.pop("of") == _whose(settings)
        cursor = Cursor(**found)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None
    fits = all(type(getattr(cursor, one.name)).__name__ == one.type for one in fields(cursor))
    return cursor if is_ours and fits and all(_numbers(cursor, settings)) else None


def _numbers(cursor: Cursor, settings: EndpointSettings) -> tuple[bool, ...]:
    """Say of each part that has to be a number, if it is there, whether it is one."""
    start = () if settings.kind == "opaque" else (cursor.start,)
    page = (cursor.page,) if settings.counts_pages else ()
    return tuple(not part or _is_number(part) for part in (*start, *page, cursor.floor, cursor.reached))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 20  # noqa: PLR2004 - as versions


def _whose(settings: EndpointSettings) -> str:
    named = f"{settings.kind} {settings.url}"
    return f"{settings.kind}:{hashlib.sha256(named.encode()).hexdigest()[:12]}"
