"""Where polling stands: a sweep through everything, with looks at what changed lately in between.

Why a sweep. A level is on hand - allocated - reserve, and nothing that ShipHero can be asked for tells all
its changes since a time:

- ``inventory_changes(date_from, date_to)`` is a ledger of units on hand; allocations are not in it, as the
  webhook Inventory Change is not sent for them either, and its rows are differences of bins, each of which
  would cost a read of its own (https://developer.shiphero.com/webhooks/inventory-change-webhook/);
- ``warehouse_products(updated_from, updated_to)`` filters rows by ``updated_at``, of which no document says
  that an allocation changes it (https://developer.shiphero.com/schema/queries/warehouse-products.html);
- ``orders(updated_from)`` has the allocations that stand, never those that have ended
  (https://developer.shiphero.com/schema/types/order-warehouse-allocation.html);
- ``inventory_snapshot`` is a file of everything that is made on request, later than the levels in it.

So a poll ends only when every row has been read since it began; that misses no change, whatever ShipHero
notes of it. Because a sweep of many rows takes minutes of credits, the rows that say of themselves that
they have changed are looked at first and after every few pages: they are quick, and nothing depends on them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal, TypeVar

from pydantic import Field

from synchub.connector_kit.payloads import Payload, parse, read_json
from synchub.errors import CursorRefused, PayloadRefused

P = TypeVar("P", bound=Payload)

TURN_PAGES: Final = 10
"""Pages of the sweep between two looks, and most pages of a look: 1,000 levels, half a minute of credits.

A look at more than that ends unfinished, so that the sweep gets at least half of the credits.
"""

OVERLAP_MS: Final = 60_000
"""A look begins so long before the last one began, for rows that show late."""

_YEAR_9999_MS: Final = 253_402_300_799_999


class Look(Payload):
    """Reading of the rows that say that they changed."""

    from_ms: int = Field(ge=0, le=_YEAR_9999_MS)
    began_ms: int | None = None
    """When its first page was read; ``None``: it is still to begin."""
    after: str | None = None


class Place(Payload):
    """Where a poll goes on; written as JSON it is the cursor."""

    form: Literal[1] = 1
    looked_ms: int = Field(ge=0, le=_YEAR_9999_MS)
    """Everything that was changed before has been looked at, or was still to be swept."""
    after: str | None = None
    """The last row of the sweep that was read; ``None``: it is still to begin."""
    pages: int = 0
    """Of the sweep since the last look, or of the look."""
    look: Look | None = None
    account: str = ""
    """The merchant whose rows these are, by ShipHero's id."""


def go_on(place: Place | None, cursor: str | None, *, at_ms: int, account: str = "") -> Place:
    """Return the place after a page that was read at a time; ``None`` is the beginning of the first poll.

    ``cursor`` is ``None`` when the page was the last of its listing.
    """
    place = place or Place(looked_ms=at_ms)
    place = _with(place, account=place.account or account)
    if place.look is not None:
        return _after_look(place, place.look, cursor, at_ms)
    if cursor is None:
        return _looking(_with(place, after=None))
    here = _with(place, after=cursor, pages=place.pages + 1)
    return _looking(here) if here.pages >= TURN_PAGES else here


def is_look(place: Place | None) -> bool:
    """Whether the page at this place is of a look; otherwise it is of the sweep."""
    return place is not None and place.look is not None


def after(place: Place | None) -> str | None:
    """Return ShipHero's cursor of the page at this place."""
    if place is None:
        return None
    return place.after if place.look is None else place.look.after


def since(place: Place | None) -> str | None:
    """Return the time from which on rows are looked at, as ShipHero writes times; ``None`` in the sweep."""
    if place is None or place.look is None:
        return None
    return datetime.fromtimestamp(place.look.from_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def written(place: Place) -> str:
    """Return the place as a cursor."""
    return place.model_dump_json(exclude_none=True)


def read(cursor: str) -> Place | None:
    """Return the place that a cursor is of.

    Raises:
        CursorRefused: it is of none, or of another version of this connector.
    """
    if not cursor:
        return None
    try:
        return parse(Place, read_json(cursor.encode(errors="replace")))
    except PayloadRefused:
        msg = "The cursor is not one of this connector."
        raise CursorRefused(msg) from None


def _with(part: P, **changed: object) -> P:
    return part.model_copy(update=changed)


def _after_look(place: Place, look: Look, cursor: str | None, at_ms: int) -> Place:
    began_ms = at_ms if look.began_ms is None else look.began_ms
    if cursor is None or place.pages + 1 >= TURN_PAGES:
        return _with(place, look=None, pages=0, looked_ms=began_ms)
    return _with(place, pages=place.pages + 1, look=_with(look, after=cursor, began_ms=began_ms))


def _looking(place: Place) -> Place:
    return _with(place, pages=0, look=Look(from_ms=max(0, place.looked_ms - OVERLAP_MS)))
