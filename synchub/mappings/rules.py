"""Which mappings are possible, and what a parked item's fields say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from synchub.connector_kit.payloads import identifier
from synchub.errors import InvalidRequest, PayloadRefused
from synchub.keyspace import LIST_SEPARATOR, SEPARATOR
from synchub.mappings.model import Parked, Part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from synchub.mappings.model import Decided

PARTS_MAX: Final = 50
UNITS_MAX: Final = 10_000
MEMBERS_MAX: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How the names of an account become the merchant's."""

    own_items: bool
    """An item that is not mapped is the SKU of that name."""
    own_places: bool
    locations: Mapping[str, str]


def check_identifier(text: str, what: str) -> str:
    """Return the text of an item, SKU or location in its stored form.

    Raises:
        InvalidRequest: not one to 128 visible characters.
    """
    try:
        return identifier(text, what)
    except PayloadRefused as refusal:
        raise InvalidRequest(refusal.detail) from None


def check_parts(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Return the parts of an item in their stored form.

    Raises:
        InvalidRequest: none, too many, a SKU twice, not an identifier, or units out of range.
    """
    if not 1 <= len(parts) <= PARTS_MAX:
        msg = f"An item has 1 to {PARTS_MAX} parts."
        raise InvalidRequest(msg)
    if any(isinstance(part.units, bool) or not 1 <= part.units <= UNITS_MAX for part in parts):
        msg = f"An item has 1 to {UNITS_MAX} units of each part."
        raise InvalidRequest(msg)
    checked = tuple(replace(part, sku=check_identifier(part.sku, "The SKU")) for part in parts)
    if len({part.sku for part in checked}) < len(checked):
        msg = "A SKU stands there twice; add its units up."
        raise InvalidRequest(msg)
    return checked


def is_kit(parts: Sequence[Part]) -> bool:
    """Say whether an item is a pack or kit, which cannot have a level."""
    return len(parts) > 1 or parts[0].units > 1


def text_of(parts: Sequence[Part]) -> str:
    """Return what the account's map holds of an item."""
    if not is_kit(parts):
        return parts[0].sku
    return LIST_SEPARATOR.join(f"{part.sku}{SEPARATOR}{part.units}" for part in parts)


def parts_of(text: str) -> tuple[Part, ...]:
    """Return what an entry of the map says."""
    if SEPARATOR not in text:
        return (Part(sku=text),)
    pairs = (part.split(SEPARATOR) for part in text.split(LIST_SEPARATOR))
    return tuple(Part(sku=sku, units=int(units)) for sku, units in pairs)


def check_decided(decided: Decided) -> Decided:
    """Return a decision about one SKU at one location, or about all of the account's.

    Raises:
        InvalidRequest: not identifiers, or only one of the two is named.
    """
    if not decided.sku and not decided.place:
        return decided
    if not decided.sku or not decided.place:
        msg = "Name both the SKU and the merchant's location, or neither to decide for the whole account."
        raise InvalidRequest(msg)
    return replace(
        decided,
        sku=check_identifier(decided.sku, "The SKU"),
        place=check_identifier(decided.place, "The merchant's location"),
    )


def check_members(covers: Sequence[str], ours: str) -> tuple[str, ...]:
    """Return the locations whose total a location is, each once.

    Raises:
        InvalidRequest: not identifiers, too many, or the location itself.
    """
    members = tuple(dict.fromkeys(check_identifier(one, "A covered location") for one in covers))
    if ours in members:
        msg = f"{ours} cannot be the total of itself; give the total a name of its own."
        raise InvalidRequest(msg)
    if len(members) > MEMBERS_MAX:
        msg = f"A total covers at most {MEMBERS_MAX} locations; * is all."
        raise InvalidRequest(msg)
    return members


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


def parked_from(
    item: str, fields: Iterable[str], since_ms: int, *, mapped: str | None, names: Names
) -> Parked:
    """Return what the field names of a parked item tell; one that is fully mapped waits for a decision."""
    parts = [field.split(SEPARATOR) for field in fields]
    return Parked(
        item=item,
        levels=sum(part[0] == "L" for part in parts),
        changes=sum(part[0] == "D" for part in parts),
        locations=tuple(sorted({part[1] for part in parts if part[0] != "O"} - {""})),
        since_ms=since_ms,
        undecided=_undecided(item, parts, mapped, names),
    )


def _undecided(
    item: str, parts: Sequence[Sequence[str]], mapped: str | None, names: Names
) -> tuple[tuple[str, str], ...]:
    text = mapped or (item if names.own_items else None)
    if text is None or is_kit(parts_of(text)):
        return ()
    places = {
        names.locations.get(part[1]) or (part[1] if names.own_places else None)
        for part in parts
        if part[0] in {"L", "D"}
    }
    return tuple((parts_of(text)[0].sku, place) for place in sorted(filter(None, places)))
