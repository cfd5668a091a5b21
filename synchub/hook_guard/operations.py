"""Ask platforms whether they still send to us, repair what was dropped, say when a person is needed.

A repair is noted before it begins and its new secrets are kept before anything else, so that a crash at any
point neither repairs without end nor forgets what deliveries are signed with. An account counts as complete
again only when polls have reached the end after the repair.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.accounts.operations import rotate_credential
from synchub.accounts.rules import hook_url
from synchub.errors import (
    Fault,
    InvalidRequest,
    SynchubError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamThrottled,
)
from synchub.hook_guard import rules, store
from synchub.hook_guard.model import GuardState, Need, Wish
from synchub.kit.backoff import full_jitter_s
from synchub.kit.clock import now_ms
from synchub.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from synchub.accounts.model import AccountView
    from synchub.accounts.operations import Registry
    from synchub.connector_kit.contract import Access, Connector, HookReport, HooksClient, HookState
    from synchub.lua import Executes
    from synchub.settings import Settings

ROUND_S: Final = store.LEASE_MS / 1000 - 10
"""A round that takes longer is given up, before another worker may begin one."""
_KEEP_TRIES: Final = 5
_KEEP_BASE_S: Final = 0.2
_KEEP_MAX_S: Final = 2.0
_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the guard needs of the rest of the hub."""

    redis: Executes
    registry: Registry
    open_access: Callable[[AccountView, Connector], Access]
    """The way to an account's platform, within its budget."""
    tell: Callable[[AccountView, int, HookState, str], Awaitable[None]]
    """Takes what a platform said, when, and a sentence, to whoever judges silence."""
    poll_soon: Callable[[AccountView], Awaitable[None]]
    has_polled: Callable[[AccountView, int], Awaitable[bool]]
    """Says whether a poll that began at or after this time has reached the end."""


def is_reached(account: AccountView, settings: Settings) -> bool:
    """Say whether the account's platform can post to the public address; otherwise asking makes no sense."""
    return rules.reaches(settings.server.public_url, account.credentials.values())


async def read_guard(redis: Executes, merchant: str) -> dict[str, GuardState]:
    """Return what is known of each of the merchant's accounts, by its name.

    Raises:
        StoreUnavailable, OutcomeUnknown.
    """
    return await store.read(redis, merchant)


async def check_soon(redis: Executes, merchant: str, account: str, *, may_repair: bool = False) -> None:
    """Have the platform asked at the guard's next look; ``may_repair`` counts the repairs of the day anew.

    Raises:
        StoreUnavailable, OutcomeUnknown.
    """
    await store.begin(redis, merchant, account, GuardState())
    await store.wish(redis, merchant, account, Wish.REPAIR if may_repair else Wish.CHECK)


async def begin(means: Means, account: AccountView) -> None:
    """Take a new account on: it is asked about within a fifth of the ordinary time."""
    state = rules.first(now_ms(), _chance(), means.registry.settings.hook_guard)
    await store.begin(means.redis, account.merchant, account.name, state)


async def look_after(means: Means, account: AccountView, connector: Connector) -> None:
    """Do what is due for one account; nothing when another worker is at it.

    Raises:
        StoreUnavailable, OutcomeUnknown: the store cannot be asked; it is due again.
    """
    async with store.turn(means.redis, account.merchant, account.name) as is_ours:
        if is_ours:
            await _Round(means, account, connector).take()


