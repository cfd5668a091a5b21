"""Hand in what was heard and found, and read what follows from it."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.kit.labels import OTHER, BoundedLabels
from synchub.redis import store_errors
from synchub.sync_lag import store
from synchub.sync_lag.arrivals import Arrivals
from synchub.sync_lag.model import SyncState
from synchub.sync_lag.watching import Watcher

if TYPE_CHECKING:
    from prometheus_client import Gauge

    from synchub.lua import Executes
    from synchub.sync_lag.model import AccountSync, Everyone, HookFinding, PollFinding

__all__ = ["Arrivals", "Watcher", "measure", "note_hooks", "note_poll", "read_accounts", "read_everyone"]

NAMED_MAX: Final = 200
"""Accounts that metrics name; of further ones it is said how many are in which state."""
_named = BoundedLabels(NAMED_MAX)
_shown: Final[set[str]] = set()


async def read_accounts(redis: Executes) -> dict[str, AccountSync]:
    """Return what is known of every account that is judged; of a new one nothing for about a second.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store did not answer.
    """
    return (await store.read_verdicts(redis))[0]


async def read_everyone(redis: Executes) -> Everyone:
    """Return what is known of all accounts together, and when they were last judged.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store did not answer.
    """
    return (await store.read_verdicts(redis))[1]


async def note_poll(redis: Executes, account: str, finding: PollFinding) -> None:
    """Hand in what a poll of an account found; it is judged within about a second.

    Raises:
        OutcomeUnknown, StoreUnavailable: it may not have been taken.
    """
    await store.note_poll(redis, account, finding)


async def note_hooks(redis: Executes, account: str, finding: HookFinding) -> None:
    """Hand in what an account's platform said of its deliveries; it is judged within about a second.

    Raises:
        OutcomeUnknown, StoreUnavailable: it may not have been taken.
    """
    await store.note_hooks(redis, account, finding)


async def measure(redis: Executes) -> None:
    """Set the metrics of what is known of accounts.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store did not answer; the last numbers stay.
    """
    with store_errors():
        accounts, everyone = await store.read_verdicts(redis)
    metrics.sync_all_silent.set(everyone.is_silent)
    metrics.sync_judged.set(everyone.judged_ms / 1000)
    _hide(_shown - accounts.keys())
    others: Counter[SyncState] = Counter()
    for name, known in sorted(accounts.items()):
        if _named.has(name):
            _show(name, known)
        else:
            others[known.state] += 1
    if others:
        for state in SyncState:
            metrics.connector_state.labels(OTHER, state.value).set(others[state])


def _show(name: str, known: AccountSync) -> None:
    _shown.add(name)
    for state in SyncState:
        metrics.connector_state.labels(name, state.value).set(known.state is state)
    metrics.connector_suspicion.labels(name).set(known.suspicion)
    metrics.source_freshest.labels(name).set(known.freshest_ms / 1000)
    if known.canary_ms:
        metrics.canary_last_received.labels(name).set(known.canary_ms / 1000)
    if known.coverage is not None:
        metrics.sync_coverage.labels(name).set(known.coverage)
    else:
        # Of one that has recovered nothing is known yet: what it had lost before is over.
        _remove(metrics.sync_coverage, name)


def _hide(names: set[str]) -> None:
    """Say nothing more of accounts that are gone: a stalled one would be stalled for ever."""
    for name in names:
        for state in SyncState:
            metrics.connector_state.remove(name, state.value)
        for gauge in (
            metrics.connector_suspicion,
            metrics.source_freshest,
            metrics.canary_last_received,
            metrics.sync_coverage,
        ):
            _remove(gauge, name)
        _shown.discard(name)


def _remove(gauge: Gauge, name: str) -> None:
    with contextlib.suppress(KeyError):  # not every account has each
        gauge.remove(name)
