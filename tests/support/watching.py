"""A judge on a real store whose clock the test moves, and what it is told."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from synchub.connector_kit.manifest import LimitsOffer, PollingOffer, SubscriptionOffer
from synchub.sync_lag import operations as sync_lag
from synchub.sync_lag import store
from synchub.sync_lag.model import Everyone, Heard, PollFinding, Second, SyncState
from synchub.sync_lag.operations import Watcher
from tests.support.hub import opened_hub, settings_with
from tests.support.merchants import CONNECTORS, Merchant, add_merchant
from tests.support.silent_shop import SilentShop
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from synchub.accounts.model import AccountView
    from synchub.connector_kit.contract import Access, Connector
    from synchub.connector_kit.events import StockEvent
    from synchub.hub import Hub
    from synchub.sync_lag.model import AccountSync

STEP_MS: Final = 9000
"""Less than what counts as a pause in judging."""
LEARNED_MS: Final = SilentShop().now + 4 * 168 * 3_600_000
"""When a shop that has learned begins to be judged."""


class AskedClient:
    """A platform's client that can provoke a sign of life."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def fetch_levels(self, items: Sequence[str]) -> tuple[StockEvent, ...]:
        """Know nothing."""
        del items
        return ()

    async def ask_canary(self) -> bool:
        """Make its harmless change."""
        answer = await self._access.http.send("POST", self._access.credentials["api_url"], json={})
        return answer.status == 200


def offering(*, canary: str = "sent", polled: bool = True) -> dict[str, Connector]:
    """The ``standard`` connector as if it could also be polled, or asked for a sign of life."""
    shipped = CONNECTORS["standard"]
    about: dict[str, Any] = {"subscription": SubscriptionOffer.model_validate({"canary": canary})}
    if polled:
        about["polling"] = PollingOffer(cursor="sweep", page_max=10)
        about["limits"] = LimitsOffer(capacity=1000, restored_per_s=1000)
    client = AskedClient if canary == "asked" else None
    return {"standard": replace(shipped, manifest=shipped.manifest.model_copy(update=about), client=client)}


@dataclass(kw_only=True)
class Watched:
    """One account, the judge, and the judge's clock."""

    hub: Hub
    account: str
    judge: Watcher
    now: int
    asks: list[int]
    """When it was asked for a sign of life."""

    async def hear(self, count: int = 1) -> None:
        """Have a worker hand in deliveries."""
        one = Heard(topic="stock", count=count, first_ms=self.now, last_ms=self.now)
        await self.second(heard=(one,))

    async def second(self, **fields: Any) -> None:
        """Have a worker hand in whatever it heard."""
        await store.note_heard(self.hub.redis, {self.account: Second(**fields)}, behind_ms=0, receives=False)

    async def poll(self, unseen: int = 0, *, age_ms: int = 0, **fields: Any) -> None:
        """Have a poll find something."""
        oldest_ms = self.now - age_ms if unseen else None
        finding = PollFinding(
            at_ms=self.now,
            reached_end=True,
            records=unseen,
            unseen=unseen,
            oldest_unseen_ms=oldest_ms,
            **fields,
        )
        await sync_lag.note_poll(self.hub.redis, self.account, finding)

    async def wait(self, ms: int) -> SyncState:
        """Let the judge look every few seconds for so long, and return the state."""
        until = self.now + ms
        while self.now < until:
            self.now = min(until, self.now + STEP_MS)
            await self.judge.turn(self.now)
        return (await self.known()).state

    async def known(self) -> AccountSync:
        """What is said of the account."""
        return (await sync_lag.read_accounts(self.hub.redis))[self.account]


@asynccontextmanager
async def watched(
    redis_url: str, *, learned: float = 0, canary: str = "sent", polled: bool = True, **sync: Any
) -> AsyncIterator[Watched]:
    """Watch an account; ``learned`` is how many deliveries an hour it is known to have."""
    merchant: Merchant = await add_merchant(redis_url)
    async with opened_hub(settings_with(redis_url, sync=sync)) as hub:
        await eventually(lambda: hub.directory.find_account(merchant.account) is not None, what="the account")
        asks: list[int] = []

        async def ask(_view: AccountView, _connector: Connector) -> bool:
            asks.append(about.now)
            return True

        judge = Watcher(hub.redis, hub.directory, offering(canary=canary, polled=polled), hub.settings, ask)
        about = Watched(hub=hub, account=merchant.account, judge=judge, now=LEARNED_MS, asks=asks)
        if learned:
            shop = SilentShop()
            shop.learn(learned)
            await store.write_memories(hub.redis, {merchant.account: shop.watch.as_json()})
            await store.write_verdicts(hub.redis, [], Everyone(judged_ms=about.now))
        await judge.turn(about.now)
        yield about
        await judge.retire()
