"""Fetching levels: an arq job per account, started at once when wanted and by a sweep otherwise.

The list of what is due lies in Redis and is written by the apply script itself,
so a lost job loses nothing: the sweep starts another one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from synchub import metrics
from synchub.errors import Fault, UpstreamFailed, UpstreamRefused, UpstreamThrottled
from synchub.ingress.consumer import TROUBLE
from synchub.kit.tasks import is_ending
from synchub.logs import get_logger
from synchub.polling import operations as polling
from synchub.upstream.model import Operation, Priority

if TYPE_CHECKING:
    from arq import ArqRedis

    from synchub.hub import Hub

_NUDGE_EVERY_S: Final = 0.02
_log = get_logger()


async def fetch_levels(ctx: dict[str, Any], account_name: str) -> int:
    """Fetch everything that is due for one account; what fails stays due and the sweep comes back to it."""
    hub: Hub = ctx["hub"]
    account = hub.directory.find_account(account_name)
    connector = hub.connectors.get(account.platform) if account else None
    if account is None or connector is None:
        return 0
    access = hub.upstream.access(account, connector, Operation.LEVELS, priority=Priority.TICKLE)
    try:
        return await polling.fetch_due(hub.redis, account, connector, access.http, hub.settings)
    except (UpstreamFailed, UpstreamRefused) as problem:
        _log.warning("fetch_failed", account=account_name, reason=problem.detail)
    except (UpstreamThrottled, Fault) as problem:
        _log.info("fetch_put_off", account=account_name, reason=problem.detail)
    return 0


class Nudger:
    """Starts fetch jobs: a burst of wishes for one account becomes one job."""

    def __init__(self, hub: Hub, queue: ArqRedis) -> None:
        self._hub = hub
        self._queue = queue
        self._wanted: set[str] = set()
        self._wake = asyncio.Event()

    def nudge(self, account: str) -> None:
        """Ask for a look at one account."""
        self._wanted.add(account)
        self._wake.set()

    async def run(self) -> None:
        """Start jobs for nudged accounts at once and for all others by the sweep, until cancelled."""
        sweep_s = self._hub.settings.refetch.sweep_every_ms / 1000
        while not is_ending():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), sweep_s)
            with contextlib.suppress(*TROUBLE):
                if self._wake.is_set():
                    await asyncio.sleep(_NUDGE_EVERY_S)
                    self._wake.clear()
                    wanted, self._wanted = self._wanted, set()
                    await self._start_jobs(wanted)
                else:
                    await self._sweep()

    async def _sweep(self) -> None:
        accounts = self._hub.directory.accounts()
        due = await self._start_jobs({account.name for account in accounts})
        for platform, connector in self._hub.connectors.items():
            if connector.levels_client is not None:
                own = [account for account in accounts if account.platform == platform]
                waiting = [await polling.oldest_due_ms(self._hub.redis, account) for account in own]
                oldest_ms = min((at_ms for at_ms in waiting if at_ms), default=0)
                metrics.refetch_due.labels(platform).set(due[platform])
                metrics.refetch_oldest.labels(platform).set(oldest_ms / 1000)

    async def _start_jobs(self, names: set[str]) -> Counter[str]:
        """Start a job for each account that needs one; returns the items due by platform."""
        redis, total = self._hub.redis, Counter[str]()
        for name in sorted(names):
            account = self._hub.directory.find_account(name)
            connector = self._hub.connectors.get(account.platform) if account else None
            if account is None or connector is None or connector.levels_client is None:
                continue
            due = await polling.count_due(redis, account)
            total[connector.name] += due
            if due and await polling.is_free(redis, account):
                await self._queue.enqueue_job("fetch_levels", name)
        return total
