"""Looks after platforms' promises to send: every worker looks, and one at a time asks for an account."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.accounts.operations import Registry
from synchub.connector_kit.contract import HookState
from synchub.hook_guard import operations as guard
from synchub.hook_guard.operations import Means
from synchub.ingress.consumer import TROUBLE
from synchub.kit.clock import now_ms
from synchub.kit.tasks import end, is_ending
from synchub.logs import get_logger
from synchub.polling import operations as polling
from synchub.sync_lag import operations as sync_lag
from synchub.sync_lag.model import HookFinding
from synchub.upstream.model import Operation, Priority

if TYPE_CHECKING:
    from synchub.accounts.model import AccountView
    from synchub.connector_kit.contract import Access, Connector
    from synchub.hook_guard.model import GuardState
    from synchub.hub import Hub

AT_ONCE: Final = 10
"""Accounts that one worker asks about at the same time."""
_LOOK_MAX_S: Final = 1.0
_LOOKS: Final = 5
"""Looks in the time between two checks, if that is short."""
_UNKNOWN: Final = "unknown"
_log: Final = get_logger()


class HookLoop:
    """Gives every account whose platform can be asked its turn; a slow one holds up no other."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._means = means_of(hub)
        self._rounds: dict[str, asyncio.Task[None]] = {}
        self._is_well = True
        self._has_said_idle = False
        self._look_s = min(_LOOK_MAX_S, hub.settings.hook_guard.check_every_ms / 1000 / _LOOKS)

    async def run(self) -> None:
        """Go on until cancelled; what goes wrong is tried again."""
        try:
            while not is_ending():
                await self.turn()
                await asyncio.sleep(self._look_s)
        finally:
            await end(*self._rounds.values())

    async def turn(self) -> None:
        """Begin whatever is due, and count how platforms' promises stand."""
        accounts = list(self._accounts())
        merchants = sorted({account.merchant for account, _ in accounts})
        try:
            found = await asyncio.gather(
                *(guard.read_guard(self._hub.redis, merchant) for merchant in merchants)
            )
            states = {name: state for one in found for name, state in one.items()}
            for account, _ in accounts:
                if account.name not in states:
                    await guard.begin(self._means, account)
        except TROUBLE as trouble:
            self._complain(trouble)
            return
        for account, connector in accounts:
            if account.name in states and _is_wanted(states[account.name]):
                self._begin_round(account, connector)
        self._count(accounts, states)

    def _accounts(self) -> list[tuple[AccountView, Connector]]:
        """The accounts whose platform can be asked, and can reach the address that it is asked about."""
        found = []
        for account in self._hub.directory.accounts():
            connector = self._hub.connectors.get(account.platform)
            if connector is None or connector.hooks_client is None:
                continue
            if guard.is_reached(account, self._hub.settings):
                found.append((account, connector))
            elif not self._has_said_idle:
                self._has_said_idle = True
                reason = "server.public_url is not an address that platforms can post to."
                _log.warning("hooks_not_guarded", account=account.name, reason=reason)
        return found

    def _begin_round(self, account: AccountView, connector: Connector) -> None:
        self._rounds = {name: task for name, task in self._rounds.items() if not task.done()}
        if account.name not in self._rounds and len(self._rounds) < AT_ONCE:
            self._rounds[account.name] = asyncio.create_task(
                self._round(account, connector), name=f"hooks-{account.name}"
            )

    async def _round(self, account: AccountView, connector: Connector) -> None:
        try:
            await guard.look_after(self._means, account, connector)
        except Exception as trouble:  # noqa: BLE001 - a fault over one account must not end what is done for others
            self._complain(trouble)
        else:
            if not self._is_well:
                _log.info("hooks_guarded_again")
            self._is_well = True

    def _complain(self, trouble: BaseException) -> None:
        if self._is_well:
            _log.warning("hooks_unguarded", reason=f"{type(trouble).__name__}: {trouble}")
        self._is_well = False

    def _count(self, accounts: list[tuple[AccountView, Connector]], states: dict[str, GuardState]) -> None:
        """Tell the numbers of all accounts; each worker counts all of them."""
        known = [(connector.name, states.get(account.name)) for account, connector in accounts]
        by_state = Counter(
            (name, state.hooks.value if state and state.hooks else _UNKNOWN) for name, state in known
        )
        needing = Counter(name for name, state in known if state and state.need)
        for name in {connector.name for _, connector in accounts}:
            for hooks in (*HookState, _UNKNOWN):
                metrics.hook_accounts.labels(name, str(hooks)).set(by_state[name, str(hooks)])
            metrics.hooks_need_person.labels(name).set(needing[name])


def means_of(hub: Hub) -> Means:
    """Return what the guard needs, from what a process holds."""

    def open_access(account: AccountView, connector: Connector) -> Access:
        return hub.upstream.access(account, connector, Operation.SUBSCRIPTION, priority=Priority.REPAIR)

    async def tell(account: AccountView, at_ms: int, state: HookState, sentence: str) -> None:
        finding = HookFinding(at_ms=at_ms, state=state, sentence=sentence)
        await sync_lag.note_hooks(hub.redis, account.name, finding)

    async def poll_soon(account: AccountView) -> None:
        await polling.poll_soon(hub.redis, account.merchant, account.name)

    async def has_polled(account: AccountView, since_ms: int) -> bool:
        state = (await polling.read_polls(hub.redis, account.merchant)).get(account.name)
        return state is not None and state.last_ms >= since_ms and not (state.failures or state.has_more)

    manifests = {name: connector.manifest for name, connector in hub.connectors.items()}
    registry = Registry(redis=hub.redis, vault=hub.vault, manifests=manifests, settings=hub.settings)
    return Means(
        redis=hub.redis,
        registry=registry,
        open_access=open_access,
        tell=tell,
        poll_soon=poll_soon,
        has_polled=has_polled,
    )


def _is_wanted(state: GuardState) -> bool:
    return state.due_ms <= now_ms() or state.is_missed
