"""One worker process: the stream consumer beside arq's jobs, kept alive.

arq ends when Redis is away for more than a moment, and the hot hop must not
depend on that: both run side by side, and each goes on by itself when the store
is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

from arq import cron
from arq.worker import Worker

from synchub.accounts.operations import Registry, align_roles
from synchub.hub import Hub, check_start, open_hub
from synchub.ingress.consumer import TROUBLE
from synchub.kit.backoff import full_jitter_s
from synchub.kit.memory import spare_the_collector
from synchub.kit.tasks import end, is_ending
from synchub.logs import get_logger
from synchub.redis import open_queue, queue_settings
from synchub.web.app import build_probes
from synchub.web.serving import serving
from workers.archive import ArchiveLoop
from workers.delivery import tell_subscribers
from workers.hooks import HookLoop
from workers.ingest import ingest_consumer
from workers.polling import Nudger, fetch_levels
from workers.reaper import Reaper
from workers.turns import Poller
from workers.upkeep import tidy
from workers.watch import watch_accounts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from synchub.settings import Settings

_SWITCH_S: Final = 0.0005
_POLL_DELAY_S: Final = 0.1
_JOBS_MAX: Final = 100
_JOB_TIMEOUT_S: Final = 60
_JOB_TRIES_MAX: Final = 2
_PAUSE_BASE_S: Final = 0.1
_PAUSE_MAX_S: Final = 2.0
_log = get_logger()


async def work(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, then end; what was in hand is taken over by another worker.

    Raises:
        Misconfigured, UnsafeStore: it will not start like this.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_hub(settings) as hub, _probes(hub):
        await check_start(hub)
        await _complete_accounts(hub)
        spare_the_collector()
        # Threads that hash segments would otherwise hold up the event loop by 5 ms at each of its turns.
        sys.setswitchinterval(_SWITCH_S)
        _log.info("working")
        job = asyncio.create_task(_run_all(hub), name="work")
        waiting = asyncio.create_task(stop.wait(), name="wait-for-stop")
        await asyncio.wait([job, waiting], return_when=asyncio.FIRST_COMPLETED)
        if job.done():
            await job  # a fault of ours: let it end the process with its trace
        await end(job, waiting)
    _log.info("ended")


async def _complete_accounts(hub: Hub) -> None:
    """Finish what an interrupted command left, and make changed settings effective."""
    manifests = {name: connector.manifest for name, connector in hub.connectors.items()}
    registry = Registry(redis=hub.redis, vault=hub.vault, manifests=manifests, settings=hub.settings)
    with contextlib.suppress(*TROUBLE):  # with the store away nothing has been interrupted
        await align_roles(registry)


async def _run_all(hub: Hub) -> None:
    queue = open_queue(hub.settings.redis)
    nudger = Nudger(hub, queue)
    consumer = ingest_consumer(hub, _own_name(), nudger.nudge)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run(), name="consume")
            tasks.create_task(nudger.run(), name="nudge")
            tasks.create_task(ArchiveLoop(hub).run(), name="archive")
            tasks.create_task(Reaper(hub).run(), name="reap")
            tasks.create_task(Poller(hub).run(), name="poll")
            tasks.create_task(HookLoop(hub).run(), name="look-after-hooks")
            tasks.create_task(tell_subscribers(hub), name="tell-subscribers")
            tasks.create_task(watch_accounts(hub), name="watch-accounts")
            tasks.create_task(_forever(lambda: _run_jobs(hub)), name="jobs")
    finally:
        await consumer.close()
        await queue.aclose()


async def _run_jobs(hub: Hub) -> None:
    """Run arq until it gives up, which it does when its Redis is away."""
    worker = Worker(
        functions=[fetch_levels],
        cron_jobs=[cron(tidy, second=0, run_at_startup=True, unique=True)],
        redis_settings=queue_settings(hub.settings.redis),
        ctx={"hub": hub},
        handle_signals=False,
        poll_delay=_POLL_DELAY_S,
        max_jobs=_JOBS_MAX,
        job_timeout=_JOB_TIMEOUT_S,
        max_tries=_JOB_TRIES_MAX,
        keep_result=0,
    )
    try:
        await worker.async_run()
    finally:
        try:
            await worker.close()
        except asyncio.CancelledError:
            # arq's own: it cancels jobs in hand and lets one through that was waiting for Redis.
            if is_ending():
                raise


async def _forever(part: Callable[[], Awaitable[None]]) -> None:
    failures = 0
    while not is_ending():
        started = asyncio.get_running_loop().time()
        try:
            await part()
        except TROUBLE as trouble:
            if asyncio.get_running_loop().time() - started > _PAUSE_MAX_S:
                failures = 0
            failures += 1
            if failures == 1:
                _log.warning("jobs_interrupted", reason=f"{type(trouble).__name__}: {trouble}")
            await asyncio.sleep(full_jitter_s(failures, base_s=_PAUSE_BASE_S, max_s=_PAUSE_MAX_S))


@contextlib.asynccontextmanager
async def _probes(hub: Hub) -> AsyncIterator[None]:
    """Offer ``/livez``, ``/readyz`` and ``/metrics`` when the worker has a port."""
    if not hub.settings.worker.port:
        yield
        return
    server = hub.settings.server.model_copy(update={"port": hub.settings.worker.port})
    async with serving(build_probes(hub), server):
        yield


def _own_name() -> str:
    """Name this consumer so that no other process, before or after, has the same."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
