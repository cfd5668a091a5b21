"""The nouns of policies: what a merchant has decided about one SKU as one asker sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Disclosure(StrEnum):
    """How much of the number is told."""

    EXACT = "exact"
    BUCKET = "bucket"
    """The lower end of a range."""
    NONE = "none"
    """Only the state."""


class OnStale(StrEnum):
    """What is told and granted while nothing fresh is known of a SKU."""

    ANSWER = "answer"
    """The last number, marked as degraded."""
    ASSUME_OUT = "assume_out"
    ASSUME_IN = "assume_in"
    ESCALATE = "escalate"
    """A person decides; the agent may not."""


class OnUnknown(StrEnum):
    """What is told and granted while no source has a number."""

    ASSUME_OUT = "assume_out"
    ASSUME_IN = "assume_in"
    ESCALATE = "escalate"
    """A person decides; the agent may not."""


class Takeover(StrEnum):
    """What a source may do that stands in for a better one gone stale."""

    CAUTIOUS = "cautious"
    """Lower the number, and not raise it above what the better one last said."""
    TRUSTING = "trusting"


class Conflict(StrEnum):
    """What becomes of a commit for which the stock is gone."""

    HONOUR = "honour"
    BACKORDER = "backorder"
    VOID = "void"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for one SKU, tier and channel; the defaults are those of a merchant without policies."""

    version: int
    """Version of the merchant's policies that these follow from; grows with every edit."""
    buffer_units: int = 0
    """Units kept back from the asker."""
    buffer_bp: int = 0
    """Hundredths of a per cent of the reference quantity kept back, rounded up."""
    lag_units: int = 0
    """Units kept back for each step by which the evidence is older than allowed."""
    allowance_bp: int = 0
    """Hundredths of a per cent of the reference quantity that may be oversold, rounded down."""
    channel_cap: int | None = None
    """Most units the channel may have."""
    low_threshold: int = 5
    """Below so many units an item is LOW_STOCK."""
    disclosure: Disclosure = Disclosure.EXACT
    on_stale: OnStale = OnStale.ANSWER
    on_unknown: OnUnknown = OnUnknown.ASSUME_OUT
    takeover: Takeover = Takeover.CAUTIOUS
    split: bool = True
    """Whether one line may be served from several locations."""
    units_per_agent: int | None = None
    units_per_buyer: int | None = None
    transactions_per_session: int | None = None
    confirm_ms: int = 0
    """How long a sale can still be dropped after its commit; 0: not at all."""
    conflict: Conflict = Conflict.HONOUR
    backpressure_below: int | None = None
    """Below so many units agents are asked to slow down; None: the low threshold."""

    @property
    def slow_below(self) -> int:
        """Below so many units agents are asked to slow down."""
        return self.low_threshold if self.backpressure_below is None else self.backpressure_below


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whom a rule is about; what is left out is everything."""

    skus: tuple[str, ...] = ()
    """SKUs and patterns: ``*`` is any run of characters, ``?`` any one, ``\\`` before one means itself."""
    tier: str | None = None
    channel: str | None = None

    @property
    def is_everything(self) -> bool:
        """Whether the rule is about every SKU and every asker."""
        return not self.skus and self.tier is None and self.channel is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Some fields of :class:`Terms`, set for a scope."""

    scope: Scope
    changes: Mapping[str, object]
    """By the names of the fields of :class:`Terms`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class General:
    """What holds for all of the merchant's stock and for every asker alike."""

    lag_step_ms: int = 0
    """Every so much that evidence is older than the grace adds the lag units once; 0: never."""
    lag_grace_ms: int = 0
    fast_max_age_ms: int | None = None
    """How old the evidence of a SKU that sells fast may be; None: the account's own limit."""
    slow_max_age_ms: int | None = None
    confirm_new_sources: bool = False
    """Whether one more source of a SKU that has one counts only when a person has said so."""
    locations: tuple[str, ...] = ()
    """The merchant's locations, the one to sell from first in front; others follow."""
    destinations: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Of each country the locations to serve it from, the first in front; others follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """One version of everything a merchant has decided."""

    version: int
    """0: nothing has been decided yet."""
    rules: tuple[Rule, ...] = ()
    general: General = General()


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A version in the history: who made it, and when by the merchant's clock."""

    version: int
    author: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A version with its document as it was written."""

    edit: Edit
    document: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of an edit: the version it made, now or at its first attempt, and the present one."""

    edit: Edit
    current: int
    repeated: bool
    """It had been made before; nothing was written now."""
