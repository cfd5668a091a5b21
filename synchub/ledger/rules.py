"""From stored fields to entries, and from entries to the state that they add up to. Pure.

Folding needs no knowledge of what an effect means: the last ``after`` of each thing
*is* the state of the thing. So a state folded from a checkpoint and one folded from
the first entry are equal byte for byte, whatever kinds of effects are added later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.ledger.model import LedgerEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Key = tuple[str, ...]
State = dict[Key, str]
"""Every thing that a merchant's ledger tells of, and how it stands."""

_NAMES: Final = ("sku", "loc", "acc", "item", "field", "from", "to", "v", "cause")
_NUMBERS: Final = ("at", "ats")
_KNOWN: Final = frozenset((*_NAMES, *_NUMBERS, "seq"))
_SOURCE: Final = frozenset({"level", "delta", "status"})
_EVENTS: Final = frozenset({"answer", "ack"})
_FAMILY: Final = {"sale": "sale", "settled": "sale", "moved": "moved", "hold": "hold"}
_ENDED: Final = ("released", "expired", "voided", "committed", "refused")


def entry_of(seq: int, fields: Mapping[str, str]) -> LedgerEntry:
    """Read an entry from the fields of the stream or of the archive; what is missing is empty."""
    sku, place, account, item, field, before, after, version, cause = (
        fields.get(name, "") for name in _NAMES
    )
    return LedgerEntry(
        seq=seq,
        sku=sku,
        place=place,
        account=account,
        item=item,
        field=field,
        before=before,
        after=after,
        version=version,
        cause=cause,
        at_ms=_number(fields.get("at", "")),
        ats=_number(fields.get("ats", "")),
        more=tuple(sorted((name, str(fields[name])) for name in fields if name not in _KNOWN)),
    )


def document(entry: LedgerEntry) -> dict[str, object]:
    """Return the entry as it is told to merchants."""
    return {
        "seq": entry.seq,
        "at_ms": entry.at_ms,
        "sku": entry.sku,
        "location": entry.place or None,
        "account": entry.account or None,
        "item": entry.item or None,
        "field": entry.field,
        "from": entry.before or None,
        "to": entry.after or None,
        "version": entry.version or None,
        "cause": entry.cause,
        "ats": entry.ats,
        **dict(entry.more),
    }


def sentence(entry: LedgerEntry) -> str:
    """Return the entry as it is told to a person."""
    where = f" at {entry.place}" if entry.place else ""
    who = f" by {entry.account}" if entry.account else ""
    change = f"{entry.before or '-'} > {entry.after or '-'}"
    return f"{entry.seq}  {entry.sku}{where}  {entry.field} {change}{who}  ats {entry.ats}  {entry.cause}"


def fold(state: Mapping[Key, str], entries: Iterable[LedgerEntry]) -> State:
    """Return the state after these entries; the one given stays as it is."""
    folded = dict(state)
    for entry in entries:
        fold_one(folded, entry)
    return folded


def fold_one(state: State, entry: LedgerEntry) -> None:
    """Change the state by one entry. Applying an entry again changes nothing."""
    state["ats", entry.sku] = str(entry.ats)
    key = key_of(entry)
    if key is None:
        return
    if _is_over(entry):
        state.pop(key, None)
    else:
        state[key] = entry.after


def key_of(entry: LedgerEntry) -> Key | None:
    """Return what the entry is about; None when it tells that something happened and changes no value."""
    if entry.field in _EVENTS:
        return None
    if entry.field in _SOURCE:
        return ("source", entry.sku, entry.account, entry.item, entry.place)
    if entry.field in _FAMILY:
        # A sale or hold keeps its name whoever speaks of it and wherever it moves.
        return (_FAMILY[entry.field], entry.sku, dict(entry.more).get("ref") or entry.item)
    return (entry.field, entry.sku, entry.place)


def _is_over(entry: LedgerEntry) -> bool:
    if not entry.after or entry.field == "settled":
        return True
    if entry.field == "sale":
        return entry.after == "0"
    return entry.field == "hold" and entry.after.startswith(_ENDED)


def _number(text: object) -> int:
    try:
        return int(str(text))
    except ValueError:
        return 0
