"""Merchants on a running store: an account that may send and an agent that may ask."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from synchub.accounts import operations as accounts
from synchub.accounts.model import NewAccount
from synchub.accounts.operations import Registry
from synchub.accounts.vault import Vault
from synchub.agents import operations as agents
from synchub.agents.operations import NewAgent
from synchub.connector_kit.discovery import discover
from synchub.keyspace import MerchantKeys
from synchub.redis import CoalescingRedis
from tests.support.registry import KEY, settings_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synchub.accounts.model import Role

CONNECTORS: Final = discover()
"""The shipped connectors; found here once because looking for them reads files."""

_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Merchant:
    """One merchant with one account and one agent."""

    name: str
    account: str
    secret: str = field(repr=False)
    key: str = field(repr=False)

    @property
    def keys(self) -> MerchantKeys:
        """Where its stock lies."""
        return MerchantKeys(self.name)

    @property
    def hook(self) -> str:
        """The path that its platform posts to."""
        return f"/hooks/{self.account}"


async def add_merchant(
    redis_url: str,
    name: str = "",
    *,
    platform: str = "standard",
    credentials: Mapping[str, str] | None = None,
    role: Role | None = None,
) -> Merchant:
    """Add a merchant whose name no other has; a hub that runs knows it within milliseconds."""
    settings = settings_for(redis_url)
    redis = CoalescingRedis(settings.redis)
    manifests = {name: connector.manifest for name, connector in CONNECTORS.items()}
    registry = Registry(redis=redis, vault=Vault(KEY), manifests=manifests, settings=settings)
    merchant = name or f"merchant-{next(_numbers)}"
    wanted = NewAccount(platform=platform, merchant=merchant, credentials=credentials or {}, role=role)
    try:
        added = await accounts.add_account(registry, wanted)
        issued = await agents.add_agent(redis, NewAgent(merchant=merchant))
    finally:
        await redis.close()
    return Merchant(name=merchant, account=added.account.name, secret=added.secret or "", key=issued.key)
