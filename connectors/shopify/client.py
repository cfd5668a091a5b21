"""What the hub asks of a shop: levels, changes, subscriptions, a sign of life; the connector's only IO."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connectors.shopify.canary import Canary
from connectors.shopify.graphql import Shop
from connectors.shopify.hooks import Subscriptions
from connectors.shopify.levels import Levels
from connectors.shopify.paging import Changes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.contract import Access, HookReport, Page
    from synchub.connector_kit.events import StockEvent

BY_THE_APP: Final = "app"
"""The credential ``subscriptions`` where they stand in the app's own file."""


class Client:
    """Calls to one shop on behalf of one account.

    Every call raises ``UpstreamThrottled`` when there are too few points, with the seconds until there
    are enough; ``UpstreamRefused`` for no or a wrong token, a missing permission or a wrong shop
    domain; ``UpstreamFailed`` for no answer, or one that is not of the documented form.
    """

    def __init__(self, access: Access) -> None:
        shop = Shop(access)
        self._levels = Levels(shop)
        self._changes = Changes(shop)
        are_the_apps = access.credentials.get("subscriptions", "").strip() == BY_THE_APP
        self._subscriptions = Subscriptions(shop, are_the_apps=are_the_apps)
        self._canary = Canary(shop)

    async def fetch_levels(self, items: Sequence[str]) -> tuple[StockEvent, ...]:
        """Return the SKU and the levels of these items, one event each, in the shop's order.

        Of a variant (``variant/42``) only the SKU is read. An item that the shop does not
        have, or whose id is not a number, is absent. All pages of an item are read before
        anything is returned.
        """
        return await self._levels.fetch(items)

    def cursor_at(self, time_ms: int) -> str:
        """Return where to begin to see everything that changed from a time on; makes no call."""
        return self._changes.cursor_at(time_ms)

    async def fetch_page(self, cursor: str) -> Page:
        """Return the page that begins at a cursor: changed items, then orders, then levels.

        The empty cursor begins with all items and levels there are, and with the orders that are
        still open. After the last page the cursor lies as far back as this search began, and a
        little more.

        Raises:
            CursorRefused: of another form, or no longer known to the platform.
        """
        return await self._changes.fetch(cursor)

    async def check_subscription(self, hook_url: str) -> HookReport:
        """Report whether every topic is sent to this address; changes nothing."""
        return await self._subscriptions.check(hook_url)

    async def repair_subscription(self, hook_url: str) -> HookReport:
        """Subscribe to what is missing, set right what is wrong, and report how it stands then."""
        return await self._subscriptions.repair(hook_url)

    async def ask_canary(self) -> bool:
        """Change the canary product; False where the shop has none."""
        return await self._canary.ask()
