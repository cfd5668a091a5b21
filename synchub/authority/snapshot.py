"""What a process keeps so that it can ask sources itself: names, and who counts where. No numbers.

Merchant by merchant, again and again, a page at a time with a pause between, so that no
request waits for it. What was read at the last good moment stays while the store is away.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from synchub import metrics
from synchub.authority.model import MerchantMap
from synchub.authority.rules import account_map
from synchub.errors import Fault
from synchub.keyspace import MerchantKeys
from synchub.kit.tasks import end, is_ending
from synchub.logs import get_logger
from synchub.mappings import operations as mappings
from synchub.stock import operations as stock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping

    from synchub.accounts.model import AccountView
    from synchub.authority.model import AccountMap
    from synchub.connector_kit.contract import Connector
    from synchub.lua import Executes
    from synchub.stock.model import Footing
    from synchub.sync_settings import AuthoritySettings

_PAGE: Final = 100
_PAUSE_S: Final = 0.005

_log: Final = get_logger(part="authority")


class Snapshot:
    """The maps of all merchants, at most ``authority.items_max`` SKUs and items of them."""

    def __init__(
        self,
        redis: Executes,
        accounts: Callable[[], Collection[AccountView]],
        connectors: Mapping[str, Connector],
        settings: AuthoritySettings,
    ) -> None:
        self._redis = redis
        self._accounts = accounts
        self._connectors = connectors
        self._settings = settings
        self._merchants: dict[str, MerchantMap] = {}
        self._is_full = False

    def of(self, merchant: str) -> MerchantMap | None:
        """Return what is known of a merchant, if anything is."""
        return self._merchants.get(merchant)

    @property
    def size(self) -> int:
        """How many SKUs and mapped items are kept."""
        return sum(known.size for known in self._merchants.values())

    @contextlib.asynccontextmanager
    async def refreshing(self) -> AsyncIterator[None]:
        """Keep it fresh for as long as the block runs."""
        task = asyncio.create_task(self._refresh_again(), name="read-maps")
        try:
            yield
        finally:
            await end(task)

    async def refresh(self) -> None:
        """Read everything once; a merchant that was read to the end counts at once.

        Raises:
            OutcomeUnknown, StoreUnavailable: the store did not answer; what was known stays.
        """
        accounts: dict[str, list[AccountView]] = {}
        for account in self._accounts():
            accounts.setdefault(account.merchant, []).append(account)
        for gone in self._merchants.keys() - accounts.keys():
            del self._merchants[gone]
        for merchant, theirs in sorted(accounts.items()):
            others = sum(known.size for name, known in self._merchants.items() if name != merchant)
            room = self._settings.items_max - others
            self._merchants[merchant] = await self._read(merchant, theirs, room)
            metrics.authority_items.set(self.size)
        self._say_full(self.size >= self._settings.items_max)

    async def _refresh_again(self) -> None:
        while not is_ending():
            with contextlib.suppress(Fault, RedisError):  # it is said elsewhere that the store is away
                await self.refresh()
            await asyncio.sleep(self._settings.refresh_every_ms / 1000)

    async def _read(self, merchant: str, accounts: Collection[AccountView], room: int) -> MerchantMap:
        keys = MerchantKeys(merchant)
        footings = await self._read_footings(keys, room)
        counting = {account for footing in footings.values() for _, account in footing.cells}
        maps: dict[str, AccountMap] = {}
        room -= len(footings)
        for account in accounts:
            connector = self._connectors.get(account.platform)
            if account.name in counting and connector is not None and connector.levels_client is not None:
                maps[account.name] = await self._read_map(keys, account, connector, max(0, room))
                room -= maps[account.name].size
        return MerchantMap(footings=footings, accounts=maps)

    async def _read_footings(self, keys: MerchantKeys, room: int) -> dict[str, Footing]:
        found: dict[str, Footing] = {}
        after = ""
        while room > 0:
            limit = min(_PAGE, room)
            page = await stock.read_footings(self._redis, keys, after=after, limit=limit)
            found |= {footing.sku: footing for footing in page if footing.cells}
            room -= sum(bool(footing.cells) for footing in page)
            if len(page) < limit:
                break
            after = page[-1].sku
            await asyncio.sleep(_PAUSE_S)
        return found

    async def _read_map(
        self, keys: MerchantKeys, account: AccountView, connector: Connector, room: int
    ) -> AccountMap:
        found = await mappings.list_mappings(self._redis, keys, account.name, limit=room)
        ids = connector.manifest.ids
        return account_map(found, own_items=ids.items == "sku", own_places=ids.locations == "merchant")

    def _say_full(self, is_full: bool) -> None:  # noqa: FBT001 - the one thing that it is told
        if is_full and not self._is_full:
            _log.warning("authority_items_full", items_max=self._settings.items_max)
        self._is_full = is_full
