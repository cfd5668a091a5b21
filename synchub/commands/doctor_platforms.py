"""What ``synchub doctor`` says of accounts and their platforms, in words."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from synchub.hook_guard.rules import sentence
from synchub.kit.clock import now_ms
from synchub.overview import look_at_accounts
from synchub.sync_lag import operations as sync_lag
from synchub.sync_lag.model import SyncState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from synchub.hub import Hub
    from synchub.overview import AccountOverview
    from synchub.sync_lag.model import AccountSync

_COVERAGE_MIN: Final = 0.99
_BUDGET_MIN: Final = 0.1
_CANARY_LATE_MS: Final = 180_000
_JUDGED_LATE_MS: Final = 60_000
_AT_ONCE: Final = 100
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
_CLOSED: Final = "closed"


async def look_at_platforms(hub: Hub, notes: list[str], complaints: list[str]) -> None:
    """Add what is well and what somebody should look at, of every account.

    Raises:
        StoreUnavailable, OutcomeUnknown.
    """
    accounts = hub.directory.accounts()
    everyone = await sync_lag.read_everyone(hub.redis)
    if everyone.is_silent:
        complaints.append(everyone.sentence or "Nobody is heard, so the cause is likely here.")
    age_ms = now_ms() - everyone.judged_ms
    if everyone.judged_ms and age_ms > _JUDGED_LATE_MS:
        complaints.append(f"Silence was last judged {_age(age_ms)} ago: stalls would not be noticed.")
    states: Counter[str] = Counter()
    for start in range(0, len(accounts), _AT_ONCE):
        for one in await look_at_accounts(hub, accounts[start : start + _AT_ONCE]):
            states[one.sync.state.value if one.sync else "not judged yet"] += 1
            complaints += [f"{one.account.name}: {said}" for said in _complaints(one)]
            notes += [f"{one.account.name}: {said}" for said in _notes(one)]
    if states:
        counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        notes.append(f"Deliveries of {len(accounts)} account(s): {counted}.")


def _complaints(one: AccountOverview) -> Iterator[str]:
    if one.sync:
        yield from _of_deliveries(one.sync, one)
    if one.hooks and one.hooks.need:
        yield sentence(one.hooks)
    for operation, breaker in one.upstream.breakers.items():
        if breaker.state != _CLOSED:
            wait = _age(breaker.wait_ms)
            yield f"{operation} calls to its platform fail, and most are not made; the next try is in {wait}."
    budget = one.upstream.budget
    if budget and budget.remaining < _BUDGET_MIN * budget.capacity:
        yield f"{budget.remaining:.0f} of {budget.capacity:.0f} are left of what its platform allows."


def _of_deliveries(sync: AccountSync, one: AccountOverview) -> Iterator[str]:
    if sync.state is SyncState.STALLED:
        since = _age(one.at_ms - sync.since_ms)
        yield f"deliveries have not arrived for {since}. {_signs(sync)}{_polled(one)}"
    if sync.canary_ms and one.at_ms - sync.canary_ms > _CANARY_LATE_MS:
        yield f"its last sign of life came {_age(one.at_ms - sync.canary_ms)} ago."
    if sync.coverage is not None and sync.coverage < _COVERAGE_MIN:
        yield (
            f"{sync.unseen} of {sync.found} changes that polls found in a day were never delivered "
            f"({sync.coverage:.1%} were)."
        )


def _notes(one: AccountOverview) -> Iterator[str]:
    if one.sync and one.sync.state in {SyncState.SUSPECT, SyncState.RECOVERING}:
        yield f"{one.sync.state.value} for {_age(one.at_ms - one.sync.since_ms)}. {_signs(one.sync)}".strip()
    if one.hooks and not one.hooks.need and one.hooks.checked_ms:
        yield f"{sentence(one.hooks)} (asked {_age(one.at_ms - one.hooks.checked_ms)} ago)"


def _signs(sync: AccountSync) -> str:
    return "".join(f"{sign.sentence} " for sign in sync.evidence)


def _polled(one: AccountOverview) -> str:
    if not one.can_poll:
        return "It cannot be polled."
    if one.polls is None or not one.polls.last_ms:
        return "It has not been polled yet."
    if one.polls.last_error:
        return f"Polls fail, {one.polls.failures} in a row: {one.polls.last_error}"
    return f"It is polled; the last poll was {_age(one.at_ms - one.polls.last_ms)} ago."


def _age(ms: int) -> str:
    if ms < 2 * _MINUTE_MS:
        return f"{max(0, ms) / 1000:.0f} s"
    if ms < 2 * _HOUR_MS:
        return f"{ms // _MINUTE_MS} min"
    return f"{ms // _HOUR_MS} h"
