"""The demo from the first sentence to the last figure."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import aiohttp

from synchub.demo.latency import Latencies, median_and_worst
from synchub.demo.model import Figures
from synchub.demo.rules import disagreeing, totals
from synchub.demo.screen import Screen
from synchub.demo.stage import CALL_S, Stage
from synchub.demo.watch import FaultWatch
from synchub.errors import Fault, Misconfigured
from synchub.kit.waiting import unless
from synchub.sync_lag.model import SyncState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.demo.model import Heard, PlannedFault, Told, Traded, Truth
    from synchub.local_hub import LocalHub

LOOK_S: Final = 0.5
"""How often changes are shown and faults are looked at."""

STATUS_S: Final = 2.0
SETTLE_S: Final = 15.0
"""How long everything posted may take to arrive once the platforms have fallen silent."""

_SETTLE_LOOK_S: Final = 0.1
_AWAY: Final = (aiohttp.ClientError, TimeoutError, OSError, Fault)


async def play(
    hub: LocalHub, faults: Sequence[PlannedFault], *, stop: asyncio.Event, for_s: float | None, in_json: bool
) -> int:
    """Run the demo on a hub until ``stop`` or for a time; returns the exit code.

    Raises:
        Misconfigured: somebody does not start.
    """
    screen = Screen(in_json=in_json)
    screen.step(f"the hub is ready at {hub.url}; its data is in {hub.data}")
    timeout = aiohttp.ClientTimeout(total=CALL_S)
    async with (
        aiohttp.ClientSession(timeout=timeout, trust_env=False) as http,
        Stage(hub, screen, http) as stage,
    ):
        try:
            await unless(stop, stage.start(faults))
        except _AWAY as problem:
            msg = f"The demo could not be set up: {problem!r}."
            raise Misconfigured(msg) from problem
        if stop.is_set():
            return 0
        show = Show(hub, stage, screen, [FaultWatch(fault, stage.started_us) for fault in faults])
        await show.run(stop, for_s)
        figures = await show.conclude(stop)
    screen.ending(figures, was_cut_short=stop.is_set())
    if in_json:
        print(json.dumps(asdict(figures)), flush=True)
    return 0


class Show:
    """Looks on: measures, shows, watches faults."""

    def __init__(self, hub: LocalHub, stage: Stage, screen: Screen, watches: list[FaultWatch]) -> None:
        self._hub = hub
        self._stage = stage
        self._screen = screen
        self._watches = watches
        self._latencies = Latencies({})
        self._waiting: list[Told | Heard | Traded] = []
        """Told or heard, and not yet measured."""
        self._truths: list[Truth] = []
        self._seq = 0
        self._open_sales = 0
        self._settled = 0

    async def run(self, stop: asyncio.Event, for_s: float | None) -> None:
        """Let the play go on until ``stop`` or the time is over."""
        self._truths = await self._stage.truths()
        self._latencies = Latencies(totals(self._truths))
        await self._stage.play()
        started_s = status_s = time.monotonic()
        while not stop.is_set() and (for_s is None or time.monotonic() - started_s < for_s):
            left_s = LOOK_S if for_s is None else min(LOOK_S, started_s + for_s - time.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), max(left_s, 0.0))
            is_due = time.monotonic() - status_s >= STATUS_S
            with contextlib.suppress(*_AWAY):
                await self._look(thoroughly=is_due)
            if is_due:
                status_s = time.monotonic()
                self._screen.status(self._figures(missing=set()))

    async def conclude(self, stop: asyncio.Event) -> Figures:
        """Let everything arrive, unless somebody wants to stop, and return what it came to."""
        missing: set[str] = set()
        with contextlib.suppress(*_AWAY):
            await self._stage.pause()
            await unless(stop, self._settle())
            await self._look(thoroughly=True)
            missing = disagreeing(totals(self._truths), self._stage.agent.known)
        return self._figures(missing)

    async def _settle(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while not await self._has_settled():  # noqa: ASYNC110 - other processes set no event of ours
                    await asyncio.sleep(_SETTLE_LOOK_S)

    async def _has_settled(self) -> bool:
        with contextlib.suppress(*_AWAY):
            return await self._is_everything_there()
        return False

    async def _is_everything_there(self) -> bool:
        await self._look(thoroughly=True)
        agent = self._stage.agent
        has_sent = not any(truth.counts["pending"] for truth in self._truths)
        has_heard = agent.seq >= await self._stage.merchant.feed_seq()
        is_sold = self._stage.desk.is_done and self._stage.shopper.is_done and not self._open_sales
        return has_sent and has_heard and is_sold and not disagreeing(totals(self._truths), agent.known)

    async def _look(self, *, thoroughly: bool) -> None:
        stage = self._stage
        self._take_heard()
        if thoroughly or self._watches:
            await stage.counters.refresh()
            await self._measure()
            self._truths = await stage.truths()
            elapsed_s = time.monotonic() - stage.started_s
            wrong = disagreeing(totals(self._truths), stage.agent.known)
            states = await stage.merchant.sync_states()
            for watch in self._watches:
                watch.look(elapsed_s, stage.counters, states.get(watch.account, SyncState.HEALTHY), wrong)
        if thoroughly:
            self._seq = await stage.merchant.ledger_seq()
            self._settled += await stage.merchant.settle_shipped(stage.desk.is_shipped)
            self._open_sales = await stage.merchant.open_sales()

    def _take_heard(self) -> None:
        heard = list(self._stage.agent.heard)
        self._stage.agent.heard.clear()
        self._waiting += heard
        self._screen.changes(self._stage.agent.known, [one.sku for one in heard])

    async def _measure(self) -> None:
        """Hand over everything up to a moment for which all tellers have been asked."""
        answers = await asyncio.gather(*(platform.told() for platform in self._stage.platforms))
        until_us = min(asked_us for asked_us, _ in answers)
        told = [change for _, changes in answers for change in changes]
        for watch in self._watches:
            watch.note(told)
        traded = [*self._stage.desk.traded(), *self._stage.shopper.traded()]
        waiting = [*self._waiting, *traded, *told]
        self._latencies.take(one for one in waiting if one.at_us < until_us)
        self._waiting = [one for one in waiting if one.at_us >= until_us]

    def _figures(self, missing: set[str]) -> Figures:
        stage = self._stage
        sums = {name: sum(truth.counts[name] for truth in self._truths) for name in ("accepted", "refused")}
        copies = sum(truth.counts["duplicates_accepted"] for truth in self._truths)
        by_webhook, by_fetch = self._latencies.by_webhook_ms(), self._latencies.by_fetch_ms()
        bought = stage.shopper.counts
        webhook, fetch = median_and_worst(by_webhook), median_and_worst(by_fetch)
        return Figures(
            received=sums["accepted"] + copies,
            applied=self._seq - stage.first_seq,
            delivered=stage.agent.delivered,
            duplicates=stage.counters.count("synchub_replays_rejected_total"),
            rejected=sums["refused"],
            missing=len(missing) + stage.agent.gaps,
            webhook_to_agent_p50_ms=_rounded(webhook[0]),
            webhook_to_agent_p99_ms=_rounded(webhook[1]),
            webhook_to_agent_measured=len(by_webhook),
            fetch_to_agent_p50_ms=_rounded(fetch[0]),
            fetch_to_agent_p99_ms=_rounded(fetch[1]),
            fetch_to_agent_measured=len(by_fetch),
            restarts=self._hub.restarts,
            held=bought["held"],
            refused=bought["refused"],
            committed=bought["committed"],
            released=bought["released"],
            expired=bought["expired"],
            sold=bought["sold"],
            orders=stage.desk.taken,
            open_sales=self._open_sales,
            settled=self._settled,
            faults=[watch.report(missing) for watch in self._watches],
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
