"""Creates the demo merchant: its accounts, its agent, its maps. What exists already is used again."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from synchub.accounts import operations as accounts
from synchub.accounts.evidence import choose_evidence
from synchub.accounts.evidence_rules import ANY, Way
from synchub.accounts.model import NewAccount
from synchub.accounts.operations import Registry
from synchub.accounts.rules import hook_url
from synchub.accounts.vault import Vault
from synchub.agents import operations as agents
from synchub.agents.operations import NewAgent
from synchub.connector_kit.discovery import MANIFEST, connector_folders
from synchub.connector_kit.manifest import load_manifest
from synchub.connector_kit.signatures import new_secret
from synchub.demo.model import AGENT, MERCHANT
from synchub.errors import Misconfigured
from synchub.history.operations import Historian
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import now_ms
from synchub.mappings import operations as mappings
from synchub.redis import CoalescingRedis
from synchub.settings import load_settings
from synchub.stock import operations as stock
from synchub.sync_lag import operations as sync_lag

if TYPE_CHECKING:
    from collections.abc import Callable

    from synchub.demo.model import Cast
    from synchub.local_hub import LocalHub
    from synchub.sync_lag.model import SyncState

LAG_MS: Final = 4000
"""The desk brings every sale to the warehouse at once; this is a generous while after."""

OVERDUE_MS: Final = 8000
"""An acknowledgement that has not come by then is looked for."""

_SALES_AT_ONCE: Final = 100


class Merchant:
    """The demo merchant's records in one hub."""

    def __init__(self, hub: LocalHub) -> None:
        """Open the hub's registry; reads files, so call it before the event loop is busy."""
        self._hub = hub
        settings = load_settings(
            redis={"url": hub.store.url},
            secrets={"key_file": hub.key_file},
            archive={"folder": hub.archive},
        )
        manifests = {name: load_manifest(path / MANIFEST) for name, path in connector_folders().items()}
        self._redis = CoalescingRedis(settings.redis)
        # It may be the first to use a store that was started anew.
        self._historian = Historian(self._redis, settings)
        self._keys = MerchantKeys(MERCHANT)
        self._registry = Registry(
            redis=self._redis, vault=Vault.open(settings.secrets), manifests=manifests, settings=settings
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.close()

    def hook_url(self, cast: Cast) -> str:
        """Return where the platform posts."""
        return hook_url(self._hub.url, cast.account)

    async def secrets_of(self, cast: Cast) -> dict[str, str]:
        """Return the account's stored credentials, or new ones for an account that is still to be added.

        Raises:
            Misconfigured: somebody else has an account of that name.
        """
        everyone = {account.name: account for account in await accounts.list_accounts(self._redis)}
        account = everyone.get(cast.account)
        if account is None:
            return _new_secrets(cast.platform)
        if (account.merchant, account.platform) != (MERCHANT, cast.platform):
            msg = f"Account {account.name} of {account.merchant} is in the demo's way; use another --data."
            raise Misconfigured(msg)
        if account.role is not cast.role:
            msg = f"{self._hub.data} holds a demo of an earlier version; remove it, or use another --data."
            raise Misconfigured(msg)
        manifest = self._registry.manifest(cast.platform)
        view = accounts.open_view(self._registry.vault, account, manifest, at_ms=now_ms())
        return dict(view.credentials)

    async def connect(self, cast: Cast, credentials: dict[str, str], address: str) -> bool:
        """Add the account, or tell it where its platform is this time; True when it is new."""
        here = _address(cast.platform, address)
        wanted = NewAccount(
            platform=cast.platform,
            merchant=MERCHANT,
            name=cast.account,
            role=cast.role,
            credentials={**credentials, **here},
        )
        names = {account.name for account in await accounts.list_accounts(self._redis, MERCHANT)}
        if cast.account not in names:
            await accounts.add_account(self._registry, wanted)
            return True
        for name, value in here.items():
            if credentials.get(name) != value:
                await accounts.rotate_credential(self._registry, cast.account, name, value=value)
        return False

    async def trust_reads(self, cast: Cast) -> None:
        """Say after which time a level that is read contains every sale: an acknowledgement may be lost."""
        await choose_evidence(
            self._redis,
            MERCHANT,
            cast.account,
            ANY,
            Way.LAG,
            lag_ms=LAG_MS,
            manifests=self._registry.manifests,
        )

    async def admit_agent(self) -> str:
        """Return a key for the demo's agent; the one of the last run is revoked."""
        if AGENT in {agent.name for agent in await agents.list_agents(self._redis, MERCHANT)}:
            await agents.revoke_agent(self._redis, AGENT)
        issued = await agents.add_agent(self._redis, NewAgent(merchant=MERCHANT, name=AGENT))
        return issued.key

    async def is_mapped(self, cast: Cast, location: str) -> bool:
        """Whether the platform's location has the merchant's name."""
        found = await mappings.list_mappings(self._redis, self._keys, cast.account, limit=1)
        return location in found.locations

    async def parked(self, cast: Cast) -> int:
        """Return how many of the account's items wait for a mapping."""
        return (await mappings.count(self._redis, self._keys, cast.account)).parked

    async def map_location(self, cast: Cast, location: str) -> None:
        """Say which of the merchant's locations the platform's is; what waited is applied."""
        await mappings.map_location(
            self._redis, self._keys, cast.account, location, cast.ours, settings=self._registry.settings
        )

    async def settle_sales(self) -> int:
        """Settle what the last run left open: its warehouse is gone and will tell nothing of it any more."""
        settled = 0
        while (page := await stock.list_sales(self._redis, self._keys, limit=_SALES_AT_ONCE)).sales:
            for sale in page.sales:
                await stock.settle_sale(
                    self._redis,
                    self._keys,
                    sale.names,
                    cause="settled:demo:its platforms begin anew",
                    settings=self._registry.settings,
                )
                settled += 1
        return settled

    async def settle_shipped(self, is_shipped: Callable[[str], bool]) -> int:
        """Settle sales of agents that the warehouse has, and whose acknowledgement has not come for long.

        Nobody else can know: what the hub itself has sold is told to the warehouse by the merchant, and the
        merchant's order system sees there that it has arrived.
        """
        page = await stock.list_sales(self._redis, self._keys, older_than_ms=OVERDUE_MS, limit=_SALES_AT_ONCE)
        lost = [sale for sale in page.sales if not sale.origin and is_shipped(sale.hold)]
        for sale in lost:
            await stock.settle_sale(
                self._redis,
                self._keys,
                sale.names,
                cause="settled:demo:the warehouse has it",
                settings=self._registry.settings,
            )
        return len(lost)

    async def open_sales(self) -> int:
        """Return how many sales some level does not contain yet."""
        count = await stock.count_sales(self._redis, self._keys, overdue_after_ms=0)
        return count.open

    async def sync_states(self) -> dict[str, SyncState]:
        """Return what the hub thinks of each account."""
        return {name: one.state for name, one in (await sync_lag.read_accounts(self._redis)).items()}

    async def ledger_seq(self) -> int:
        """Return how many effects the merchant's ledger has."""
        return (await stock.read_head(self._redis, self._keys)).seq

    async def feed_seq(self) -> int:
        """Return the sequence of the last changed answer."""
        return (await stock.read_head(self._redis, self._keys)).feed_seq


def _new_secrets(platform: str) -> dict[str, str]:
    """What the platform's emulator signs and lets in with."""
    if platform == "standard":
        return {"signing_secret": new_secret()}
    signing = {"shiphero": "shared_signature_secret", "shopify": "client_secret"}[platform]
    return {signing: secrets.token_hex(16), "access_token": secrets.token_hex(16)}


def _address(platform: str, address: str) -> dict[str, str]:
    """Where the platform's API is, under the name its connector gives it."""
    if platform == "shiphero":
        return {"api_url": f"{address}/graphql"}
    return {"shop_domain": address} if platform == "shopify" else {}
