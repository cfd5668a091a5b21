"""What is remembered of one account: bounded, and written as JSON with a version. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from synchub.connector_kit.contract import HookState
from synchub.sync_lag.delays import Delays
from synchub.sync_lag.model import Evidence, Kind, Strength, SyncState
from synchub.sync_lag.stream import Stream

VERSION: Final = 1
TOPICS_MAX: Final = 16
"""Topics with a rhythm of their own; later ones share one."""
OTHER: Final = "other"
DAY_H: Final = 24
MINUTES_KEPT: Final = 5
ASKS_MAX: Final = 16


@dataclass(slots=True, kw_only=True)
class Canary:
    """Signs of life."""

    last_ms: int = 0
    """The last one; 0: none yet."""
    every_ms: int = 0
    """How soon the sender said that the next one follows; 0: they are asked for."""
    asked: list[int] = field(default_factory=list)
    """When they were asked for, since anything was heard."""
    asked_from_ms: int = 0
    """When the first one was asked for since the last one came; 0: none."""
    is_mute: bool = False
    """They have stopped although deliveries arrive, so their absence says nothing."""


@dataclass(slots=True, kw_only=True)
class Polls:
    """What polls have found."""

    last_ms: int = 0
    unseen_ms: int = 0
    """When the change was made of which nothing told, and after which nothing arrived; 0: there is none."""
    doubted_ms: int = 0
    """When a change was made whose delivery may still be on its way; 0: there is none."""
    lost_ms: int = 0
    """When a poll last found a change that was lost while others arrived; 0: never."""
    days: list[list[int]] = field(default_factory=list)
    """Hour since 1970, changes found in it, those of which nothing had told."""


@dataclass(slots=True, kw_only=True)
class Recovery:
    """How far an account is on its way back."""

    deliveries: int = 0
    polls: int = 0
    factor: int = 1
    """So many times as much is asked of one that has relapsed."""
    well_ms: int = 0
    """When it last had recovered; 0: never."""
    by_canary: bool = False
    """Missing signs of life had stalled it, so signs of life count for its recovery."""


@dataclass(slots=True, kw_only=True)
class Watch:
    """Everything that is known of one account."""

    from_ms: int
    """Since when it is judged."""
    state: SyncState = SyncState.HEALTHY
    since_ms: int = 0
    whole: Stream = field(default_factory=Stream)
    topics: dict[str, Stream] = field(default_factory=dict)
    delays: Delays = field(default_factory=Delays)
    canary: Canary = field(default_factory=Canary)
    polls: Polls = field(default_factory=Polls)
    recovery: Recovery = field(default_factory=Recovery)
    hook_state: HookState = HookState.SOUND
    hook_ms: int = 0
    hook_sentence: str = ""
    minutes: list[list[int]] = field(default_factory=list)
    """Minute since 1970, deliveries heard in it, deliveries refused in it."""
    evidence: tuple[Evidence, ...] = ()
    kept: tuple[Evidence, ...] = ()
    """What made it stalled, until it has recovered."""
    deliveries: int = 0
    echo_ms: int = 0
    freshest_ms: int = 0
    judged_ms: int = 0
    deaf_ms: int = 0
    """Until when nobody listened."""
    week: int = 0
    position: str = "0-0"
    """The last observation that is part of this."""

    @property
    def is_sound(self) -> bool:
        """Whether what happens now may teach what is usual."""
        return self.state in {SyncState.HEALTHY, SyncState.SUSPECT}

    @property
    def signed_ms(self) -> int:
        """The last delivery or sign of life."""
        return max(self.whole.heard_ms, self.canary.last_ms)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Everything whose silence is judged: the whole, and the topics if there are several."""
        return (self.whole, *self.topics.values()) if len(self.topics) > 1 else (self.whole,)

    def topic(self, name: str) -> Stream:
        """Return the stream of a topic; the only topic is the whole."""
        if name in self.topics:
            return self.topics[name]
        if not self.topics:
            return self.topics.setdefault(name, self.whole)
        if len(self.topics) == 1:
            self.topics = {first: Stream.from_json(whole.as_json()) for first, whole in self.topics.items()}
        if len(self.topics) >= TOPICS_MAX:
            name = OTHER
        return self.topics.setdefault(name, Stream())

    def coverage(self, now_ms: int) -> tuple[int, int]:
        """What polls found within a day, and how much of it nothing had told."""
        recent = [day for day in self.polls.days if day[0] > now_ms // 3_600_000 - DAY_H]
        return sum(day[1] for day in recent), sum(day[2] for day in recent)

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "version": VERSION,
            "whole": self.whole.as_json(),
            "topics": {
                name: None if stream is self.whole else stream.as_json()
                for name, stream in self.topics.items()
            },
            "delays": self.delays.as_json(),
            "canary": asdict(self.canary),
            "polls": asdict(self.polls),
            "recovery": asdict(self.recovery),
            "evidence": [evidence_json(one) for one in self.evidence],
            "kept": [evidence_json(one) for one in self.kept],
            **{name: getattr(self, name) for name in _PLAIN},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Watch | None:
        """Return what ``as_json`` had written; ``None``: another version did, and it is learned anew."""
        if value.get("version") != VERSION:
            return None
        whole = Stream.from_json(value["whole"])
        topics = value["topics"].items()
        watch = cls(
            from_ms=value["from_ms"],
            whole=whole,
            topics={name: Stream.from_json(stream) if stream else whole for name, stream in topics},
            delays=Delays.from_json(value["delays"]),
            canary=Canary(**value["canary"]),
            polls=Polls(**value["polls"]),
            recovery=Recovery(**value["recovery"]),
            evidence=tuple(evidence_of(one) for one in value["evidence"]),
            kept=tuple(evidence_of(one) for one in value["kept"]),
        )
        for name in _PLAIN:
            setattr(watch, name, value[name])
        watch.state, watch.hook_state = SyncState(watch.state), HookState(watch.hook_state)
        return watch


_PLAIN: Final = (
    "from_ms",
    "state",
    "since_ms",
    "hook_state",
    "hook_ms",
    "hook_sentence",
    "minutes",
    "deliveries",
    "echo_ms",
    "freshest_ms",
    "judged_ms",
    "deaf_ms",
    "week",
    "position",
)


def evidence_json(evidence: Evidence) -> dict[str, Any]:
    """Return a piece of evidence as JSON values."""
    return {
        "kind": evidence.kind.value,
        "strength": evidence.strength.name.lower(),
        "at_ms": evidence.at_ms,
        "sentence": evidence.sentence,
    }


def evidence_of(value: dict[str, Any]) -> Evidence:
    """Return the piece of evidence that ``evidence_json`` had written."""
    return Evidence(
        kind=Kind(value["kind"]),
        strength=Strength[value["strength"].upper()],
        at_ms=value["at_ms"],
        sentence=value["sentence"],
    )
