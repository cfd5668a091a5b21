"""Who may call when, what an answer says about the platform, and how a process counts by itself. Pure."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from synchub.connector_kit.contract import Quota
from synchub.errors import UpstreamFailed, UpstreamRefused
from synchub.upstream.model import (
    BreakerState,
    Bucket,
    BudgetState,
    Limits,
    Operation,
    Priority,
    UpstreamState,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synchub.connector_kit.manifest import LimitsOffer

LOCAL_PARTS: Final = 4
"""With the store away a process takes this part of the limits: a hub has seldom more processes that call."""

_READS: Final = frozenset({Operation.LEVELS, Operation.PAGE})
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_DAY_MS: Final = 86_400_000
_DEFAULT: Final = Limits(capacity=10, restored_per_s=2)


def limits_of(offer: LimitsOffer | None) -> Limits:
    """Return what a manifest says; cautious numbers where it says nothing."""
    if offer is None:
        return _DEFAULT
    return Limits(
        capacity=offer.capacity,
        restored_per_s=offer.restored_per_s,
        concurrency=offer.concurrency,
        per_day=offer.per_day or 0,
        per_listing_per_day=offer.per_listing_per_day or 0,
    )


def kept_share(priority: Priority, reserve_percent: int) -> float:
    """Return the share of the limits that calls of this priority have to leave to others.

    Sweeps leave the whole reserve, probes half of it, and everything more urgent nothing.
    """
    if priority is Priority.SWEEP:
        return reserve_percent / 100
    return reserve_percent / 200 if priority is Priority.PROBE else 0.0


def slots_of(priority: Priority, concurrency: int, reserve_percent: int) -> int:
    """Return how many calls may be on their way for one of this priority to join them; at least one."""
    kept = kept_share(priority, reserve_percent) * concurrency
    return concurrency if not kept else max(1, concurrency - max(1, math.floor(kept)))


def may_repeat(operation: Operation, method: str, headers: Mapping[str, str] | None) -> bool:
    """Say whether a call may be sent again although the first one may have had its effect.

    Reads may (a platform's query language is posted, so the operation counts); anything else only where
    the client gave it an ``Idempotency-Key``, by which the platform knows it again.
    """
    named = any(name.lower() == "idempotency-key" for name in headers or ())
    return operation in _READS or method.upper() in _SAFE_METHODS or named


def is_page_for_people(kind: str, body: bytes) -> bool:
    """Say whether it is a web page, as maintenance pages and captchas are, often with status 200.

    A body that only claims to be one (``kind`` is its content type) may still be what was asked for.
    """
    return "html" in kind.lower() and body.lstrip()[:1] == b"<"


def verdict_on(problem: BaseException | None) -> Verdict:
    """Judge a call by how it ended; a refusal is an answer like another, being throttled says nothing."""
    if problem is None:
        return Verdict.WELL
    if isinstance(problem, UpstreamRefused):
        return Verdict.NOTHING if problem.answered is None else Verdict.WELL
    return Verdict.FAILED if isinstance(problem, UpstreamFailed) else Verdict.NOTHING


def usable(quota: Quota | None) -> Quota | None:
    """Return a quota whose numbers can be counted with; a platform may say anything."""
    if quota is None or not math.isfinite(quota.remaining):
        return None
    return Quota(
        remaining=max(0.0, quota.remaining),
        capacity=_positive(quota.capacity),
        restored_per_s=_positive(quota.restored_per_s),
    )


def filled(bucket: Bucket, now_ms: int) -> Bucket:
    """Let a bucket fill up to the present."""
    since = max(bucket.at_ms, bucket.closed_until_ms)
    gained = max(0, now_ms - since) / 1000 * bucket.restored_per_s
    return replace(bucket, left=min(bucket.capacity, bucket.left + gained), at_ms=max(now_ms, bucket.at_ms))


def wait_ms(bucket: Bucket, cost: float, kept: float) -> int:
    """Return in how many ms a filled bucket has room for the call; 0: now."""
    closed_ms = max(0, bucket.closed_until_ms - bucket.at_ms)
    needed = min(cost + bucket.capacity * kept, bucket.capacity)
    missing = max(0.0, needed - bucket.left)
    return closed_ms + (math.ceil(missing / bucket.restored_per_s * 1000) if missing > _NOTHING else 0)


def part_of(bucket: Bucket) -> Bucket:
    """Return the part of the limits that one process takes by itself."""
    return replace(
        bucket,
        left=min(bucket.left, bucket.capacity) / LOCAL_PARTS,
        capacity=bucket.capacity / LOCAL_PARTS,
        restored_per_s=bucket.restored_per_s / LOCAL_PARTS,
    )


def upstream_state(budget: Mapping[str, str], breakers: Mapping[str, str], *, now_ms: int) -> UpstreamState:
    """Read what the scripts have written, as it is at the store's present."""
    ops = {name: text.split() for name, text in breakers.items() if ":" not in name}
    return UpstreamState(
        breakers={name: _breaker_state(words, now_ms) for name, words in sorted(ops.items())},
        budget=_budget_state(budget, now_ms) if "left" in budget else None,
    )


def _breaker_state(words: list[str], now_ms: int) -> BreakerState:
    state, trips, wait = words[0], int(words[2]), int(words[3]) - now_ms
    if state != "open":
        return BreakerState(state=state, trips=trips)
    return BreakerState(state="open" if wait > 0 else "half_open", trips=trips, wait_ms=max(0, wait))


def _budget_state(fields: Mapping[str, str], now_ms: int) -> BudgetState:
    bucket = Bucket(
        left=float(fields["left"]),
        at_ms=int(fields["at"]),
        capacity=float(fields["in_all"]),
        restored_per_s=float(fields["restored"]),
        closed_until_ms=int(fields["until"]),
    )
    ends = [int(text.split()[0]) for name, text in fields.items() if name.startswith("c:")]
    return BudgetState(
        remaining=max(0.0, filled(bucket, now_ms).left),
        capacity=bucket.capacity,
        restored_per_s=bucket.restored_per_s,
        calls_today=int(fields["calls"]) if int(fields["day"]) == now_ms // _DAY_MS else 0,
        in_flight=sum(end > now_ms for end in ends),
        throttled_ms=max(0, bucket.closed_until_ms - now_ms),
    )


def _positive(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) and number > 0 else None


_NOTHING: Final = 1e-9
