"""What calls to platforms are for, and what is known of one account's."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Priority(IntEnum):
    """Whose turn it is when not all calls can be made at once; the higher number goes first."""

    SWEEP = 1
    """Everything, page by page: polls that nobody waits for."""
    PROBE = 2
    """Finding out whether deliveries still arrive."""
    REPAIR = 3
    """Subscriptions that are looked after, and polls that make up for deliveries that do not arrive."""
    TICKLE = 4
    """Single items that are known to have changed."""
    ANSWER = 5
    """Somebody waits for this answer."""

    @property
    def label(self) -> str:
        """Its name in metrics."""
        return self.name.lower()


class Operation(StrEnum):
    """What a call does; each has a breaker of its own, since a platform can fail at one of them alone."""

    LEVELS = "levels"
    PAGE = "page"
    SUBSCRIPTION = "subscription"
    CANARY = "canary"
    WRITE = "write"


class Verdict(StrEnum):
    """What a call shows about its platform."""

    WELL = "well"
    FAILED = "failed"
    NOTHING = "nothing"
    """It was throttled, called off, or not sent at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How often one account's platform may be called."""

    capacity: float
    restored_per_s: float
    concurrency: int = 2
    per_day: int = 0
    """0: no limit."""
    per_listing_per_day: int = 0
    """0: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """What was left at a time, and how it fills."""

    left: float
    at_ms: int
    capacity: float
    restored_per_s: float
    closed_until_ms: int = 0
    """No call before this; until then it does not fill either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A call that waits for its turn."""

    priority: Priority
    cost: float
    listing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose calls are counted."""

    merchant: str
    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerState:
    """How one breaker stands, as the store has it."""

    state: str
    """``closed``, ``open`` or ``half_open``; an open one whose time is over is half open."""
    trips: int = 0
    """How often in a row it has opened without having closed."""
    wait_ms: int = 0
    """For how long no call is let through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """What is left of an account's limits."""

    remaining: float
    """In the unit of the limits, now."""
    capacity: float
    restored_per_s: float
    calls_today: int = 0
    in_flight: int = 0
    """Calls on their way."""
    throttled_ms: int = 0
    """For how long the platform wants no calls at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamState:
    """What is known of the calls to one account's platform."""

    breakers: Mapping[str, BreakerState] = field(default_factory=dict)
    """By operation; one that never opened in the last day is not named."""
    budget: BudgetState | None = None
    """``None``: no call in the last day."""
