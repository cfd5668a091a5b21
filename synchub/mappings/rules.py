"""Which mappings are possible, and what a parked item's fields say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.connector_kit.payloads import identifier
from synchub.errors import InvalidRequest, PayloadRefused
from synchub.keyspace import SEPARATOR
from synchub.mappings.model import Parked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def check_identifier(text: str, what: str) -> str:
    """Return the text of an item, SKU or location in its stored form.

    Raises:
        InvalidRequest: not one to 128 visible characters.
    """
    try:
        return identifier(text, what)
    except PayloadRefused as refusal:
        raise InvalidRequest(refusal.detail) from None


def is_mapped(theirs: str, ours: str, present: Mapping[str, str]) -> bool:
    """Say whether the location is mapped so already.

    Raises:
        InvalidRequest: it is mapped elsewhere, where its stock would go on counting; or another
            location of the account is mapped there, and one would overwrite the other.
    """
    if theirs in present and present[theirs] != ours:
        msg = (
            f"Location {theirs} is mapped to {present[theirs]}, where its stock is counted. Remove the "
            "account and add it again to map it elsewhere."
        )
        raise InvalidRequest(msg)
    other = next((other for other, place in present.items() if place == ours and other != theirs), None)
    if other is not None:
        msg = f"Location {other} is mapped to {ours} already; give {theirs} a location of its own."
        raise InvalidRequest(msg)
    return theirs in present


def parked_from(item: str, fields: Iterable[str], since_ms: int) -> Parked:
    """Return what the field names of a parked item tell."""
    parts = [field.split(SEPARATOR) for field in fields]
    return Parked(
        item=item,
        levels=sum(part[0] == "L" for part in parts),
        changes=sum(part[0] == "D" for part in parts),
        locations=tuple(sorted({part[1] for part in parts})),
        since_ms=since_ms,
    )
