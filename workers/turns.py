"""Polling: every worker looks for accounts whose turn is due; who gets the account's lease polls it.

A turn is no arq job: one whose worker was killed is another's within seconds, not after a time-out.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from synchub.ingress.consumer import TROUBLE
from synchub.kit.clock import now_ms
from synchub.kit.tasks import end, is_ending
from synchub.logs import get_logger
from synchub.pipeline import poll_changes
from synchub.polling import operations as polling

if TYPE_CHECKING:
    from synchub.accounts.model import AccountView
    from synchub.hub import Hub

TURNS_MAX: Final = 32
"""Accounts that one worker polls at once; others wait, the longest due first."""

_log: Final = get_logger()


class Poller:
    """Polls whatever is due, for every account of the hub; several at once do no harm."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._turns: dict[str, asyncio.Task[None]] = {}
        self._first_ms: dict[str, int] = {}
        self._is_well = True
        self._failing: set[str] = set()

    async def run(self) -> None:
        """Go on until cancelled; what goes wrong is tried again."""
        try:
            while not is_ending():
                await self.look()
                await asyncio.sleep(self._hub.settings.polling.look_every_ms / 1000)
        finally:
            await end(*self._turns.values())

    async def look(self) -> None:
        """Start the turns that are due and that nobody here is at."""
        accounts = {account.name: account for account in self._hub.directory.accounts()}
        self._first_ms = {name: self._first_ms.get(name, now_ms()) for name in accounts}
        self._turns = {name: task for name, task in self._turns.items() if not task.done()}
        try:
            due = await polling.find_due(
                self._hub.redis,
                accounts,
                self._hub.connectors,
                self._hub.settings,
                first_ms=self._first_ms,
            )
        except TROUBLE as trouble:
            self._is_ill(trouble)
            return
        self._is_fine()
        for account, last_ms in due:
            if len(self._turns) >= TURNS_MAX:
                break
            if account.name not in self._turns:
                turn = self._poll(account, last_ms)
                self._turns[account.name] = asyncio.create_task(turn, name=f"poll-{account.name}")

    async def _poll(self, account: AccountView, last_ms: int) -> None:
        try:
            if await poll_changes(self._hub, account, after_ms=last_ms):
                await self._tell(account)
        except TROUBLE as trouble:
            self._is_ill(trouble)

    async def _tell(self, account: AccountView) -> None:
        """Log a change of health once, not every failure."""
        state = (await polling.read_polls(self._hub.redis, account.merchant)).get(account.name)
        error = state.last_error if state else ""
        if error and account.name not in self._failing:
            self._failing.add(account.name)
            _log.warning("polls_fail", account=account.name, reason=error)
        elif not error and account.name in self._failing:
            self._failing.discard(account.name)
            _log.info("polls_resumed", account=account.name)

    def _is_ill(self, trouble: BaseException) -> None:
        if self._is_well:
            _log.warning("polling_interrupted", reason=f"{type(trouble).__name__}: {trouble}")
        self._is_well = False

    def _is_fine(self) -> None:
        if not self._is_well:
            _log.info("polling_resumed")
        self._is_well = True
