"""A hub of processes and an emulated platform as a process, with a line in each direction that can be bad."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from synchub.accounts.model import Role
from synchub.connector_kit.signatures import new_secret
from synchub.mappings import operations as mappings
from synchub.polling import operations as polling
from synchub.redis import CoalescingRedis
from synchub.sync_lag import operations as sync_lag
from tests.support.fault_proxy import FaultProxy
from tests.support.merchants import add_merchant
from tests.support.processes import free_port
from tests.support.registry import settings_for
from tests.support.source import ROOT
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from synchub.polling.model import PollState
    from synchub.sync_lag.model import AccountSync, SyncState
    from tests.support.merchants import Merchant
    from tests.support.processes import Deployment
    from tests.support.valkey import Valkey

SHORT_TIMES: Final = {
    "UPSTREAM__PRIVATE_TARGETS": "127.0.0.0/8",
    "UPSTREAM__BACKOFF_BASE_MS": "50",
    "INGRESS__CLAIM_IDLE_MS": "500",
    "INGRESS__CLAIM_EVERY_MS": "100",
    "REDIS__COMMAND_TIMEOUT_MS": "500",
    "POLLING__LOOK_EVERY_MS": "50",
    "POLLING__SAFETY_EVERY_MS": "1000",
    "POLLING__BUSY_EVERY_MS": "500",
    "POLLING__QUIET_EVERY_MS": "500",
    "POLLING__RETRY_BASE_MS": "100",
    "POLLING__RETRY_MAX_MS": "500",
    "SYNC__LOOK_EVERY_MS": "100",
    "SYNC__GRACE_MS": "500",
    "SYNC__CANARY_EVERY_MS": "1000",
    "REFETCH__CONFIRM_AFTER_MS": "0",
}
"""A trial lasts for seconds where production waits for minutes."""

PATIENCE_S: Final = 30.0
PLACE: Final = "WH1"
TOKEN: Final = "emulated-token"
_LOCATIONS: Final = {"shopify": "24826418", "shiphero": "76733"}
"""What the emulators call their first location."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a platform has."""

    levels: Mapping[str, int]
    """By SKU."""
    orders: Mapping[str, int]
    """Open units by the platform's name of the order."""
    counts: Mapping[str, int]
    """What became of its deliveries."""


