"""One fault under load, and whether every promise was kept.

The order of a trial: a steady load and a reader, a random calm, the fault, the load
again; then everything accepted must have had its effect exactly once. At last the
platform sends again what was not accepted, as platforms do, and the final numbers
must be those of all deliveries.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.support.audit import audit, drained
from tests.support.load import Load, unavailable
from tests.support.merchants import add_merchant
from tests.support.reader import FeedReader
from tests.support.wait import eventually, lasting

if TYPE_CHECKING:
    from collections import Counter

    from tests.faults.acts import Fault
    from tests.support.processes import Deployment

RECOVERED_WITHIN_S: Final = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long the parts of a trial last."""

    calm_s: float
    """At most; a random part of it passes before each repetition of the fault."""
    fault_s: float
    after_s: float
    times: int = 1
    rate: float = 200


SHORT: Final = Length(calm_s=0.6, fault_s=0.8, after_s=0.5)
LONG: Final = Length(calm_s=5, fault_s=10, after_s=5, times=3)


@dataclass(kw_only=True)
class Report:
    """What came out of one trial."""

    fault: str
    seed: int
    seconds: float
    sent: int
    answers: Counter[str]
    feed: Counter[str]
    recovered_s: float
    """Longest time from the end of a fault to the next accepted delivery."""
    broken: list[str] = field(default_factory=list)


async def try_out(hub: Deployment, fault: Fault, length: Length, *, seed: int) -> Report:
    """Carry one trial out; ``seed`` decides everything random about it."""
    _log.warning("fault %s, seed %s", fault.name, seed)
    chance = random.Random(seed)
    started = time.monotonic()
    merchant = await add_merchant(hub.valkey.url)
    async with (
        Load(lambda: hub.url, merchant, seed=seed, rate=length.rate) as load,
        FeedReader(lambda: hub.url, merchant) as reader,
    ):
        await load.prepare()
        recovered_s = await _suffer(hub, fault, length, load, chance)
        answers = load.answers
        await drained(hub.valkey)
        broken = [*_answered(load, fault), *await audit(hub.valkey, load, reader)]
        await load.resend()
        await drained(hub.valkey)
        broken += [f"after resending: {sentence}" for sentence in await audit(hub.valkey, load, reader)]
        broken += [f"{name} has ended" for name, process in hub.processes.items() if not process.runs]
        if recovered_s > RECOVERED_WITHIN_S:
            broken.append(f"it took {recovered_s:.1f} s until a delivery was accepted again")
        return Report(
            fault=fault.name,
            seed=seed,
            seconds=time.monotonic() - started,
            sent=len(load.sent),
            answers=answers,
            feed=reader.counts,
            recovered_s=recovered_s,
            broken=broken,
        )


async def _suffer(hub: Deployment, fault: Fault, length: Length, load: Load, chance: random.Random) -> float:
    """Send while the fault strikes; return the longest time to recover."""
    over = asyncio.Event()
    sending = asyncio.create_task(load.run_until(over.is_set))
    longest = 0.0
    try:
        for _ in range(length.times):
            await lasting(chance.uniform(0.1, length.calm_s))
            await fault.act(hub, chance, length.fault_s)
            longest = max(longest, await _recovery_s(load))
        await lasting(length.after_s)
    finally:
        over.set()
        await sending
    return longest


async def _recovery_s(load: Load) -> float:
    """How long from now until a delivery that is sent from now on is accepted."""
    ended, first = time.monotonic(), len(load.sent)
    await eventually(
        lambda: any(sent.is_accepted for sent in load.sent[first:]),
        within_s=4 * RECOVERED_WITHIN_S,
        what="an accepted delivery after the fault",
    )
    return min(sent.at_s for sent in load.sent[first:] if sent.is_accepted) - ended


def _answered(load: Load, fault: Fault) -> list[str]:
    """Whatever is not accepted is a 503 that says when to come again, or no answer at all."""
    others = [sent for sent in load.sent if not sent.is_accepted and sent.status is not None]
    wrong = [f"{sent.id} was answered {sent.status} {sent.code}" for sent in others if not unavailable(sent)]
    if fault.is_store_away and not others:
        wrong.append("nobody was told that the store is away")
    return wrong
