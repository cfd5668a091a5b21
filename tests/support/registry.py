"""A registry over a real store, with the manifests of three platforms that differ in what matters."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from synchub.accounts.operations import Registry
from synchub.accounts.vault import Vault
from synchub.connector_kit.contract import Connector
from synchub.connector_kit.manifest import Manifest
from synchub.redis import CoalescingRedis
from synchub.settings import RedisSettings, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.connector_kit.delivery import Delivery
    from synchub.connector_kit.events import StockEvent

KEY: Final = bytes(range(32))
OTHER_KEY: Final = bytes(range(1, 33))


def a_manifest(name: str = "standard", kind: str = "custom", **changes: Any) -> Manifest:
    """A platform whose secret the hub chooses and whose ids are the merchant's, unless said otherwise."""
    told: dict[str, Any] = {
        "name": name,
        "title": name.title(),
        "kind": kind,
        "docs": ["https://example.com"],
        "receive": {"topic": ["body:type"], "dedupe": [["topic", "body-hash"]]},
        "ids": {"items": "sku", "locations": "merchant"},
        "reports": {"number": "available", "lowered_by": "order"},
        "version": {"kind": "strict"},
        "evidence": {"offers": ["ref"]},
        "credentials": {"signing_secret": {"title": "Signing secret", "signing": True, "generated": True}},
        "topics": {},
    }
    return Manifest.model_validate(told | changes)


def a_shop(**changes: Any) -> Manifest:
    """A platform with ids, secrets and an API of its own."""
    told: dict[str, Any] = {
        "ids": {"items": "platform", "locations": "platform"},
        "credentials": {
            "client_secret": {"title": "Client secret", "signing": True},
            "shop_domain": {"title": "Domain", "secret": False},
            "access_token": {"title": "Access token", "required": False},
        },
        "client": {"fetch_levels_max": 25},
        "limits": {"capacity": 40, "restored_per_s": 2},
    }
    return a_manifest("shop", "dtc", **(told | changes))


def a_warehouse() -> Manifest:
    """A warehouse whose secret is given and whose locations are its own."""
    return a_manifest(
        "depot",
        "wms",
        ids={"items": "sku", "locations": "platform"},
        credentials={"shared_secret": {"title": "Shared secret", "signing": True}},
    )


MANIFESTS: Final = {manifest.name: manifest for manifest in (a_manifest(), a_shop(), a_warehouse())}
SHOP_CREDENTIALS: Final = {"client_secret": "hush", "shop_domain": "a.example"}


def connectors() -> dict[str, Connector]:
    """The platforms as connectors that accept everything and understand nothing."""
    return {
        name: Connector(manifest=manifest, verify=_accept, normalize=_nothing, client=None)
        for name, manifest in MANIFESTS.items()
    }


def settings_for(url: str) -> Settings:
    """Ordinary settings with this store; no file is read."""
    return Settings.model_construct(redis=RedisSettings(url=url, connect_timeout_ms=10_000))


@contextlib.asynccontextmanager
async def open_registry(url: str, *, key: bytes = KEY) -> AsyncIterator[Registry]:
    """A registry whose encryption key is ``key``."""
    settings = settings_for(url)
    redis = CoalescingRedis(settings.redis)
    try:
        yield Registry(redis=redis, vault=Vault(key), manifests=MANIFESTS, settings=settings)
    finally:
        await redis.close()


def _accept(delivery: Delivery, secrets: object, *, now_ms: int) -> None:
    """Believe everything."""


def _nothing(topic: str, delivery: Delivery) -> tuple[StockEvent, ...]:
    return ()
