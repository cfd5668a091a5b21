"""Where a poll stands: short JSON with the number of its form.

A search for changes goes through items, orders and levels, each page by page. What changes while
it runs may or may not be found, so the next search begins where this one began, and a little
earlier: the platform's index shows changes late.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Final, Literal

from pydantic import Field

from synchub.connector_kit.payloads import Payload, Rows, parse, read_json
from synchub.errors import CursorRefused, PayloadRefused, UpstreamFailed

OVERLAP_S: Final = 120
"""As ``polling.overlap_s`` of the manifest."""

CURSOR_MAX: Final = 4096

_FARTHEST_S: Final = 253_402_300_799


class Stage(StrEnum):
    """What is searched, in this order: an item is known before its order, a sale before its level."""

    ITEMS = "items"
    ORDERS = "orders"
    LEVELS = "levels"


class Rest(Payload):
    """A location with more changed levels than its first page held."""

    location: str
    after: str


class Position(Payload):
    """Where the next page begins."""

    form: Literal[1] = 1
    since_s: int | None = Field(default=None, ge=0, le=_FARTHEST_S)
    """Only what has changed at or after this second, by the platform's clock; ``None``: everything."""
    begun_s: int | None = Field(default=None, ge=0, le=_FARTHEST_S)
    """The platform's clock before the first page of this search; ``None``: it is still to be asked for."""
    stage: Stage = Field(default=Stage.ITEMS, strict=False)
    after: str | None = None
    """The end of the last page of this stage; of levels, of the locations."""
    rests: Rows[Rest] = ()
    are_places_done: bool = False

    def written(self) -> str:
        """Return it as text.

        Raises:
            UpstreamFailed: the platform's own positions in it are longer than a cursor may be.
        """
        content = {"form": self.form, **self.model_dump(mode="json", exclude_defaults=True)}
        text = json.dumps(content, separators=(",", ":"))
        if len(text) > CURSOR_MAX:
            msg = "The platform's cursors are longer than the hub keeps."
            raise UpstreamFailed(msg)
        return text


def position_at(time_s: int) -> Position:
    """Return where to begin to see everything that has changed from a second on."""
    return Position(since_s=max(0, time_s - OVERLAP_S))


def read_position(cursor: str) -> Position:
    """Return the position that a cursor stands for; the empty one begins with everything there is.

    Raises:
        CursorRefused: not a cursor of this form.
    """
    if not cursor:
        return Position()
    try:
        content = read_json(cursor.encode("utf-8", errors="replace"))
        if len(cursor) <= CURSOR_MAX and content.get("form") == 1:
            position = parse(Position, content)
            if position.stage is Stage.ITEMS or position.begun_s is not None:
                return position
    except PayloadRefused as problem:
        msg = "The cursor is not of the form that this connector writes."
        raise CursorRefused(msg) from problem
    msg = "The cursor is not of the form that this connector writes."
    raise CursorRefused(msg)
