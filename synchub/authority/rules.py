"""Which items have to be read for a SKU, and what follows from what was read. Pure.

Only what the hub would count is counted, and only if all of it was read: a part of the
stock is not told as if it were the whole. What sources do not know of (live holds, sales
that they have not taken over yet) cannot be taken off here, so nothing is granted on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.authority.model import AccountMap, Need
from synchub.connector_kit.events import LevelStatus
from synchub.policies.model import OnStale
from synchub.stock.model import Answer, Cell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synchub.authority.model import Heard, MerchantMap
    from synchub.connector_kit.events import Level
    from synchub.mappings.model import Mappings
    from synchub.policies.model import Terms
    from synchub.stock.model import Footing

_CAUTIOUS = frozenset({OnStale.ASSUME_OUT, OnStale.ESCALATE})


def account_map(mappings: Mappings, *, own_items: bool, own_places: bool) -> AccountMap:
    """Turn an account's maps round, so that a SKU leads to its item.

    Of maps that were not read to their end nothing is concluded from an item's absence.
    """
    items: dict[str, str | None] = {}
    for item, sku in mappings.items.items():
        items[sku] = None if sku in items else item
    is_whole = len(mappings.items) + len(mappings.kits) >= mappings.items_total
    return AccountMap(
        items=items,
        taken=frozenset({*mappings.items, *mappings.kits}),
        places=mappings.locations,
        own_items=own_items and is_whole,
        own_places=own_places,
    )


def needs_of(sku: str, known: MerchantMap) -> tuple[Need, ...]:
    """Return the items that have to be read for a SKU; none where it cannot be known which."""
    footing = known.footings.get(sku)
    accounts = dict.fromkeys(account for _, account in footing.cells) if footing else {}
    items = {account: _item_of(sku, known.accounts.get(account)) for account in accounts}
    if not all(items.values()):
        return ()
    return tuple(Need(account=account, item=item) for account, item in items.items() if item)


def answer_from(
    footing: Footing, known: MerchantMap, heard: Mapping[str, Heard], terms: Terms
) -> Answer | None:
    """Return the answer that follows from what each account said; None where a part of it is missing.

    A merchant who would not be quoted on numbers that cannot be vouched for (``on_stale`` is
    ``assume_out`` or ``escalate``) is not quoted here either.
    """
    cells = [
        _cell(place, account, known.accounts[account], heard[account]) for place, account in footing.cells
    ]
    counted = tuple(cell for cell in cells if cell is not None)
    if not counted or len(counted) < len(cells):
        return None
    oldest = min(counted, key=lambda cell: cell.evidence_ms)
    return Answer(
        sku=footing.sku,
        ver=1,
        seq=0,
        ats=sum(cell.base for cell in counted),
        held=0,
        known=True,
        gone=False,
        discontinued=footing.discontinued,
        backorder=footing.backorder,
        as_of_ms=oldest.evidence_ms,
        by=oldest.account,
        degraded=True,
        stale=terms.on_stale in _CAUTIOUS,
        lag=0,
        ref=footing.ref,
        cells=counted,
    )


def _item_of(sku: str, known: AccountMap | None) -> str | None:
    if known is None:
        return None
    if sku in known.items:
        # One that has its own name beside a mapped one would be a second item of the SKU.
        is_second = known.own_items and sku not in known.taken
        return None if is_second else known.items[sku]
    return sku if known.own_items and sku not in known.taken else None


def _cell(place: str, account: str, known: AccountMap, heard: Heard) -> Cell | None:
    units = [_units(level) for level in heard.levels if _place_of(level, known) == place]
    if len(units) != 1 or units[0] is None:
        return None
    return Cell(place=place, account=account, base=units[0], held=0, evidence_ms=heard.asked_ms)


def _place_of(level: Level, known: AccountMap) -> str | None:
    return known.places.get(level.location) or (level.location if known.own_places else None)


def _units(level: Level) -> int | None:
    """Return what a level counts for; a location that no longer stocks the item has none of it."""
    if level.status is LevelStatus.CLOSED:
        return 0
    return level.quantity if level.status is LevelStatus.KNOWN else None
