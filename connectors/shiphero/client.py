"""Reads levels from ShipHero's GraphQL API: several SKUs in one request, one alias for each.

The surprising facts: ``available`` there is not the ``inventory`` of a delivery
(it leaves out the reserve and sell-ahead), so the level is computed from its
parts; and an answer with HTTP status 200 may still be a throttle or a refusal.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from connectors.shiphero.mapping import level
from connectors.shiphero.payloads import Answer
from synchub.connector_kit.payloads import parse, read_json
from synchub.errors import PayloadRefused, UpstreamFailed, UpstreamRefused, UpstreamThrottled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from connectors.shiphero.payloads import Page, Problem, WarehouseProduct
    from synchub.connector_kit.contract import Access
    from synchub.connector_kit.events import Level

API_URL: Final = "https://public-api.shiphero.com/graphql"

ROWS_PER_PAGE: Final = 10
"""Warehouses of one SKU in one page; ShipHero holds back credits for all of them beforehand."""

MAX_PAGES: Final = 10
"""So a SKU may lie in a hundred warehouses; beyond that the read fails rather than leave some out."""

UNKNOWN_WAIT_S: Final = 10
"""When a throttle names no time; 600 credits come back meanwhile."""

MAX_WAIT_S: Final = 300

_NOT_ENOUGH_CREDITS: Final = 30
_NOT_FOUND: Final = 5
_REFUSAL = re.compile(
    r"unauthori[sz]ed|not authori[sz]ed|not allowed|permission|scope|token|credential", re.IGNORECASE
)
_PARTS_OF_TIME: Final = ((re.compile(r"([0-9]{1,6})\s*min"), 60), (re.compile(r"([0-9]{1,6})\s*sec"), 1))


class Client:
    """Calls on behalf of one account."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def fetch_levels(self, items: Sequence[str]) -> tuple[Level, ...]:
        """Read the present level of each SKU in every warehouse that knows it.

        Raises:
            UpstreamThrottled: credits or requests are used up; says for how long.
            UpstreamRefused: no token, or one that may not read this.
            UpstreamFailed: no answer, half an answer, or one that is not of the documented form.
        """
        levels: list[Level] = []
        cursors: dict[str, str | None] = dict.fromkeys(items)
        for _ in range(MAX_PAGES):
            if not cursors:
                return tuple(levels)
            pages = await self._read_pages(cursors)
            levels += [one for page in pages.values() for one in _levels(page)]
            cursors = {
                sku: page.page_info.end_cursor for sku, page in pages.items() if page.page_info.has_next_page
            }
        if cursors:
            msg = f"ShipHero lists a SKU in more than {MAX_PAGES * ROWS_PER_PAGE} warehouses."
            raise UpstreamFailed(msg)
        return tuple(levels)

    async def _read_pages(self, cursors: Mapping[str, str | None]) -> dict[str, Page]:
        """Return the next page of each SKU; one that ShipHero does not know is left out."""
        answer = await self._ask(_query(len(cursors)), self._variables(cursors))
        unknown = _check(answer.errors)
        listings = answer.data or {}
        pages: dict[str, Page] = {}
        for place, sku in enumerate(cursors):
            listing = listings.get(f"l{place}")
            if listing is not None:
                pages[sku] = listing.data
            elif not unknown:
                msg = "ShipHero left a SKU out of its answer."
                raise UpstreamFailed(msg)
        return pages

    async def _ask(self, query: str, variables: Mapping[str, str]) -> Answer:
        credentials = self._access.credentials
        token = credentials.get("access_token")
        if not token:
            msg = "The account has no access token: levels cannot be read from ShipHero."
            raise UpstreamRefused(msg)
        answer = await self._access.http.send(
            "POST",
            credentials.get("api_url") or API_URL,
            headers={"authorization": f"Bearer {token}"},
            json={"query": query, "variables": variables},
        )
        try:
            return parse(Answer, read_json(answer.body))
        except PayloadRefused as problem:
            msg = f"ShipHero's answer is not one of its API: {problem.detail}"
            raise UpstreamFailed(msg) from problem

    def _variables(self, cursors: Mapping[str, str | None]) -> dict[str, str]:
        """Return the values by name; one that is left out counts as an argument not given."""
        customer = self._access.credentials.get("customer_account_id")
        values = {"customer": customer} if customer else {}
        for place, (sku, cursor) in enumerate(cursors.items()):
            values[f"s{place}"] = sku
            if cursor is not None:
                values[f"a{place}"] = cursor
        return values


def _query(count: int) -> str:
    """Return the text for so many SKUs. Names travel as variables, so no SKU can alter it."""
    declared = "".join(f", $s{place}: String, $a{place}: String" for place in range(count))
    listings = " ".join(
        f"l{place}: warehouse_products(sku: $s{place}, customer_account_id: $customer) "
        f"{{ data(first: {ROWS_PER_PAGE}, after: $a{place}) {{ ...page }} }}"
        for place in range(count)
    )
    return (
        f"query Levels($customer: String{declared}) {{ {listings} }} "
        "fragment page on WarehouseProductConnection { pageInfo { hasNextPage endCursor } "
        "edges { node { sku on_hand allocated reserve_inventory warehouse { legacy_id } } } }"
    )


def _levels(page: Page) -> tuple[Level, ...]:
    try:
        levels = tuple(_row_level(edge.node) for edge in page.edges)
    except PayloadRefused as problem:
        msg = f"ShipHero's answer holds a number that cannot be one: {problem.detail}"
        raise UpstreamFailed(msg) from problem
    if len({(one.item, one.location) for one in levels}) != len(levels):
        # The token of a 3PL sees the equal SKUs of all its customers.
        msg = "ShipHero reports one SKU twice in one warehouse: give the account its customer_account_id."
        raise UpstreamRefused(msg)
    return levels


def _row_level(row: WarehouseProduct) -> Level:
    taken = (row.allocated, row.reserve_inventory)
    return level(row.sku, row.warehouse.legacy_id, plus=(row.on_hand,), minus=taken)


def _check(problems: Iterable[Problem]) -> bool:
    """Return whether some SKU is unknown to ShipHero; raise for every other problem."""
    unknown = False
    for problem in problems:
        code, remaining = _details(problem)
        if code == _NOT_ENOUGH_CREDITS or remaining is not None:
            msg = "ShipHero has no credits left for this account."
            raise UpstreamThrottled(msg, retry_after_s=_wait_s(remaining))
        if code != _NOT_FOUND:
            _fail(problem)
        unknown = True
    return unknown


def _details(problem: Problem) -> tuple[object, object]:
    """Return its code and the time to wait, which stand beside the message or among the extensions."""
    inner = problem.extensions or problem
    code = inner.code if problem.code is None else problem.code
    remaining = inner.time_remaining if problem.time_remaining is None else problem.time_remaining
    return code, remaining


def _wait_s(remaining: object) -> int:
    """Return the seconds of ``"1 minutes, 7 seconds"``; ShipHero gives this time in words."""
    found = [(pattern.search(str(remaining)), unit) for pattern, unit in _PARTS_OF_TIME]
    seconds = sum(int(match[1]) * unit for match, unit in found if match)
    return min(seconds, MAX_WAIT_S) if any(match for match, _ in found) else UNKNOWN_WAIT_S


def _fail(problem: Problem) -> None:
    """Raise by the message, never repeating it: it may quote the request."""
    if _REFUSAL.search(problem.message):
        msg = "ShipHero refuses this token or what it asks for."
        raise UpstreamRefused(msg)
    msg = "ShipHero reports a problem of its own."
    raise UpstreamFailed(msg)