@dataclass(kw_only=True)
class Shop:
    """One platform, its merchant at the hub, and what stands between the two."""

    hub: Deployment
    merchant: Merchant
    platform: str
    to_api: FaultProxy
    """On the way of the hub's calls."""
    to_hub: FaultProxy
    """On the way of the platform's deliveries."""
    store: Valkey
    redis: CoalescingRedis
    http: aiohttp.ClientSession
    port: int
    argv: tuple[str, ...]
    _process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    async def open(self, *options: str) -> None:
        """Start the platform; one that was started before has forgotten everything since."""
        self._process = await asyncio.create_subprocess_exec(
            *self.argv, *options, stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        assert self._process.stdout is not None
        assert json.loads(await self._process.stdout.readline())["port"] == self.port

    async def close(self) -> None:
        """End the platform as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.wait()

    async def post(self, what: str, **wish: object) -> dict[str, Any]:
        """Tell the emulator something."""
        address = f"http://127.0.0.1:{self.port}/_emulator/{what}"
        async with self.http.post(address, json=wish) as answer:
            answer.raise_for_status()
            return dict(await answer.json())

    async def shows(self, fault: str, *, is_on: bool) -> None:
        """Have the platform misbehave, or behave again."""
        await self.post("fault", kind=fault, is_on=is_on)

    async def calls(self) -> Counter[str]:
        """How often it was called, by what came of it; ``total`` is all."""
        told = await self._get("calls")
        counts = sum((Counter(results) for results in told["calls"].values()), Counter[str]())
        return counts + Counter(total=told["total"])

    async def changes(self) -> int:
        """How many changes of levels there have been."""
        # The emulator tells those after a number, and numbers orders with them where orders have numbers.
        told = await self._get("told")
        return max((int(change["number"]) for change in told["changes"]), default=0)

    async def truth(self) -> Truth:
        """What it has at this moment."""
        told = await self._get("truth")
        return Truth(
            levels={told["skus"][item]: sum(held.values()) for item, held in told["levels"].items()},
            orders={name: order["quantity"] for name, order in told["orders"].items()},
            counts={name: count for name, count in told.items() if isinstance(count, int)},
        )

    def numbers(self, skus: Mapping[str, int]) -> dict[str, int]:
        """What the hub has of these SKUs."""
        with self.store.client() as client:
            found = {sku: client.hget(self.merchant.keys.sku(sku), "answer") for sku in skus}
        return {sku: int(answer.split("|")[2]) for sku, answer in found.items() if answer}

    def ledger(self) -> list[dict[str, str]]:
        """Every effect so far, with its sequence under ``seq``."""
        with self.store.client() as client:
            entries: Any = client.xrange(self.merchant.keys.ledger)
        return [{**fields, "seq": name.partition("-")[0]} for name, fields in entries]

    async def differences(self) -> dict[str, tuple[int | None, int]]:
        """Where the hub's number is not the platform's: both, by SKU."""
        levels = (await self.truth()).levels
        numbers = self.numbers(levels)
        return {sku: (numbers.get(sku), level) for sku, level in levels.items() if numbers.get(sku) != level}

    async def agree(self, within_s: float = PATIENCE_S) -> None:
        """Return when the hub's numbers are the platform's."""

        async def do_agree() -> bool:
            return not await self.differences()

        try:
            await eventually(do_agree, within_s=within_s, what="the platform's numbers")
        except AssertionError:
            msg = f"The hub's numbers are not the platform's: {await self.differences()}, {await self.told()}"
            raise AssertionError(msg) from None

    async def sync(self) -> AccountSync | None:
        """What the hub thinks of the platform's deliveries."""
        return (await sync_lag.read_accounts(self.redis)).get(self.merchant.account)

    async def polls(self) -> PollState | None:
        """How the hub's polls of it go."""
        return (await polling.read_polls(self.redis, self.merchant.name)).get(self.merchant.account)

    async def is_in(self, *states: SyncState, within_s: float = PATIENCE_S) -> None:
        """Return when the hub thinks so of the platform's deliveries."""

        async def is_so() -> bool:
            known = await self.sync()
            return known is not None and known.state in states

        what = " or ".join(states)
        try:
            await eventually(is_so, within_s=within_s, what=what)
        except AssertionError:
            msg = f"It is not {what}: {await self.told()}"
            raise AssertionError(msg) from None

    async def told(self) -> str:
        """What the hub knows of the platform, for whoever looks for a mistake."""
        return f"{await self.sync()} {await self.polls()} {await self.calls()}"

    def metric(self, name: str) -> float:
        """The sum of a metric over all workers that answer, whatever its labels."""
        present = [one for one in self.hub.workers if one.runs and one.answers("/livez")]
        lines = (line for one in present for line in one.text("/metrics").splitlines())
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    async def _get(self, what: str) -> dict[str, Any]:
        async with self.http.get(f"http://127.0.0.1:{self.port}/_emulator/{what}") as answer:
            return dict(await answer.json())


@contextlib.asynccontextmanager
async def joined(
    hub: Deployment,
    platform: str,
    *options: str,
    store: Valkey | None = None,
    door_url: str = "",
    credentials: Mapping[str, str] | None = None,
) -> AsyncIterator[Shop]:
    """Start a platform and give a hub that runs an account there; ``options`` are the emulator's.

    ``door_url`` is where the hub reaches its store, if that is not the store itself.
    """
    port, store = free_port(), store or hub.valkey
    async with (
        FaultProxy(port) as to_api,
        FaultProxy(hub.api.port) as to_hub,
        aiohttp.ClientSession(trust_env=False) as http,
    ):
        keys = {**_keys_of(platform), **(credentials or {})}
        merchant = await add_merchant(
            store.url,
            platform=platform,
            credentials={**keys, **_address(platform, to_api.port, keys)},
            # Its levels are the stock, whatever else it does.
            role=Role.AUTHORITY,
        )
        emulator_keys = [word for pair in keys.items() for word in ("--credential", "=".join(pair))]
        hook_url = f"http://127.0.0.1:{to_hub.port}{merchant.hook}"
        argv = (
            *(sys.executable, "-m", f"connectors.{platform}.emulator", "--port", str(port), "--paused"),
            *("--hook-url", hook_url, "--locations", PLACE, "--tries", "40", *emulator_keys, *options),
        )
        settings = settings_for(door_url or store.url)
        redis = CoalescingRedis(settings.redis)
        shop = Shop(
            hub=hub,
            merchant=merchant,
            platform=platform,
            to_api=to_api,
            to_hub=to_hub,
            store=store,
            redis=redis,
            http=http,
            port=port,
            argv=argv,
        )
        try:
            await shop.open()
            if platform in _LOCATIONS:
                there, account = _LOCATIONS[platform], merchant.account
                await mappings.map_location(redis, merchant.keys, account, there, PLACE, settings=settings)
            yield shop
        finally:
            await shop.close()
            await redis.close()


def _keys_of(platform: str) -> dict[str, str]:
    if platform == "standard":
        return {"signing_secret": new_secret()}
    if platform == "shopify":
        return {"client_secret": "shpss_emulated", "access_token": TOKEN}
    if platform == "shiphero":
        return {"shared_signature_secret": "sh_emulated", "access_token": TOKEN}
    return {}


def _address(platform: str, port: int, keys: Mapping[str, str]) -> dict[str, str]:
    here = f"http://127.0.0.1:{port}"
    if platform == "shopify":
        return {"shop_domain": here}
    if platform == "shiphero":
        return {"api_url": f"{here}/graphql"}
    return {"url": here + keys["url"], **ROWS} if platform == "http_json" else {}


BY_TIME: Final = {
    "url": "/stock/updated?limit=50",
    "cursor_kind": "updated_since",
    "cursor_param": "since",
    "updated_path": "updated_at",
    "tie_param": "after_id",
    "id_path": "id",
    "page_size": "50",
    "overlap_s": "30",
}
"""The endpoint that gives what changed since a time."""
ROWS: Final = {
    "items_path": "data.rows",
    "sku_path": "sku",
    "quantity_path": "stock.available",
    "location_path": "warehouse",
    "sequence_path": "id",
}
"""What a row of the emulated endpoint is made of."""
BY_TOKEN: Final = {
    "url": "/stock/delta?limit=50",
    "cursor_kind": "opaque",
    "cursor_param": "token",
    "cursor_path": "token",
    "next_path": "next",
    "page_param": "token",
}
"""The endpoint that gives whatever came after a token, as an account's settings."""
