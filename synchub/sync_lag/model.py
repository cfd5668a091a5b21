"""What is heard of an account, what speaks against it, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synchub.connector_kit.contract import HookState


class SyncState(StrEnum):
    """How an account's deliveries stand."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    """Something is odd: looking by a poll costs little."""
    STALLED = "stalled"
    """Deliveries do not arrive: changes are polled."""
    RECOVERING = "recovering"
    """Deliveries arrive again, and are not relied on yet."""


class Strength(IntEnum):
    """How much a piece of evidence says."""

    WEAK = 1
    """Worth a look."""
    MEDIUM = 2
    """Enough together with another kind."""
    DECISIVE = 3
    """Enough by itself: a delivery was due for certain and did not come."""


class Kind(StrEnum):
    """What speaks against an account."""

    SILENCE = "silence"
    """It is silent for longer than its rhythm explains."""
    TOPIC_SILENCE = "topic_silence"
    """One kind of its deliveries is."""
    CANARY = "canary"
    """Signs of life are missing."""
    UNSEEN = "unseen"
    """A poll found a change of which no delivery told, and nothing has arrived since."""
    LOST = "lost"
    """A poll found such a change, while other deliveries arrive."""
    COVERAGE = "coverage"
    """Too large a part of what polls find was never delivered."""
    SUBSCRIPTION = "subscription"
    """The platform itself says that it does not send."""
    WARNED = "warned"
    """The platform says that it may stop sending."""
    REJECTING = "rejecting"
    """Deliveries come and are refused: look at the secret."""
    OURS = "ours"
    """Nobody is heard, or we are behind: the cause is here."""


FAMILIES: Mapping[Kind, str] = {
    Kind.SILENCE: "silence",
    Kind.TOPIC_SILENCE: "silence",
    Kind.CANARY: "canary",
    Kind.UNSEEN: "polls",
    Kind.LOST: "polls",
    Kind.COVERAGE: "polls",
    Kind.SUBSCRIPTION: "platform",
    Kind.WARNED: "platform",
    Kind.REJECTING: "signature",
    Kind.OURS: "ours",
}
"""Kinds of one family are not independent of each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One thing that speaks against an account."""

    kind: Kind
    strength: Strength
    at_ms: int
    """Since when it does."""
    sentence: str
    """For people; no secret, no address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSync:
    """What is known of one account's deliveries."""

    account: str
    merchant: str
    platform: str
    state: SyncState
    since_ms: int
    """When it came into this state."""
    suspicion: float
    """0: nothing; from 1 on there is enough to call it stalled."""
    evidence: tuple[Evidence, ...] = ()
    """What speaks against it now; of a stalled one also what made it so."""
    heard_ms: int = 0
    """Its last delivery that was no repeat; 0: none yet."""
    freshest_ms: int = 0
    """The newest time that its platform has told; 0: none yet."""
    is_busy: bool = True
    """Whether much changes at this hour, as far as that is known."""
    deliveries: int = 0
    """Those heard since it is judged."""
    canary_ms: int = 0
    """Its last sign of life; 0: none yet."""
    found: int = 0
    """What polls found in the last day, or since it recovered."""
    unseen: int = 0
    """Of these, what no delivery had told."""
    topics: Mapping[str, float] = field(default_factory=dict)
    """Topic to its silence, as a share of what would be too long."""
    judged_ms: int = 0

    @property
    def coverage(self) -> float | None:
        """The share of what polls found that deliveries had told; ``None``: nothing was found."""
        return (self.found - self.unseen) / self.found if self.found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Everyone:
    """What is known of all accounts together."""

    is_silent: bool = False
    """Nobody is heard, which no single platform can be blamed for."""
    sentence: str = ""
    judged_ms: int = 0
    """When they were last judged; 0: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollFinding:
    """What one poll found, compared with what deliveries had told."""

    at_ms: int
    """When the poll began."""
    reached_end: bool
    """Nothing was left to read."""
    records: int
    """Changes that it brought; those read again on purpose are not among them."""
    unseen: int
    """Of these, what no delivery had told."""
    oldest_unseen_ms: int | None = None
    """When the oldest of these was changed, by the platform; ``None``: it does not say, or there is none."""
    failed: str = ""
    """Why it found nothing, if it failed."""
    newest_ms: int | None = None
    """The newest time that the platform told in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFinding:
    """What a platform said of the deliveries that it was asked for."""

    at_ms: int
    state: HookState
    sentence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Deliveries of one topic within about a second."""

    topic: str
    count: int
    first_ms: int
    last_ms: int
    newest_ms: int = 0
    """The newest source time among them."""
    delays: Mapping[int, int] = field(default_factory=dict)
    """Step of delay to how many took so long; see ``delays.py``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """What one process heard of one account within about a second."""

    heard: tuple[Heard, ...] = ()
    echo_ms: int = 0
    """The last delivery that told nothing new, because a poll was sooner or because it was a repeat."""
    canary_ms: int = 0
    """The last sign of life."""
    canary_every_ms: int = 0
    """How soon the next one follows, by the sender; 0: not said."""
    refused: int = 0
    """Deliveries that nobody's secret had signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the judge knows of an account besides what is heard."""

    account: str
    merchant: str
    platform: str
    is_polled: bool
    """Polls tell what deliveries have missed."""
    posts: bool = True
    """It sends deliveries at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Settings of judging, and over how many things at once it is done."""

    silence_floor_ms: int
    false_alarm_weeks: int
    learn_hours: int
    canary_every_ms: int
    canary_missed_max: int
    grace_ms: int
    recover_deliveries: int
    recover_polls: int
    tests: int = 1
    """Silences that are judged at once, of all accounts: each must be so much rarer."""
