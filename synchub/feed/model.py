"""The nouns of the feed: what a reader asks for, where it stands, why it is sent back or away."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from synchub.policies.model import Terms

FIRST_REVISION: Final = 1
"""Revision of a filter that a query names, which does not change, and of a set when it is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which SKUs a reader watches: those named, those of a set, or those that start with ``prefix``.

    Without any of them all. A set may be empty, which is nothing.
    """

    skus: frozenset[str] = frozenset()
    prefix: str = ""
    set_id: str = ""
    rev: int = FIRST_REVISION
    """Which revision of the set ``skus`` is."""
    mark: str = ""
    """Tells it from another revision of the same number, which a store that has lost one may give out."""

    @property
    def is_list(self) -> bool:
        """Whether the SKUs are given one by one."""
        return bool(self.skus or self.set_id)


class Mode(StrEnum):
    """What a reader is told of a change."""

    UPD = "upd"
    """The new state."""
    INV = "inv"
    """That there is one, and its version."""


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
    WEBSOCKET = "websocket"
    """One text message each; the server's are not masked, so the same bytes do for everyone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lens:
    """Readers with equal lenses of one merchant get the same bytes."""

    filter: Filter
    view: ViewClass
    hb_ms: int
    framing: Framing
    fingerprint: str
    """Names filter and view in cursors (see :func:`synchub.feed.rules.fingerprint`)."""
    mode: Mode = Mode.UPD


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
    mode: Mode = Mode.UPD


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A position in one history, valid for one filter and view."""

    epoch: str
    seq: int
    fingerprint: str


class Cover(NamedTuple):
    """What a frame says: every change in ``(prev, seq]``, and that this was all at ``asof_ms``."""

    prev: int
    seq: int
    asof_ms: int
    is_degraded: bool = False
    """Nothing has been verified for so long that the reader should know."""
    is_position: bool = True
    """Whether a reader may come back from here; not while its set is being extended."""


class Scope(StrEnum):
    """What a snapshot is a snapshot of."""

    ALL = "all"
    ADDED = "added"
    """Only what the set has gained."""


class SourceStatus(StrEnum):
    """How fresh an account is whose levels are the stock."""

    FRESH = "fresh"
    STALE = "stale"
    """It has told nothing for longer than its evidence counts."""
    UNKNOWN = "unknown"
    """It has never told anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the store knows of an account whose levels are the stock."""

    account: str
    heard_ms: int
    """Wall clock; 0 when it has never told anything."""
    max_age_ms: int
    """After so long its evidence is stale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """How far one account is known."""

    account: str
    asof_ms: int | None
    """Monotonic time of the hub at which it was last heard."""
    status: SourceStatus


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
