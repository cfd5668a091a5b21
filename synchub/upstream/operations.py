"""Calls to platforms on behalf of accounts: the one way out of a process, and what is known of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from synchub.connector_kit.contract import Access
from synchub.kit.tasks import end, is_ending
from synchub.upstream import rules, store
from synchub.upstream.breakers import SharedBreaker
from synchub.upstream.budgets import Budget
from synchub.upstream.calling import AccountHttp, Line
from synchub.upstream.model import Place
from synchub.upstream.reach import Reach, Times
from synchub.upstream.retrying import RetryBudget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from synchub.accounts.model import AccountView
    from synchub.connector_kit.contract import Connector
    from synchub.lua import Executes
    from synchub.settings import Settings
    from synchub.upstream.model import Operation, Priority, UpstreamState

ACCOUNTS_MAX: Final = 10_000
"""Accounts whose calls a process remembers; the one that called longest ago is forgotten."""
QUICK: Final = "_quick"
"""Calls with a shorter deadline have a breaker of their own: what is too slow for them is not for all."""


@dataclass(slots=True)
class _Calls:
    """What a process knows of the calls to one account."""

    budget: Budget
    retries: RetryBudget
    breakers: dict[str, SharedBreaker] = field(default_factory=dict)


class Upstream:
    """The one way out to platforms of a process."""

    def __init__(
        self,
        redis: Executes,
        session: aiohttp.ClientSession,
        settings: Settings,
        *,
        times: Times | None = None,
    ) -> None:
        self._settings = settings.upstream
        self._session = session
        self._reach = Reach(redis, settings.upstream, times or Times())
        self._calls: OrderedDict[Place, _Calls] = OrderedDict()

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[Upstream]:
        """Learn what other processes find out about platforms, for as long as the block runs."""
        sharing = asyncio.create_task(self._share(), name="share-upstream")
        try:
            yield self
        finally:
            await end(sharing)
            await self._reach.finish()

    def access(
        self,
        account: AccountView,
        connector: Connector,
        operation: Operation,
        *,
        priority: Priority,
        deadline_ms: int | None = None,
    ) -> Access:
        """Return what a client needs for calls of one kind: inside limits, and not while the platform fails.

        A call waits for its turn up to ``upstream.wait_max_ms``; the answer must be complete
        ``upstream.deadline_ms`` after its turn. With ``deadline_ms`` the wait is part of that time.
        """
        place = Place(merchant=account.merchant, account=account.name)
        calls = self._calls_of(place, connector)
        is_quick = deadline_ms is not None and deadline_ms < self._settings.deadline_ms
        line = Line(
            connector=connector.name,
            operation=operation,
            priority=priority,
            budget=calls.budget,
            breaker=self._breaker(calls, place, operation.value + (QUICK if is_quick else "")),
            retries=calls.retries,
            reach=self._reach,
            session=self._session,
            read_quota=connector.read_quota,
            deadline_ms=deadline_ms or self._settings.deadline_ms,
            counts_the_wait=deadline_ms is not None,
        )
        return Access(http=AccountHttp(line), credentials=account.credentials)

    def _calls_of(self, place: Place, connector: Connector) -> _Calls:
        calls = self._calls.get(place)
        if calls is None:
            self._forget_one()
            limits = rules.limits_of(connector.manifest.limits)
            calls = self._calls[place] = _Calls(
                budget=Budget(place, limits, connector.name, self._reach),
                retries=RetryBudget(self._settings.retry_percent),
            )
        self._calls.move_to_end(place)
        return calls

    def _forget_one(self) -> None:
        if len(self._calls) < ACCOUNTS_MAX:
            return
        idle = next((place for place, calls in self._calls.items() if calls.budget.is_idle), None)
        if idle is not None:
            del self._calls[idle]

    def _breaker(self, calls: _Calls, place: Place, operation: str) -> SharedBreaker:
        if operation not in calls.breakers:
            calls.breakers[operation] = SharedBreaker(place, operation, self._reach)
        return calls.breakers[operation]

    async def _share(self) -> None:
        """Look whether the store is back, and whether others have closed breakers that are open here."""
        while not is_ending():
            await asyncio.sleep(self._settings.share_every_ms / 1000)
            if self._reach.is_away:
                await self._reach.look()
            for calls in tuple(self._calls.values()):
                for breaker in tuple(calls.breakers.values()):
                    if not breaker.is_closed:
                        await breaker.look()


async def read_upstream(redis: Executes, account: AccountView) -> UpstreamState:
    """Return how the calls to one account's platform stand, for whoever operates the hub.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store does not say.
    """
    place = Place(merchant=account.merchant, account=account.name)
    budget, breakers, now_ms = await store.read(redis, place)
    return rules.upstream_state(budget, breakers, now_ms=now_ms)
