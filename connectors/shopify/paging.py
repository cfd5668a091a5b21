"""Reads what has changed since a time, page by page.

The platform's clock is read before its data: the date of the first answer, less what that call
took. What changes while the pages are read is found by the next search, whichever page it is on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from connectors.shopify.addresses import number_of
from connectors.shopify.answers import ChangedItems, ChangedLevels, ChangedOrders, FurtherLevels
from connectors.shopify.cursors import Position, Rest, Stage, position_at, read_position
from connectors.shopify.graphql import QueryTooDear
from connectors.shopify.queries import (
    ITEMS_QUERY,
    LOCATION_QUERY,
    LOCATIONS_QUERY,
    ORDERS_QUERY,
    items_cost,
    location_cost,
    locations_cost,
    orders_cost,
)
from connectors.shopify.readings import item_record, level_record, order_record
from connectors.shopify.sales import Sales
from synchub.connector_kit.contract import Page, Record
from synchub.errors import PayloadRefused, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectors.shopify.answers import Place
    from connectors.shopify.graphql import Answered, Shop
    from synchub.connector_kit.payloads import P

# Each just under the 1 000 points that one query may cost.
ITEMS_A_PAGE: Final = 100
ORDERS_A_PAGE: Final = 16
LEVELS_A_PAGE: Final = 250

# Most searches find little, and a query reserves what it could cost.
FIRST_ITEMS: Final = 25
FIRST_ORDERS: Final = 5
FIRST_LEVELS: Final = 10
"""Of each of the locations that are asked for together."""


@dataclass(slots=True)
class Read:
    """What one answer became."""

    records: list[Record] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def add(self, what: str, record: Callable[[], Record | None]) -> None:
        """Take one row; one that cannot be used does not stop the others."""
        try:
            made = record()
        except PayloadRefused as problem:
            self.refuse(what, problem)
            return
        if made is not None:
            self.records.append(made)

    def refuse(self, what: str, problem: PayloadRefused) -> None:
        """Leave one row out and say so."""
        self.refused.append(f"One changed {what} cannot be used: {problem.detail}")


class Changes:
    """The changes of one shop."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._sales = Sales(shop)
        self._largest = LEVELS_A_PAGE

    def cursor_at(self, time_ms: int) -> str:
        """Return where to begin to see everything that changed from a time on."""
        return position_at(time_ms // 1000).written()

    async def fetch(self, cursor: str) -> Page:
        """Return the page that begins at a cursor; raises as the shop's query does."""
        position = read_position(cursor)
        read = {Stage.ITEMS: self._items, Stage.ORDERS: self._orders, Stage.LEVELS: self._levels}
        try:
            rows, following = await read[position.stage](position)
        except PayloadRefused as problem:
            msg = f"The platform's answer holds an unusable value: {problem.detail}"
            raise UpstreamFailed(msg) from problem
        is_last = following.stage is Stage.ITEMS and following.begun_s is None
        return Page(
            records=tuple(rows.records),
            cursor=following.written(),
            is_last=is_last,
            refused=tuple(rows.refused),
        )

    async def _items(self, position: Position) -> tuple[Read, Position]:
        first = FIRST_ITEMS if _may_be_little(position) else ITEMS_A_PAGE
        answered = await self._ask(ITEMS_QUERY, position, ChangedItems, items_cost, first)
        page = answered.content.items
        begun_s = answered.asked_at_s if position.begun_s is None else position.begun_s
        begun = position.model_copy(update={"begun_s": max(0, begun_s)})
        following = _after(begun, page.following(position.after))
        rows = Read()
        for node in page.nodes:
            rows.add("item", partial(item_record, node))
        return rows, following

    async def _orders(self, position: Position) -> tuple[Read, Position]:
        first = FIRST_ORDERS if _may_be_little(position) else ORDERS_A_PAGE
        answered = await self._ask(ORDERS_QUERY, position, ChangedOrders, orders_cost, first)
        page = answered.content.orders
        rows = Read()
        for order in page.nodes:
            try:
                content = await self._sales.whole(order)
            except PayloadRefused as problem:
                rows.refuse("order", problem)
                continue
            if content is not None:
                rows.add("order", partial(order_record, content))
        following = _after(position, page.following(position.after))
        return rows, following

    async def _levels(self, position: Position) -> tuple[Read, Position]:
        if position.rests:
            return await self._levels_of_one(position, position.rests[0])
        answered = await self._ask(LOCATIONS_QUERY, position, ChangedLevels, locations_cost, FIRST_LEVELS)
        page = answered.content.locations
        rows = Read()
        for place in page.nodes:
            _add_levels(rows, place)
        rests = tuple(rest for place in page.nodes for rest in _rest(place, None))
        after = page.following(position.after)
        here = {"after": after, "rests": rests, "are_places_done": after is None}
        return rows, _levels_left(position.model_copy(update=here))

    async def _levels_of_one(self, position: Position, rest: Rest) -> tuple[Read, Position]:
        answered = await self._ask(
            LOCATION_QUERY, position, FurtherLevels, location_cost, LEVELS_A_PAGE, rest=rest
        )
        place, others = answered.content.location, position.rests[1:]
        rows = Read()
        if place:
            _add_levels(rows, place)
        rests = (*_rest(place, rest.after), *others) if place else others
        return rows, _levels_left(position.model_copy(update={"rests": rests}))

    async def _ask(
        self,
        query: str,
        position: Position,
        model: type[P],
        cost: Callable[[int], int],
        first: int,
        *,
        rest: Rest | None = None,
    ) -> Answered[P]:
        """Ask for so many, or for fewer where the platform counts their cost differently."""
        found = {"query": _search(position)}
        where = {"id": rest.location, "after": rest.after} if rest else {"after": position.after}
        while True:
            first = min(first, self._largest)
            try:
                variables = {**found, **where, "first": first}
                return await self._shop.ask(query, variables, model, cost=cost(first))
            except QueryTooDear:
                if first == 1:
                    raise
                self._largest = first // 2


def _add_levels(rows: Read, place: Place) -> None:
    location = number_of(place.id)
    for level in place.levels.nodes:
        rows.add("level", partial(level_record, level, location))


def _may_be_little(position: Position) -> bool:
    return position.since_s is not None and position.after is None


def _search(position: Position) -> str | None:
    if position.since_s is not None:
        since = datetime.fromtimestamp(position.since_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"updated_at:>='{since}'"
    # Of all orders there have ever been, those that still take something.
    return "status:open" if position.stage is Stage.ORDERS else None


def _after(position: Position, cursor: str | None) -> Position:
    """Return where a stage goes on, or the next stage begins."""
    if cursor is not None:
        return position.model_copy(update={"after": cursor})
    following = {Stage.ITEMS: Stage.ORDERS, Stage.ORDERS: Stage.LEVELS}[position.stage]
    return position.model_copy(update={"stage": following, "after": None})


def _rest(place: Place, after: str | None) -> tuple[Rest, ...]:
    end = place.levels.following(after)
    return () if end is None else (Rest(location=place.id, after=end),)


def _levels_left(position: Position) -> Position:
    """Return where the levels go on; after the last, the next search, which begins where this one began."""
    if position.rests or not position.are_places_done:
        return position
    return position_at(position.begun_s or 0)
