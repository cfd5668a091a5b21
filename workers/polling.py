"""Fetching levels: an arq job per account, started at once when wanted and by a sweep otherwise.

The list of what is due lies in Redis and is written by the apply script itself,
so a lost job loses nothing: the sweep starts another one.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from arq import Retry

from synchub import metrics
from synchub.connector_kit.http import AiohttpPlatformHttp
from synchub.errors import Fault, UpstreamFailed, UpstreamRefused, UpstreamThrottled
from synchub.ingress.consumer import TROUBLE
from synchub.kit.backoff import full_jitter_s
from synchub.logs import get_logger
from synchub.polling import operations as polling

if TYPE_CHECKING:
    from arq import ArqRedis

    from synchub.hub import Hub

_NUDGE_EVERY_S: Final = 0.02
_log = get_logger()


async def fetch_levels(ctx: dict[str, Any], account_name: str) -> int:
    """Fetch everything that is due for one account; tried again later when the platform fails."""
    hub: Hub = ctx["hub"]
    account = hub.directory.find_account(account_name)
    connector = hub.connectors.get(account.platform) if account else None
    if account is None or connector is None:
        return 0
    refetch = hub.settings.refetch
    http = AiohttpPlatformHttp(
        ctx["http"], deadline_s=refetch.deadline_ms / 1000, max_answer_bytes=refetch.answer_max_bytes
    )
    try:
        return await polling.fetch_due(hub.redis, account, connector, http, hub.settings)
    except UpstreamThrottled as throttled:
        raise Retry(defer=throttled.retry_after_s or 1) from throttled
    except (UpstreamFailed, UpstreamRefused) as problem:
        _log.warning("fetch_failed", account=account_name, reason=problem.detail)
        raise Retry(defer=_pause_s(hub, ctx["job_try"])) from problem
    except Fault as problem:
        raise Retry(defer=_pause_s(hub, ctx["job_try"])) from problem


def _pause_s(hub: Hub, tries: int) -> float:
    refetch = hub.settings.refetch
    return full_jitter_s(tries, base_s=refetch.backoff_base_ms / 1000, max_s=refetch.backoff_max_ms / 1000)


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
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), sweep_s)
            if self._wake.is_set():
                await asyncio.sleep(_NUDGE_EVERY_S)
                self._wake.clear()
                wanted, self._wanted = self._wanted, set()
            else:
                wanted = {a.name for a in self._hub.directory.accounts() if self._fetches(a.platform)}
            with contextlib.suppress(*TROUBLE):
                await self._start_jobs(wanted)

    def _fetches(self, platform: str) -> bool:
        connector = self._hub.connectors.get(platform)
        return connector is not None and connector.client is not None

    async def _start_jobs(self, accounts: set[str]) -> None:
        for name in sorted(accounts):
            account = self._hub.directory.find_account(name)
            if account is None:
                continue
            due = await polling.count_due(self._hub.redis, account)
            metrics.refetch_due.labels(account.platform).set(due)
            if due:
                # One job per account at a time; while one runs it sees the new items itself.
                await self._queue.enqueue_job("fetch_levels", name, _job_id=f"fetch-levels:{name}")
