"""Rows of ``warehouse_products``: every read of a level comes through here.

The surprising fact: ``available`` there is not the ``inventory`` of a delivery (it leaves out the
reserve and sell-ahead), so a level is computed from its parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from connectors.shiphero.graphql import QUOTA, ask, find, next_cursor
from connectors.shiphero.mapping import level
from connectors.shiphero.payloads import Listing, WarehouseProduct
from synchub.connector_kit.payloads import identifier, parse
from synchub.errors import PayloadRefused, UpstreamFailed, UpstreamRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from connectors.shiphero.payloads import Page
    from synchub.connector_kit.contract import Access
    from synchub.connector_kit.events import Level

FRAGMENT: Final = (
    "fragment page on WarehouseProductConnection { pageInfo { hasNextPage endCursor } edges { node { "
    "sku account_id on_hand allocated reserve_inventory updated_at warehouse { legacy_id } } } }"
)

ROW_CREDITS: Final = 2
"""The row, and the warehouse in it."""

ROWS_PER_PAGE: Final = 10
"""Warehouses of one SKU in one page; ShipHero holds back credits for all of them beforehand."""

MAX_PAGES: Final = 10
"""So a SKU may lie in a hundred warehouses; beyond that the read fails rather than leave some out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One SKU in one warehouse."""

    level: Level
    account: str
    """The merchant by ShipHero's id; empty where it does not say."""
    updated_at: object


async def read_levels(access: Access, items: Sequence[str]) -> tuple[Level, ...]:
    """Read the present level of each SKU in every warehouse that knows it: one alias for each SKU.

    Raises:
        UpstreamThrottled, UpstreamRefused, UpstreamFailed: as ``graphql.ask`` does.
    """
    levels: list[Level] = []
    cursors: dict[str, str | None] = dict.fromkeys(items)
    for _ in range(MAX_PAGES):
        if not cursors:
            return tuple(levels)
        pages = await _read_pages(access, cursors)
        levels += [row.level for page in pages.values() for row in _all_rows(page)]
        ends = {sku: next_cursor(page, cursors[sku]) for sku, page in pages.items()}
        cursors = {sku: end for sku, end in ends.items() if end is not None}
    if cursors:
        msg = f"ShipHero lists a SKU in more than {MAX_PAGES * ROWS_PER_PAGE} warehouses."
        raise UpstreamFailed(msg)
    return tuple(levels)


def rows_of(page: Page, *, account: str = "") -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Return the rows of a page, and a sentence for each that cannot be used.

    ``account`` is the merchant of the pages before; empty where nothing is known of one.

    Raises:
        UpstreamRefused: the rows belong to several merchants, as a 3PL's token sees them.
    """
    rows: list[Row] = []
    refused: list[str] = []
    for edge in page.edges:
        try:
            rows.append(_row(parse(WarehouseProduct, edge.node)))
        except PayloadRefused as problem:
            refused.append(problem.detail)
    _check_one_merchant(rows, account)
    return tuple(rows), tuple(refused)


async def _read_pages(access: Access, cursors: Mapping[str, str | None]) -> dict[str, Page]:
    """Return the next page of each SKU; one that ShipHero does not know is left out."""
    cost = len(cursors) * (ROWS_PER_PAGE * ROW_CREDITS + 1) + 1
    answer = await ask(access, _query(len(cursors)), _variables(access, cursors), cost=cost)
    listings = {sku: find(answer, f"l{place}", Listing) for place, sku in enumerate(cursors)}
    return {sku: listing.data for sku, listing in listings.items() if listing is not None}


def _query(count: int) -> str:
    """Return the text for so many SKUs. Names travel as variables, so no SKU can alter it."""
    declared = "".join(f", $s{place}: String, $a{place}: String" for place in range(count))
    listings = " ".join(
        f"l{place}: warehouse_products(sku: $s{place}, customer_account_id: $customer) "
        f"{{ data(first: {ROWS_PER_PAGE}, after: $a{place}) {{ ...page }} }}"
        for place in range(count)
    )
    return f"query Levels($customer: String{declared}) {{ {listings} {QUOTA} }} {FRAGMENT}"


def _variables(access: Access, cursors: Mapping[str, str | None]) -> dict[str, object]:
    """Return the values by name; one that is left out counts as an argument not given."""
    customer = access.credentials.get("customer_account_id")
    values: dict[str, object] = {"customer": customer} if customer else {}
    for place, (sku, cursor) in enumerate(cursors.items()):
        values[f"s{place}"] = sku
        if cursor is not None:
            values[f"a{place}"] = cursor
    return values


def _all_rows(page: Page) -> tuple[Row, ...]:
    rows, refused = rows_of(page)
    if refused:
        msg = f"ShipHero's answer is not one of its API: {refused[0]}"
        raise UpstreamFailed(msg)
    return rows


def _row(row: WarehouseProduct) -> Row:
    taken = (row.allocated, row.reserve_inventory)
    account = "" if row.account_id is None else identifier(row.account_id, "account_id")
    present = level(row.sku, row.warehouse.legacy_id, plus=(row.on_hand,), minus=taken)
    return Row(level=present, account=account, updated_at=row.updated_at)


def _check_one_merchant(rows: Iterable[Row], account: str) -> None:
    """Refuse what only the token of a 3PL sees: equal SKUs of several of its customers."""
    rows = tuple(rows)
    accounts = {row.account for row in rows if row.account} | ({account} if account else set())
    places = {(row.level.item, row.level.location) for row in rows}
    if len(accounts) > 1 or len(places) != len(rows):
        msg = "ShipHero reports the stock of several merchants: give the account its customer_account_id."
        raise UpstreamRefused(msg)
