"""Where reading goes on after an answer: the four kinds of cursor. Pure.

A round is the pages from one beginning to their end. Within it the cursor is exact; at its end
it goes back by the overlap, because endpoints show changes late, but never before the round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NoReturn

from connectors.http_json.cursors import Cursor, read_cursor, write_cursor
from connectors.http_json.settings import CursorKind
from synchub.errors import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectors.http_json.answers import EndpointAnswer
    from connectors.http_json.mapping import Row, Rows
    from connectors.http_json.settings import EndpointSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one page brought, and where the next begins."""

    rows: tuple[Row, ...]
    cursor: Cursor
    is_last: bool


def turn(
    cursor: Cursor, answer: EndpointAnswer, settings: EndpointSettings, *, asked_us: int, rows_max: int | None
) -> Turn:
    """Return what the page at a cursor brought, ``asked_us`` being the clock before it was asked for.

    Of an answer with more rows than ``rows_max`` the first, by item and location: the same answer
    is asked for again for the others, and goes on as it said the first time.

    Raises:
        UpstreamFailed: the endpoint goes round in circles, or cannot be read to its end.
    """
    if rows_max is None or (len(answer.rows.usable) <= rows_max and not cursor.after):
        goes_on, is_last = _next(cursor, answer, settings, asked_us)
        return Turn(rows=answer.rows.usable, cursor=goes_on, is_last=is_last)
    then, then_last = _remembered(cursor, answer, settings, asked_us)
    rows = sorted(answer.rows.usable, key=lambda row: row.place)
    left = [row for row in rows if row.place > cursor.after]
    if len(left) <= rows_max:
        return Turn(rows=tuple(left), cursor=then, is_last=then_last)
    part = tuple(left[:rows_max])
    held = replace(cursor, after=part[-1].place, then=write_cursor(then, settings), then_last=then_last)
    return Turn(rows=part, cursor=held, is_last=False)


def _remembered(
    cursor: Cursor, answer: EndpointAnswer, settings: EndpointSettings, asked_us: int
) -> tuple[Cursor, bool]:
    if cursor.after:
        return read_cursor(cursor.then, settings), cursor.then_last
    return _next(cursor, answer, settings, asked_us)


def _next(
    cursor: Cursor, answer: EndpointAnswer, settings: EndpointSettings, asked_us: int
) -> tuple[Cursor, bool]:
    rows = answer.rows
    seen = replace(cursor, reached=_reached(cursor, rows), after="", then="", then_last=False)
    if answer.next_page:
        if answer.next_page == cursor.page:
            _fail("The endpoint's next page is the page itself.")
        return replace(seen, page=answer.next_page), False
    if settings.counts_pages and _may_be_full(rows, settings):
        if rows.digest == cursor.seen:
            _fail("The endpoint gives the same page again; page_param is not understood there.")
        number = int(cursor.page or settings.first_page) + 1
        return replace(seen, page=str(number), seen=rows.digest), False
    return _ENDS[settings.kind](seen, answer, settings, asked_us)


def _reached(cursor: Cursor, rows: Rows) -> str:
    """Return the latest time or number of this round; empty while there is none."""
    positions = [row.position for row in rows.usable if row.position is not None]
    if cursor.reached:
        positions.append(int(cursor.reached))
    return str(max(positions)) if positions else ""


def _may_be_full(rows: Rows, settings: EndpointSettings) -> bool:
    """Whether more may follow a page of so many rows."""
    return rows.count > 0 and rows.count >= settings.page_size


def _has_pages(settings: EndpointSettings) -> bool:
    return settings.counts_pages or "next_path" in settings.paths


def _end_of_sweep(
    _cursor: Cursor, _answer: EndpointAnswer, _settings: EndpointSettings, _asked_us: int
) -> tuple[Cursor, bool]:
    return Cursor(), True


def _end_of_token(
    cursor: Cursor, answer: EndpointAnswer, settings: EndpointSettings, _asked_us: int
) -> tuple[Cursor, bool]:
    """A token that moves on without an end of pages may have more behind it."""
    if not answer.token or answer.token == cursor.start:
        return Cursor(start=cursor.start), True
    return Cursor(start=answer.token), answer.rows.count == 0 or _has_pages(settings)


def _end_of_events(
    cursor: Cursor, answer: EndpointAnswer, settings: EndpointSettings, _asked_us: int
) -> tuple[Cursor, bool]:
    """Ask until nothing newer comes, unless the endpoint has pages or says how large one is."""
    begun, reached = int(cursor.start or 0), int(cursor.reached or 0)
    is_last = reached <= begun or not _may_be_full(answer.rows, settings) or _has_pages(settings)
    newest = max(begun, reached)
    return Cursor(start=str(newest) if newest else ""), is_last


def _end_of_times(
    cursor: Cursor, answer: EndpointAnswer, settings: EndpointSettings, asked_us: int
) -> tuple[Cursor, bool]:
    floor = cursor.floor or cursor.start
    if settings.page_size and not _has_pages(settings) and _may_be_full(answer.rows, settings):
        return _after_last_row(replace(cursor, floor=floor or "0"), answer.rows, settings), False
    if not cursor.reached:
        return Cursor(start=floor), True
    # A row from the future, of a clock that is wrong, must not hide what changes until then.
    newest = min(int(cursor.reached), asked_us)
    return Cursor(start=str(max(newest - settings.overlap_us, int(floor or 0)))), True


def _after_last_row(cursor: Cursor, rows: Rows, settings: EndpointSettings) -> Cursor:
    """Return where a full page without a link goes on: at the time and id of its last row."""
    times = [row.position or 0 for row in rows.usable]
    if times != sorted(times):
        _fail("The rows of a full page do not come oldest first, so nobody can tell where the next begins.")
    last = rows.usable[-1]
    tie = last.tie if settings.tie_param else ""
    if times[-1] < int(cursor.start or 0) or (str(times[-1]), tie) == (cursor.start, cursor.tie):
        _fail(
            "More rows have one and the same time than fit a page; set tie_param and id_path, or page_param."
        )
    return replace(cursor, start=str(times[-1]), tie=tie)


_ENDS: Final[
    dict[CursorKind, Callable[[Cursor, EndpointAnswer, EndpointSettings, int], tuple[Cursor, bool]]]
] = {
    CursorKind.SWEEP: _end_of_sweep,
    CursorKind.OPAQUE: _end_of_token,
    CursorKind.EVENT_ID: _end_of_events,
    CursorKind.UPDATED_SINCE: _end_of_times,
}


def _fail(sentence: str) -> NoReturn:
    raise UpstreamFailed(sentence)
