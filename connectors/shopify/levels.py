"""Reads what items have now, each with all its locations.

Orders name variants and levels name inventory items, so every read also says which SKU the
item's variants are; an order's unknown variant is asked for by itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from connectors.shopify.addresses import global_id
from connectors.shopify.payloads import ItemNodes, VariantNodes
from connectors.shopify.queries import LEVELS_QUERY, VARIANTS_QUERY, levels_cost
from connectors.shopify.readings import item_events, variant_events
from synchub.errors import PayloadRefused, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from connectors.shopify.graphql import Shop
    from connectors.shopify.payloads import ItemNode, LevelNode, VariantNode
    from synchub.connector_kit.events import StockEvent

FIRST_PAGE: Final = 10
"""Locations of each item in the first answer: 25 items of them stay under one query's 1 000 points."""

NEXT_PAGE: Final = 50
"""Locations in each further answer, which is about one item."""

FURTHER_PAGES_MAX: Final = 20
"""Further answers about one item, 1 010 locations in all; an item with more fails the read."""

POINTS_A_VARIANT: Final = 2

NUMERIC_ID: Final = re.compile(r"[0-9]{1,20}")
VARIANT: Final = re.compile(r"variant/([0-9]{1,20})")


class Levels:
    """The items of one shop."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    async def fetch(self, items: Sequence[str]) -> tuple[StockEvent, ...]:
        """Return the SKU and the levels of these items, one event each, in the shop's order."""
        asked = dict.fromkeys(items)
        known = [global_id("InventoryItem", item) for item in asked if NUMERIC_ID.fullmatch(item)]
        sold = [global_id("ProductVariant", found[1]) for item in asked if (found := VARIANT.fullmatch(item))]
        try:
            return (*await self._of_items(known), *await self._of_variants(sold))
        except PayloadRefused as problem:
            msg = f"The platform's answer holds an unusable value: {problem.detail}"
            raise UpstreamFailed(msg) from problem

    async def _of_items(self, ids: Sequence[str]) -> list[StockEvent]:
        events: list[StockEvent] = []
        for node in await self._ask(ids, FIRST_PAGE, None) if ids else ():
            events += item_events(node, [*node.levels.nodes, *await self._further_levels(node)])
        return events

    async def _of_variants(self, ids: Sequence[str]) -> list[StockEvent]:
        nodes = await self._ask_variants(ids) if ids else []
        return [event for node in nodes for event in variant_events(node)]

    async def _further_levels(self, node: ItemNode) -> list[LevelNode]:
        levels: list[LevelNode] = []
        page = node.levels.page_info
        for _ in range(FURTHER_PAGES_MAX):
            if not page.has_next_page:
                return levels
            answered = await self._ask([node.id], NEXT_PAGE, page.end_cursor)
            if not answered:
                return levels  # deleted between the pages
            page = answered[0].levels.page_info
            levels += answered[0].levels.nodes
        if page.has_next_page:
            msg = "The shop reports more locations for one item than the hub reads."
            raise UpstreamFailed(msg)
        return levels

    async def _ask(self, ids: Sequence[str], first: int, after: str | None) -> list[ItemNode]:
        variables = {"ids": list(ids), "first": first, "after": after}
        cost = levels_cost(len(ids), first)
        answer = await self._shop.query(LEVELS_QUERY, variables, ItemNodes, cost=cost)
        return [node for node in answer.nodes if node is not None]

    async def _ask_variants(self, ids: Sequence[str]) -> list[VariantNode]:
        cost = len(ids) * POINTS_A_VARIANT
        answer = await self._shop.query(VARIANTS_QUERY, {"ids": list(ids)}, VariantNodes, cost=cost)
        return [node for node in answer.nodes if node is not None]
