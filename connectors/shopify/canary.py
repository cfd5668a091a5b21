"""A harmless change, so that the platform has something to send when nothing sells.

The merchant makes a product for it, with the SKU ``SYNCHUB-CANARY``. Its customs code is set to the
time: a number of ten digits, as the field wants it, which is another one each time. Shopify tells
every change of an inventory item under ``inventory_items/update``.
https://shopify.dev/docs/api/admin-graphql/latest/mutations/inventoryItemUpdate
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from connectors.shopify.answers import FoundCanary, Outcome
from connectors.shopify.mapping import CANARY_SKU, is_canary
from connectors.shopify.queries import CANARY_CHANGE, CANARY_QUERY, CONNECTION, MUTATION
from synchub.errors import UpstreamRefused

if TYPE_CHECKING:
    from connectors.shopify.graphql import Shop


class Canary:
    """The canary of one shop; which item it is, is looked up once."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._item = ""

    async def ask(self) -> bool:
        """Change it; False where there is none. Raises as the shop's query does."""
        self._item = self._item or await self._find()
        if not self._item:
            return False
        variables = {"id": self._item, "input": {"harmonizedSystemCode": f"{int(time.time()):010d}"}}
        answer = await self._shop.query(CANARY_CHANGE, variables, Outcome, cost=MUTATION)
        if answer.outcome is None or answer.outcome.user_errors:
            # It may have been deleted: it is looked for again next time.
            self._item = ""
            msg = "The platform did not take the change of the canary product."
            raise UpstreamRefused(msg)
        return True

    async def _find(self) -> str:
        variables = {"query": f"sku:'{CANARY_SKU}'"}
        answer = await self._shop.query(CANARY_QUERY, variables, FoundCanary, cost=CONNECTION + 5)
        # A search for a SKU also finds what only resembles it.
        return next((node.id for node in answer.items.nodes if is_canary(node.sku)), "")
