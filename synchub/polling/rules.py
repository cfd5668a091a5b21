"""When to poll and what a page means. Pure.

The safety poll is never put off by deliveries that arrive: one that is lost must be found within its
interval. Full polling is, by as much as one interval, because deliveries that arrive tell the same sooner.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from synchub.errors import UpstreamFailed
from synchub.polling.model import Change, Mode, Plan, Tally
from synchub.stock.model import Outcome
from synchub.stock.rules import ITEM, is_ahead, page_rows_of
from synchub.sync_lag.model import SyncState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.contract import Page
    from synchub.polling.model import PollState, Told
    from synchub.stock.model import Applied, PollPlace
    from synchub.sync_lag.model import AccountSync
    from synchub.sync_settings import PollingSettings

FIRST_MAX_MS: Final = 5000
"""The first poll of an account is spread over so long after it was added, or the hub was started."""
KEY_MAX: Final = 200
CURSOR_MAX: Final = 4096
_SAFETY_SPREAD: Final = 0.2
_PROBE_SPREAD: Final = 0.1
_LEARNED: Final = "learned"


def plan(
    account: str,
    state: PollState,
    sync: AccountSync | None,
    *,
    has_deliveries: bool,
    first_ms: int,
    now_ms: int,
    settings: PollingSettings,
) -> Plan:
    """Say when an account is polled next, and how; ``first_ms`` is since when it has been known here."""
    mode = mode_of(sync, has_deliveries=has_deliveries)
    spread = zlib.crc32(account.encode()) / 2**32
    if state.soon_ms >= state.last_ms and state.soon_ms:
        due_ms = state.soon_ms
    elif state.failures:
        due_ms = state.retry_ms
    elif not state.last_ms:
        due_ms = first_ms + int(spread * min(FIRST_MAX_MS, settings.busy_every_ms))
    elif state.has_more or state.sweep_wished_ms > state.sweep_ms:
        due_ms = state.last_ms
    else:
        due_ms = _next_ms(mode, state, sync, spread=spread, now_ms=now_ms, settings=settings)
    return Plan(mode=mode, due_ms=due_ms)


def mode_of(sync: AccountSync | None, *, has_deliveries: bool) -> Mode:
    """Say what polls of an account are for."""
    if not has_deliveries:
        return Mode.FULL
    if sync is None or sync.state is SyncState.HEALTHY:
        return Mode.SAFETY
    return Mode.PROBE if sync.state is SyncState.SUSPECT else Mode.FULL


def is_busy(sync: AccountSync | None, *, now_ms: int, settings: PollingSettings) -> bool:
    """Say whether much changes at this hour; where nothing is known, it does."""
    if settings.busy_hours == _LEARNED:
        return sync is None or sync.is_busy
    start, end = (int(hour) for hour in settings.busy_hours.split("-"))
    hour = datetime.fromtimestamp(now_ms / 1000, UTC).hour
    return start <= hour < end if start < end else hour >= start or hour < end


def _next_ms(
    mode: Mode,
    state: PollState,
    sync: AccountSync | None,
    *,
    spread: float,
    now_ms: int,
    settings: PollingSettings,
) -> int:
    if mode is Mode.SAFETY:
        return state.last_ms + int(settings.safety_every_ms * (1 - _SAFETY_SPREAD * spread))
    if mode is Mode.PROBE:
        since_ms = sync.since_ms if sync else 0
        jitter_ms = int(settings.busy_every_ms * _PROBE_SPREAD * spread)
        return max(state.last_ms + settings.busy_every_ms, since_ms + jitter_ms)
    busy = is_busy(sync, now_ms=now_ms, settings=settings)
    every_ms = settings.busy_every_ms if busy else settings.quiet_every_ms
    heard_ms = sync.heard_ms if sync else 0
    return min(max(state.last_ms, heard_ms), state.last_ms + every_ms) + every_ms


def pages_max(mode: Mode, settings: PollingSettings) -> int:
    """Say how many pages one turn may read."""
    return 1 if mode is Mode.PROBE else settings.pages_max


def changes_of(page: Page, *, account: str, asked_ms: int, future_skew_ms: int) -> tuple[Change, ...]:
    """Turn a page into rows of the apply script, record by record.

    Raises:
        UpstreamFailed: a key or a cursor that is longer than any may be.
    """
    if len(page.cursor) > CURSOR_MAX or any(len(record.key) > KEY_MAX for record in page.records):
        msg = "A page's cursor, or the name of a fact on it, is too long to be kept."
        raise UpstreamFailed(msg)
    latest_us = (asked_ms + future_skew_ms) * 1000
    ahead = "It claims a time in the future; is the platform's clock right?"
    return tuple(
        Change(
            record=record,
            rows=page_rows_of(record.events, account=account, asked_ms=asked_ms, key=record.key),
            refusal=ahead if any(is_ahead(event, latest_us) for event in record.events) else "",
        )
        for record in page.records
    )


def place_after(
    place: PollPlace, page: Page, *, asked_ms: int, began_ms: int, overlap_ms: int, epoch: str
) -> PollPlace:
    """Return where the poll after this page begins; after the last one everything before it began is told.

    What a platform shows late may still be missing from the overlap, so completeness ends before that.
    """
    complete_ms = max(0, began_ms - overlap_ms) if page.is_last else 0
    return replace(
        place,
        cursor=page.cursor,
        asked_ms=asked_ms,
        began_ms=0 if page.is_last else began_ms,
        complete_to_ms=max(place.complete_to_ms, complete_ms),
        epoch=epoch,
    )


def counted(
    tally: Tally,
    changes: Sequence[Change],
    results: Sequence[Applied],
    *,
    has_deliveries: bool,
    told: Told,
) -> Tally:
    """Add a page: what no delivery had told is what has still changed something.

    A change may be in a delivery that the hub has not applied yet, unless its own must have come before
    those; such a one says nothing.
    """
    at = 0
    for change in changes:
        outcomes = [result.outcome for result in results[at : at + len(change.rows)]]
        at += len(change.rows)
        tally = replace(tally, newest_ms=_newest(tally.newest_ms, _changed_ms(change)))
        is_told = any(row[ITEM] in told.awaited for row in change.rows)
        is_unseen = Outcome.APPLIED in outcomes and not is_told
        if has_deliveries and is_unseen and _may_wait(_changed_ms(change), told):
            continue
        if (change.record.topic or not has_deliveries) and _is_first(change, told.to_ms, is_unseen=is_unseen):
            tally = _found(tally, change, is_unseen=is_unseen and has_deliveries)
    return replace(tally, pages=tally.pages + 1, records=tally.records + len(changes))


def _changed_ms(change: Change) -> int | None:
    changed_us = change.record.changed_at_us
    return None if changed_us is None else changed_us // 1000


def _newest(one_ms: int | None, other_ms: int | None) -> int | None:
    return max((at_ms for at_ms in (one_ms, other_ms) if at_ms is not None), default=None)


def _may_wait(changed_ms: int | None, told: Told) -> bool:
    """Whether the change's delivery may be among those that the hub has taken and not applied yet."""
    if told.waiting_ms is None:
        return False
    return changed_ms is None or changed_ms + told.grace_ms >= told.waiting_ms


def _is_first(change: Change, told_to_ms: int, *, is_unseen: bool) -> bool:
    changed_ms = _changed_ms(change)
    return is_unseen or changed_ms is None or changed_ms > told_to_ms


def _found(tally: Tally, change: Change, *, is_unseen: bool) -> Tally:
    if not is_unseen:
        return replace(tally, found=tally.found + 1)
    times = [at_ms for at_ms in (tally.oldest_unseen_ms, _changed_ms(change)) if at_ms is not None]
    return replace(
        tally, found=tally.found + 1, unseen=tally.unseen + 1, oldest_unseen_ms=min(times, default=None)
    )
