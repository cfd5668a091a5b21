"""What follows from evidence: HEALTHY, SUSPECT, STALLED, RECOVERING. Pure.

Any evidence makes an account suspect, which costs a poll. Stalled it is only by one decisive piece, or by
two of at least medium strength that are independent of each other. Back it comes step by step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.sync_lag.model import FAMILIES, Kind, Strength, SyncState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from synchub.sync_lag.model import About, Evidence, Terms
    from synchub.sync_lag.watch import Watch

FACTOR_MAX: Final = 8
RELAPSE_MS: Final = 3_600_000
"""Whoever stalls again so soon after recovering must show twice as much."""
WEIGHTS: Final = {Strength.WEAK: 0.3, Strength.MEDIUM: 0.6, Strength.DECISIVE: 1.0}
PAST: Final = frozenset({Kind.LOST, Kind.COVERAGE})
"""What was true while it was stalled, and does not keep it so."""


def is_convicted(evidence: Iterable[Evidence]) -> bool:
    """Whether it is enough to call an account stalled."""
    serious = [one for one in evidence if one.strength >= Strength.MEDIUM]
    if any(one.strength is Strength.DECISIVE for one in serious):
        return True
    return len({FAMILIES[one.kind] for one in serious}) > 1


def suspicion(evidence: Iterable[Evidence], silence: float) -> float:
    """Return all that speaks against it as one number; below the first piece, how far silence has come."""
    weights = [WEIGHTS[one.strength] for one in evidence]
    if not weights:
        return WEIGHTS[Strength.WEAK] * min(1.0, silence)
    return min(2.0, sum(weights))


def next_state(watch: Watch, evidence: tuple[Evidence, ...], about: About, terms: Terms) -> SyncState:
    """Return the state that follows; the same one, if nothing does."""
    if watch.state is SyncState.STALLED:
        present = [one for one in evidence if one.kind not in PAST]
        is_alive = watch.signed_ms > watch.since_ms and not is_convicted(present)
        return SyncState.RECOVERING if is_alive else SyncState.STALLED
    if is_convicted(evidence):
        return SyncState.STALLED
    if watch.state is SyncState.RECOVERING:
        return SyncState.HEALTHY if has_recovered(watch, evidence, about, terms) else SyncState.RECOVERING
    return SyncState.SUSPECT if evidence else SyncState.HEALTHY


def has_recovered(watch: Watch, evidence: Iterable[Evidence], about: About, terms: Terms) -> bool:
    """Whether enough has arrived, polls found nothing that was missed, and the platform says it sends."""
    recovery = watch.recovery
    polls = terms.recover_polls * recovery.factor if about.is_polled else 0
    return (
        recovery.deliveries >= terms.recover_deliveries * recovery.factor
        and recovery.polls >= polls
        and not any(one.kind is Kind.SUBSCRIPTION for one in evidence)
    )


def enter(watch: Watch, state: SyncState, evidence: tuple[Evidence, ...], now_ms: int) -> None:
    """Let an account come into another state."""
    recovery = watch.recovery
    if state is SyncState.STALLED:
        is_soon = recovery.well_ms > 0 and now_ms - recovery.well_ms < RELAPSE_MS
        is_relapse = is_soon or watch.state is SyncState.RECOVERING
        recovery.factor = min(FACTOR_MAX, 2 * recovery.factor) if is_relapse else 1
        watch.kept = evidence
        recovery.by_canary = any(one.kind is Kind.CANARY for one in evidence)
    if state is SyncState.RECOVERING or (state is SyncState.HEALTHY and watch.state is SyncState.RECOVERING):
        # What was found before says nothing about what arrives from now on.
        watch.polls.days = []
        watch.polls.lost_ms = watch.polls.unseen_ms = watch.polls.doubted_ms = 0
    if state is SyncState.HEALTHY and watch.state is SyncState.RECOVERING:
        recovery.well_ms, watch.kept = now_ms, ()
    recovery.polls = 0
    if state is not SyncState.RECOVERING:
        recovery.deliveries = 0
    watch.state, watch.since_ms = state, now_ms