class _Round:
    """One look at one account."""

    def __init__(self, means: Means, account: AccountView, connector: Connector) -> None:
        self._means = means
        self._account = account
        self._connector = connector
        self._settings = means.registry.settings.hook_guard
        self._url = hook_url(means.registry.settings.server.public_url, account.name)
        self._state = GuardState()
        self._kept = dict(account.credentials)

    async def take(self) -> None:
        """Look whether polls have reached the end, and ask the platform if it is time."""
        redis, merchant, name = self._means.redis, self._account.merchant, self._account.name
        wish = await store.take_wish(redis, merchant, name)
        self._state = await store.read_one(redis, merchant, name) or GuardState()
        before = self._state
        if wish is Wish.REPAIR:
            self._state = replace(self._state, repairs=())
        await self._look_at_backfill()
        if wish is not None or self._state.due_ms <= now_ms():
            await self._ask()
        if self._state != before:
            await self._keep()
        self._say_need(before)

    async def _look_at_backfill(self) -> None:
        if not self._state.is_missed or rules.is_broken(self._state):
            return
        if not await self._means.has_polled(self._account, self._state.backfill_from_ms):
            return
        self._state = replace(self._state, backfill_from_ms=0)
        _log.info("hooks_caught_up", account=self._account.name)
        await self._tell()

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(ROUND_S):
                result = await self._ask_and_repair()
        except UpstreamRefused as refusal:
            result = "refused"
            self._state = rules.refused(self._state, refusal.detail, now_ms(), _chance(), self._settings)
        except (UpstreamThrottled, UpstreamFailed) as problem:
            result = "throttled" if isinstance(problem, UpstreamThrottled) else "failed"
            self._fail(problem.detail, wait_ms=1000 * (problem.retry_after_s or 0))
        except TimeoutError:
            result = "failed"
            self._fail(f"It was not done within {ROUND_S:.0f} s.")
        except SynchubError:
            raise  # of the store or of ours
        except Exception as fault:  # noqa: BLE001 - a connector's fault must stay with its own account
            result = "failed"
            self._fail(f"{type(fault).__name__} in the connector {self._connector.name}.")
        metrics.hook_checks.labels(self._connector.name, result).inc()

    def _fail(self, error: str, *, wait_ms: int = 0) -> None:
        if not self._state.failures:
            _log.warning("hooks_not_checked", account=self._account.name, reason=error)
        self._state = rules.failed(self._state, error, now_ms(), _chance(), self._settings, wait_ms=wait_ms)

    async def _ask_and_repair(self) -> str:
        """Ask, repair if need be, and say how it stands then."""
        client = self._client()
        await self._hear(await client.check_subscription(self._url))
        if rules.is_broken(self._state):
            await self._tell()
        is_wanted = rules.is_broken(self._state) or self._state.is_repairing
        is_repaired = is_wanted and rules.may_repair(self._state, now_ms(), self._settings)
        if is_repaired:
            await self._repair(client)
        if not rules.is_broken(self._state) and not self._state.is_missed:
            await self._tell()
        self._state = rules.concluded(self._state, now_ms(), _chance(), self._settings, is_soon=is_repaired)
        assert self._state.hooks is not None  # noqa: S101 - it has just been heard
        return self._state.hooks.value

    def _client(self) -> HooksClient:
        offered = self._connector.hooks_client
        assert offered is not None  # noqa: S101 - the loop takes no others
        return offered(self._means.open_access(self._account, self._connector))

    async def _hear(self, report: HookReport) -> None:
        # First of all: from this moment on deliveries may be signed with them.
        await self._keep_secrets(report)
        was_broken = rules.is_broken(self._state)
        is_polled = self._connector.pages_client is not None
        self._state = rules.heard(self._state, report, now_ms(), is_polled=is_polled)
        said = rules.sentence(self._state)
        if rules.is_broken(self._state) and not was_broken:
            _log.warning("hooks_lost", account=self._account.name, reason=said)
        if was_broken and not rules.is_broken(self._state):
            _log.info("hooks_back", account=self._account.name, reason=said)
            await self._means.poll_soon(self._account)

    async def _repair(self, client: HooksClient) -> None:
        self._state = rules.repairing(self._state, now_ms())
        await self._keep()
        await self._hear(await client.repair_subscription(self._url))
        self._state = replace(self._state, is_repairing=False)
        outcome = "in_vain" if rules.is_broken(self._state) else "done"
        metrics.hook_repairs.labels(self._connector.name, outcome).inc()

    async def _keep_secrets(self, report: HookReport) -> None:
        """Accept what deliveries are signed with from now on, beside what they were signed with until now."""
        for name, value in report.secrets.items():
            if self._kept.get(name) != value:
                await self._rotate(name, value)
                self._kept[name] = value

    async def _rotate(self, name: str, value: str) -> None:
        for tries in range(1, _KEEP_TRIES + 1):
            try:
                await rotate_credential(self._means.registry, self._account.name, name, value=value)
            except (Fault, InvalidRequest) as problem:
                # Somebody may have changed the account at the same moment, or the store be away for one.
                if tries == _KEEP_TRIES:
                    self._state = rules.needing(self._state, Need.SECRET_LOST, now_ms())
                    raise UpstreamFailed(problem.detail) from problem
                await asyncio.sleep(full_jitter_s(tries, base_s=_KEEP_BASE_S, max_s=_KEEP_MAX_S))
            else:
                _log.info("hooks_secret_kept", account=self._account.name, credential=name)
                return

    async def _tell(self) -> None:
        assert self._state.hooks is not None  # noqa: S101 - only what was heard is told
        said = rules.sentence(self._state)
        await self._means.tell(self._account, self._state.checked_ms, self._state.hooks, said)

    async def _keep(self) -> None:
        await store.write(self._means.redis, self._account.merchant, self._account.name, self._state)

    def _say_need(self, before: GuardState) -> None:
        if self._state.need and self._state.need is not before.need:
            said = rules.sentence(self._state)
            _log.error("hooks_need_person", account=self._account.name, reason=said)


def _chance() -> float:
    return random.random()  # noqa: S311 - spreads load, guards nothing
