"""The nouns of the feed: what a reader asks for, where it stands, why it is sent back or away."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from synchub.policies.model import Terms

FILTER_REVISION: Final = 1
"""A connection's filter is fixed by its query; sets that change will count on from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which SKUs a reader watches: those named, or those that start with ``prefix``; by default all."""

    skus: frozenset[str] = frozenset()
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewClass:
    """Everything apart from the SKU that decides what an asker is shown."""

    merchant: str
    tier: str
    channel: str | None
    revision: str
    """Which version of the merchant's decisions it follows."""
    terms_of: Callable[[str], Terms] = field(compare=False, repr=False)
    """What these decisions say about a SKU."""


class Framing(StrEnum):
    """How a frame becomes bytes on a connection."""

    SSE_CHUNKED = "sse-chunked"
    SSE_PLAIN = "sse-plain"
    """For HTTP/1.0, which many proxies speak and which has no chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lens:
    """Readers with equal lenses of one merchant get the same bytes."""

    filter: Filter
    view: ViewClass
    hb_ms: int
    framing: Framing
    fingerprint: str
    """Names filter and view in cursors (see :func:`synchub.feed.rules.fingerprint`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedQuery:
    """What one request asks for, validated."""

    filter: Filter
    bound_ms: int
    """Staleness bound that was granted."""
    cursor: str
    """Where the reader says it stands; empty when it has nothing."""
    tier: str = ""
    channel: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A position in one history, valid for one filter and view."""

    epoch: str
    seq: int
    fingerprint: str


class Resumption(StrEnum):
    """How a reader gets up to date."""

    REPLAY = "replay"
    SNAPSHOT = "snapshot"
    RESET = "reset"
    """It came with a position that cannot be continued: drop everything, a snapshot follows."""


class ResetReason(StrEnum):
    """Why what a reader holds must be dropped."""

    CURSOR = "cursor"
    """The position is no position of ours."""
    EPOCH = "epoch"
    """It belongs to another history."""
    FILTER = "filter"
    """It was reached with another filter or view."""
    AHEAD = "ahead"
    """It lies beyond the head of the history."""
    TOO_OLD = "too_old"
    """Changes after it are no longer kept."""
    GAP = "gap"
    """Changes were trimmed before this process had read them."""
    POLICY = "policy"
    """The merchant has decided anew what its readers may see."""
    CONTINUITY = "continuity"
    """The store has lost changes that were already told."""


class ByeReason(StrEnum):
    """Why the hub ends a connection."""

    DRAIN = "drain"
    SLOW = "slow"
    AUTH = "auth"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether this process follows the store."""

    fresh: bool
    since_ms: int
    """Wall clock of the last change of ``fresh``."""
