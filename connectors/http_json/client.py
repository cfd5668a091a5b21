"""Asks the endpoint: page by page for what has changed, or for single SKUs.

The surprising fact: how it is asked is not written here but in the account's settings, and
an answer that does not fit them is a failure, never "nothing in stock".
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from connectors.http_json.answers import EndpointAnswer, address, read_answer, with_query
from connectors.http_json.cursors import Cursor, read_cursor, write_cursor
from connectors.http_json.rounds import turn
from connectors.http_json.settings import CursorKind, EndpointSettings, ItemsJoin, read_settings
from synchub.connector_kit.contract import Page
from synchub.errors import CursorRefused, UpstreamFailed, UpstreamRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from connectors.http_json.mapping import Row
    from connectors.http_json.rounds import Turn
    from synchub.connector_kit.contract import Access
    from synchub.connector_kit.events import Level, StockEvent

PAGE_MAX: Final = 1000
"""As the manifest says; a larger answer is handed on in parts."""

PAGES_OF_ITEMS_MAX: Final = 10
"""Pages of the answer about some SKUs."""

PAGES_OF_SWEEP_MAX: Final = 20
"""Pages that are read for single SKUs where the endpoint cannot be asked for them."""

_UNKNOWN: Final = 404
_EXPIRED: Final = (400, 410)
"""What endpoints say of a token that they no longer know; without one it is a refusal."""

_GONE: Final = 410


class Client:
    """Calls on behalf of one account."""

    def __init__(self, access: Access) -> None:
        self._http = access.http
        self._credentials = access.credentials

    def cursor_at(self, time_ms: int) -> str:
        """Return where to begin to see what changed since; empty where only everything can be asked for."""
        try:
            settings = read_settings(self._credentials)
        except ValueError:
            return ""
        if settings.kind is not CursorKind.UPDATED_SINCE:
            return ""
        begin_us = max(0, time_ms * 1000 - settings.overlap_us)
        return write_cursor(Cursor(start=str(begin_us)), settings)

    async def fetch_page(self, cursor: str) -> Page:
        """Read the page that begins at a cursor.

        Raises:
            CursorRefused: no cursor of these settings, or a token that has expired.
            UpstreamThrottled, UpstreamRefused: as the endpoint answers; or settings that cannot work.
            UpstreamFailed: no answer, or one that does not fit the settings.
        """
        settings = self._settings()
        at = read_cursor(cursor, settings)
        turned, answer = await self._read(at, settings, rows_max=PAGE_MAX)
        return Page(
            records=tuple(row.record for row in turned.rows),
            cursor=write_cursor(turned.cursor, settings),
            is_last=turned.is_last,
            # Told once, with the first part of the answer.
            refused=() if at.after else answer.rows.refused,
        )

    async def fetch_levels(self, items: Sequence[str]) -> tuple[StockEvent, ...]:
        """Read the present levels of these SKUs; one that the endpoint does not know is absent.

        Where it cannot be asked for single SKUs, all of it is read, if that is few pages.

        Raises:
            UpstreamThrottled, UpstreamRefused, UpstreamFailed: as for pages; or too many pages.
        """
        settings = self._settings()
        wanted = tuple(dict.fromkeys(items))
        if not wanted:
            return ()
        if not settings.items_param:
            rows = await self._read_all(settings, PAGES_OF_SWEEP_MAX)
        else:
            rows = [
                row for asked in _questions(wanted, settings) for row in await self._about(asked, settings)
            ]
        return tuple(_present(row.level for row in rows if row.level.item in wanted))

    def _settings(self) -> EndpointSettings:
        try:
            return read_settings(self._credentials)
        except ValueError as fault:
            msg = f"The account's settings cannot work: {fault}"
            raise UpstreamRefused(msg) from None

    async def _read(
        self, at: Cursor, settings: EndpointSettings, *, rows_max: int | None
    ) -> tuple[Turn, EndpointAnswer]:
        asked_us = time.time_ns() // 1000
        answer = await self._ask(address(at, settings), settings, at)
        return turn(at, answer, settings, asked_us=asked_us, rows_max=rows_max), answer

    async def _ask(self, url: str, settings: EndpointSettings, at: Cursor) -> EndpointAnswer:
        try:
            answer = await self._http.send("GET", url, headers=settings.headers)
        except UpstreamRefused as refusal:
            has_token = bool(at.page or (at.start and settings.kind is CursorKind.OPAQUE))
            is_expired = refusal.answered in _EXPIRED if has_token else refusal.answered == _GONE and at.start
            if is_expired:
                msg = "The endpoint no longer knows the position of the last poll."
                raise CursorRefused(msg) from refusal
            raise
        return read_answer(answer.body, settings)

    async def _about(self, asked: Sequence[str], settings: EndpointSettings) -> list[Row]:
        """Return the rows of the answer to one question about SKUs."""
        joined = [",".join(asked)] if settings.items_join is ItemsJoin.COMMA else asked
        url = with_query(settings.url, [(settings.items_param, text) for text in joined])
        about = replace(settings, url=url, kind=CursorKind.SWEEP)
        try:
            return await self._read_all(about, PAGES_OF_ITEMS_MAX)
        except UpstreamRefused as refusal:
            if refusal.answered == _UNKNOWN and len(asked) == 1:
                return []
            raise

    async def _read_all(self, settings: EndpointSettings, pages_max: int) -> list[Row]:
        rows: list[Row] = []
        at = Cursor()
        for _ in range(pages_max):
            turned, _answer = await self._read(at, settings, rows_max=None)
            rows += turned.rows
            at = turned.cursor
            if turned.is_last:
                return rows
        msg = f"The endpoint has more than {pages_max} pages; with items_param it could be asked for SKUs."
        raise UpstreamFailed(msg)


def _questions(items: Sequence[str], settings: EndpointSettings) -> list[tuple[str, ...]]:
    """Return the SKUs by the calls that ask for them."""
    if settings.items_join is ItemsJoin.ONE:
        return [(item,) for item in items]
    if settings.items_join is ItemsJoin.REPEAT:
        return [tuple(items)]
    alone = [(item,) for item in items if "," in item]
    together = tuple(item for item in items if "," not in item)
    return [*alone, *([together] if together else [])]


def _present(levels: Iterable[Level]) -> list[Level]:
    """Return the newest level of each item at each location."""
    newest: dict[tuple[str, str], Level] = {}
    for level in levels:
        known = newest.setdefault((level.item, level.location), level)
        if _order(level) >= _order(known):
            newest[level.item, level.location] = level
    return list(newest.values())


def _order(level: Level) -> int:
    return level.version.number if level.version else 0
