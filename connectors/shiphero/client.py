"""The calls to ShipHero on behalf of one account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.shiphero import hooks, sweep
from connectors.shiphero.levels import read_levels
from connectors.shiphero.pages import read_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.contract import Access, HookReport, Page
    from synchub.connector_kit.events import Level


class Client:
    """Reads levels and changes, and looks after the webhooks."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def fetch_levels(self, items: Sequence[str]) -> tuple[Level, ...]:
        """Read the present level of each SKU in every warehouse that knows it.

        Raises:
            UpstreamThrottled: credits or requests are used up; says for how long.
            UpstreamRefused: no token, or one that may not read this.
            UpstreamFailed: no answer, half an answer, or one that is not of the documented form.
        """
        return await read_levels(self._access, items)

    def cursor_at(self, time_ms: int) -> str:
        """Return the empty cursor: ShipHero cannot tell everything that changed since a time."""
        del time_ms
        return ""

    async def fetch_page(self, cursor: str) -> Page:
        """Read a page of the sweep, or of the rows that say that they changed; see ``sweep.py``.

        Raises:
            CursorRefused: the cursor is not of this connector, or ShipHero does not take it.
            UpstreamThrottled, UpstreamRefused, UpstreamFailed: as ``fetch_levels`` does.
        """
        return await read_page(self._access, sweep.read(cursor))

    async def check_subscription(self, hook_url: str) -> HookReport:
        """Ask which webhooks post to this address, and how ShipHero judges them.

        Raises:
            UpstreamThrottled, UpstreamRefused, UpstreamFailed: as ``fetch_levels`` does.
        """
        return await hooks.check(self._access, hook_url)

    async def repair_subscription(self, hook_url: str) -> HookReport:
        """Enable what ShipHero has switched off, and register what is missing.

        What is registered anew is signed with a new secret: the report hands over the credential with it.

        Raises:
            UpstreamThrottled, UpstreamRefused, UpstreamFailed: as ``fetch_levels`` does; never after a
                webhook was registered, because then its secret would be lost.
        """
        return await hooks.repair(self._access, hook_url)
