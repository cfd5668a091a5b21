"""Decides where a reader may continue, what it is granted, and in which order changes are told."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from synchub.feed.model import (
    Cursor,
    FeedQuery,
    Filter,
    Mode,
    ResetReason,
    Resumption,
    SourceState,
    SourceStatus,
    ViewClass,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from synchub.stock.model import Answer, FeedEntry, Position

BOUND_FLOOR_MS: Final = 500
BOUND_STEPS_MS: Final = (500, 1000, 2000, 5000, 10_000, 30_000, 60_000)
"""Bounds that can be asked for: few, because each is an audience of its own."""
SAME_TIME_MS: Final = 100
"""Two clocks are read for one time; what differs by less is the same."""
HEARTBEATS_PER_BOUND: Final = 3
"""One may come late and one may be lost before a cache goes stale."""
DEGRADED_AFTER_MS: Final = 2000
"""Readers are told when nothing has been verified for so long: twice the longest wait of one read."""


def granted_bound(asked_ms: int | None, default_ms: int) -> int:
    """Return the longest offered bound that is not above what was asked, and never below the floor."""
    if asked_ms is None:
        return default_ms
    return max((step for step in BOUND_STEPS_MS if step <= asked_ms), default=BOUND_FLOOR_MS)


def heartbeat_ms(bound_ms: int) -> int:
    """Return how often a silent connection must say that nothing has changed."""
    return bound_ms // HEARTBEATS_PER_BOUND


def fingerprint(chosen: Filter, view: ViewClass, mode: Mode = Mode.UPD) -> str:
    """Name a filter and view in 16 characters; any difference makes a cursor useless."""
    skus = [chosen.set_id, chosen.rev, chosen.mark] if chosen.set_id else sorted(chosen.skus)
    parts = [skus, chosen.prefix, view.tier, view.channel, view.revision, mode]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def cursor_text(epoch: str, seq: int, mark: str) -> str:
    """Write a position as it stands in ``id:`` and ``from=``."""
    return f"{epoch}:{seq}:{mark}"


def read_cursor(text: str) -> Cursor | None:
    """Read a position; None when it is not one of ours."""
    epoch, _, rest = text.partition(":")
    seq, _, mark = rest.partition(":")
    if not epoch or not mark or not (seq.isascii() and seq.isdigit()) or len(seq) > len(str(2**53)):
        return None
    return Cursor(epoch=epoch, seq=int(seq), fingerprint=mark)


def obstacle(cursor: Cursor | None, *, mark: str, head: Position, oldest: int) -> ResetReason | None:
    """Say why a position cannot be continued; None when it can.

    It can iff it names the same history, filter and view, and
    ``oldest <= seq <= head``. There is no partial recovery.
    """
    if cursor is None:
        return ResetReason.CURSOR
    if cursor.epoch != head.epoch:
        return ResetReason.EPOCH
    if cursor.fingerprint != mark:
        return ResetReason.FILTER
    if cursor.seq > head.seq:
        return ResetReason.AHEAD
    return ResetReason.TOO_OLD if cursor.seq < oldest else None


def resumption(query: FeedQuery, found: ResetReason | None) -> Resumption:
    """Name the way in which a reader gets up to date."""
    if not query.cursor:
        return Resumption.SNAPSHOT
    return Resumption.REPLAY if found is None else Resumption.RESET


def broken_link(position: int, entries: Sequence[FeedEntry]) -> ResetReason | None:
    """Check that entries continue each other from ``position`` on; say what is wrong otherwise.

    An entry that follows an earlier one than ours proves that history was
    rewritten; one that follows a later one, that entries in between are gone.
    """
    for entry in entries:
        if entry.previous > position:
            return ResetReason.GAP
        if entry.previous < position:
            return ResetReason.CONTINUITY
        position = entry.seq
    return None


def latest(entries: Iterable[FeedEntry]) -> dict[str, Answer]:
    """Keep of each SKU only its last answer."""
    return {entry.answer.sku: entry.answer for entry in entries}


def matching(chosen: Filter, answers: dict[str, Answer]) -> list[Answer]:
    """Return the answers a filter lets through."""
    if chosen.is_list:
        names = chosen.skus if len(chosen.skus) < len(answers) else answers
        return [answers[sku] for sku in names if sku in answers and sku in chosen.skus]
    if chosen.prefix:
        return [answer for sku, answer in answers.items() if sku.startswith(chosen.prefix)]
    return list(answers.values())


def lets_through(chosen: Filter, sku: str) -> bool:
    """Say whether a filter lets a SKU through."""
    return sku in chosen.skus if chosen.is_list else sku.startswith(chosen.prefix)


def is_degraded(asof_ms: int, now_ms: int) -> bool:
    """Say whether the last verified moment lies so far back that readers are told."""
    return now_ms - asof_ms > DEGRADED_AFTER_MS


def source_state(
    account: str, heard_ms: int, *, max_age_ms: int, wall_ms: int, monotonic_ms: int
) -> SourceState:
    """Say how far an account is known that was last heard at ``heard_ms`` of the wall clock, 0 for never."""
    if not heard_ms:
        return SourceState(account=account, asof_ms=None, status=SourceStatus.UNKNOWN)
    age_ms = max(0, wall_ms - heard_ms)
    return SourceState(
        account=account,
        asof_ms=monotonic_ms - age_ms,
        status=SourceStatus.STALE if age_ms > max_age_ms else SourceStatus.FRESH,
    )


def moved_sources(
    before: dict[str, SourceState], after: Iterable[SourceState], *, also_times: bool
) -> list[SourceState]:
    """Return those to be told: whose status is another, and where ``also_times``, who was heard since."""
    return [
        one
        for one in after
        if (known := before.get(one.account)) is None
        or known.status is not one.status
        or (also_times and known.asof_ms is not None and (one.asof_ms or 0) > known.asof_ms + SAME_TIME_MS)
    ]
