"""Reads one page of a poll: of the sweep through all rows, or of the rows that changed lately.

The surprising fact: only the rows of a look say when they changed. ``updated_at`` may be older than the last
allocation, so of a row of the sweep it would be a false proof that a delivery is overdue.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from connectors.shiphero import sweep
from connectors.shiphero.graphql import QUOTA, ask_timed, field, next_cursor
from connectors.shiphero.levels import FRAGMENT, ROW_CREDITS, rows_of
from connectors.shiphero.payloads import Listing
from synchub.connector_kit.contract import Page, Record
from synchub.connector_kit.payloads import time_us
from synchub.errors import PayloadRefused

if TYPE_CHECKING:
    from connectors.shiphero.levels import Row
    from connectors.shiphero.sweep import Place
    from synchub.connector_kit.contract import Access

PAGE_ROWS: Final = 100
"""ShipHero's documents page no listing by more."""

TOPIC: Final = "Inventory Update"

_HAS_ZONE = re.compile(r"([Zz]|[+-][0-9]{2}:[0-9]{2})$")


async def read_page(access: Access, place: Place | None) -> Page:
    """Read the page that begins at a place.

    Raises:
        CursorRefused, UpstreamThrottled, UpstreamRefused, UpstreamFailed: as ``graphql.ask_timed`` does.
    """
    variables = _variables(access, place)
    answer, at_ms = await ask_timed(access, _query(place), variables, cost=PAGE_ROWS * ROW_CREDITS + 2)
    listing = field(answer, "page", Listing)
    rows, refused = rows_of(listing.data, account=place.account if place else "")
    cursor = next_cursor(listing.data, sweep.after(place))
    account = next((row.account for row in rows if row.account), "")
    is_look, moment = sweep.is_look(place), listing.request_id or str(at_ms)
    return Page(
        records=tuple(_record(row, moment, at_ms if is_look else None) for row in rows),
        cursor=sweep.written(sweep.go_on(place, cursor, at_ms=at_ms, account=account)),
        is_last=not is_look and cursor is None,
        refused=refused,
    )


def _query(place: Place | None) -> str:
    # An argument that is not given must not be sent as null either: null may be a filter.
    declared, changed = (
        (", $since: ISODateTime", ", updated_from: $since") if sweep.is_look(place) else ("", "")
    )
    return (
        f"query Page($customer: String, $after: String{declared}) {{ "
        f"page: warehouse_products(customer_account_id: $customer{changed}) "
        f"{{ request_id data(first: {PAGE_ROWS}, after: $after) {{ ...page }} }} {QUOTA} }} {FRAGMENT}"
    )


def _variables(access: Access, place: Place | None) -> dict[str, object]:
    values = {
        "customer": access.credentials.get("customer_account_id"),
        "after": sweep.after(place),
        "since": sweep.since(place),
    }
    return {name: value for name, value in values.items() if value}


def _record(row: Row, moment: str, looked_ms: int | None) -> Record:
    """Return the fact that the level was this in this answer; another answer tells another fact."""
    where = f"{row.level.location}/{row.level.item}"
    return Record(
        key=hashlib.sha256(f"{moment}/{where}".encode()).hexdigest()[:32],
        events=(row.level,),
        changed_at_us=None if looked_ms is None else _changed_at_us(row.updated_at, looked_ms),
        topic=TOPIC,
    )


def _changed_at_us(updated_at: object, looked_ms: int) -> int | None:
    """Return the time of the change; ShipHero writes times without a zone, which are taken for UTC.

    ``None``: it says none, or one that is still to come, so that its zone must be another.
    """
    text = str(updated_at)
    try:
        at_us = time_us(text if _HAS_ZONE.search(text) else f"{text}Z", "updated_at")
    except PayloadRefused:
        return None
    return at_us if at_us <= (looked_ms + sweep.OVERLAP_MS) * 1000 else None
