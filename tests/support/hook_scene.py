"""A platform that forgets, refuses, hangs and changes its mind, and the guard that looks after it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from synchub.accounts import operations as accounts
from synchub.accounts.model import AccountView, NewAccount
from synchub.accounts.operations import Registry, open_view
from synchub.connector_kit.contract import Access, Connector, HookReport, HookState
from synchub.hook_guard import operations as guard
from synchub.hook_guard import store
from synchub.hook_guard.model import GuardState
from synchub.hook_guard.operations import Means
from synchub.kit.clock import now_ms
from synchub.sync_settings import HookGuardSettings
from tests.support.registry import SHOP_CREDENTIALS, a_shop, open_registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

PUBLIC: Final = "https://hub.example.com"
OFFERS: Final = {"subscription": {"check": True}, "polling": {"cursor": "opaque", "page_max": 100}}


@dataclass
class Platform:
    """What the platform has, and what it was asked."""

    state: HookState = HookState.SOUND
    secrets: dict[str, str] = field(default_factory=dict)
    """Told with every answer to a repair."""
    asked: list[str] = field(default_factory=list)
    problem: Exception | None = None
    """What every question meets."""
    before_repair: Callable[[], Any] | None = None
    does_repair: bool = True
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_answer.set()

    @property
    def repairs(self) -> int:
        """How often it was asked to send again."""
        return sum(what.startswith("repair") for what in self.asked)

    async def answer(self, what: str, hook_url: str) -> HookReport:
        """Answer one call."""
        self.asked.append(f"{what} {hook_url}")
        self.entered.set()
        await self.may_answer.wait()
        if self.problem is not None:
            raise self.problem
        if what == "repair":
            if self.before_repair is not None:
                self.before_repair()
            if self.does_repair:
                self.state = HookState.SOUND
            return HookReport(state=self.state, secrets=self.secrets)
        return HookReport(state=self.state)


@dataclass(kw_only=True)
class Scene:
    """One account of the platform, and whoever the guard speaks with."""

    platform: Platform
    registry: Registry
    account: AccountView
    connector: Connector
    polled_ms: int = 0
    """When the last poll began that reached the end."""
    told: list[HookState] = field(default_factory=list)
    polled: list[str] = field(default_factory=list)

    @property
    def means(self) -> Means:
        """What the guard is given."""
        return Means(
            redis=self.registry.redis,
            registry=self.registry,
            open_access=lambda account, _: Access(http=None, credentials=account.credentials),  # type: ignore[arg-type]  # the double has no network
            tell=self._tell,
            poll_soon=self._poll_soon,
            has_polled=self._has_polled,
        )

    async def _tell(self, _: AccountView, __: int, state: HookState, sentence: str) -> None:
        assert sentence
        self.told.append(state)

    async def _poll_soon(self, account: AccountView) -> None:
        self.polled.append(account.name)

    async def _has_polled(self, _: AccountView, since_ms: int) -> bool:
        return self.polled_ms >= since_ms

    async def look(self) -> GuardState:
        """Let the guard have its turn; returns what it knows then."""
        await guard.look_after(self.means, self.account, self.connector)
        return await self.state()

    async def state(self) -> GuardState:
        """What the guard knows."""
        found = await guard.read_guard(self.registry.redis, self.account.merchant)
        return found.get(self.account.name, GuardState())

    async def later(self, ms: int) -> None:
        """Move everything that is known so far into the past."""
        state = await self.state()
        moved = {
            name: max(0, getattr(state, name) - ms)
            for name in ("since_ms", "checked_ms", "due_ms", "backfill_from_ms", "need_since_ms")
        }
        earlier = replace(state, **moved, repairs=tuple(at - ms for at in state.repairs))
        await store.write(self.registry.redis, self.account.merchant, self.account.name, earlier)

    async def view(self) -> AccountView:
        """The account as the registry has it now."""
        found = await accounts.find_account(self.registry.redis, self.account.name)
        return open_view(self.registry.vault, found, self.connector.manifest, at_ms=now_ms())


@contextlib.asynccontextmanager
async def a_scene(
    redis_url: str, guarded: HookGuardSettings | None = None, **offers: Any
) -> AsyncIterator[Scene]:
    platform = Platform()

    class Client:
        def __init__(self, access: Access) -> None:
            self.access = access

        async def check_subscription(self, hook_url: str) -> HookReport:
            return await platform.answer("check", hook_url)

        async def repair_subscription(self, hook_url: str) -> HookReport:
            return await platform.answer("repair", hook_url)

    manifest = a_shop(**(OFFERS | offers))
    connector = Connector(
        manifest=manifest,
        verify=lambda *_, **__: None,
        normalize=lambda *_: (),
        client=Client,
    )
    async with open_registry(redis_url) as base:
        settings = base.settings.model_copy(
            update={
                "server": base.settings.server.model_copy(update={"public_url": PUBLIC}),
                "hook_guard": guarded or HookGuardSettings(),
            }
        )
        registry = replace(base, manifests={manifest.name: manifest}, settings=settings)
        wanted = NewAccount(platform="shop", merchant="acme", credentials=SHOP_CREDENTIALS)
        added = await accounts.add_account(registry, wanted)
        account = open_view(registry.vault, added.account, manifest, at_ms=now_ms())
        yield Scene(platform=platform, registry=registry, account=account, connector=connector)
