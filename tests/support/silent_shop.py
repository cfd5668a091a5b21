"""A shop whose deliveries are judged, with a clock of its own and a default for everything."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from synchub.sync_lag import rules
from synchub.sync_lag.model import About, Heard, HookFinding, PollFinding, Second, Terms
from synchub.sync_lag.stream import Stream
from synchub.sync_lag.watch import Watch

if TYPE_CHECKING:
    from synchub.connector_kit.contract import HookState
    from synchub.sync_lag.model import Evidence, Kind, SyncState

HOUR_MS: Final = 3_600_000
WEEK_MS: Final = 168 * HOUR_MS
START_MS: Final = 2900 * WEEK_MS
TERMS: Final = Terms(
    silence_floor_ms=20_000,
    false_alarm_weeks=8,
    learn_hours=168,
    canary_every_ms=60_000,
    canary_missed_max=3,
    grace_ms=60_000,
    recover_deliveries=3,
    recover_polls=2,
)
ABOUT: Final = About(account="shop", merchant="demo", platform="acme", is_polled=True)


class SilentShop:
    """One watched account; times in milliseconds, ``now`` moves only when it is told to."""

    def __init__(self, *, is_polled: bool = True, posts: bool = True, **terms: Any) -> None:
        self.now = START_MS
        self.terms = replace(TERMS, **terms)
        self.about = replace(ABOUT, is_polled=is_polled, posts=posts)
        self.watch = Watch(from_ms=self.now, since_ms=self.now)

    @property
    def state(self) -> SyncState:
        """Its state after the last judgement."""
        return self.watch.state

    @property
    def kinds(self) -> dict[Kind, Evidence]:
        """What speaks against it after the last judgement."""
        return {one.kind: one for one in self.watch.evidence}

    def hear(self, count: int = 1, *, topic: str = "stock", delay_ms: int | None = None) -> None:
        """Let deliveries arrive."""
        delays = {} if delay_ms is None else {max(0, delay_ms).bit_length(): count}
        heard = Heard(topic=topic, count=count, first_ms=self.now, last_ms=self.now, delays=delays)
        rules.hear(self.watch, Second(heard=(heard,)), self.now, self.terms)

    def second(self, **fields: Any) -> None:
        """Let anything else be heard."""
        rules.hear(self.watch, Second(**fields), self.now, self.terms)

    def beat(self, every_ms: int = 60_000) -> None:
        """Let a sign of life arrive."""
        self.second(canary_ms=self.now, canary_every_ms=every_ms)

    def poll(self, records: int = 0, unseen: int = 0, *, age_ms: int | None = None, **fields: Any) -> None:
        """Let a poll find something; ``age_ms`` is how long ago the oldest unheard of was changed."""
        oldest_ms = None if age_ms is None else self.now - age_ms
        finding = PollFinding(
            at_ms=self.now,
            reached_end=fields.pop("reached_end", True),
            records=max(records, unseen),
            unseen=unseen,
            oldest_unseen_ms=oldest_ms,
            **fields,
        )
        rules.find(self.watch, finding, self.about, self.terms)

    def hooks(self, state: HookState) -> None:
        """Let the platform say how its promise stands."""
        rules.learn_of_hooks(self.watch, HookFinding(at_ms=self.now, state=state, sentence="It says so."))

    def judge(self, **about: Any) -> SyncState:
        """Judge it now."""
        rules.judge(self.watch, self.about, self.now, self.terms, **about)
        return self.watch.state

    def wait(self, ms: int, *, step_ms: int = 0, **about: Any) -> SyncState:
        """Let time pass, judging now and then."""
        until = self.now + ms
        while self.now < until:
            self.now = min(until, self.now + (step_ms or ms))
            self.judge(**about)
        return self.watch.state

    def learn(self, per_hour: float = 60, *, topics: tuple[str, ...] = ("stock",), weeks: int = 4) -> None:
        """Know the rhythm of some weeks, and hear one more delivery of each topic."""
        value = orjson.loads(_learned(per_hour, weeks))
        self.watch.whole = Stream.from_json(value)
        self.watch.topics = {topic: Stream.from_json(value) for topic in topics}
        if len(topics) == 1:
            self.watch.topics = {topics[0]: self.watch.whole}
        self.now = START_MS + weeks * WEEK_MS
        self.watch.from_ms = START_MS
        for topic in topics:
            self.hear(topic=topic)
        self.judge()


@cache
def _learned(per_hour: float, weeks: int) -> bytes:
    """A stream that has been steady for some weeks."""
    chance, stream, at_ms = random.Random(1), Stream(), START_MS
    while at_ms < START_MS + weeks * WEEK_MS:
        at_ms += int(chance.expovariate(per_hour) * HOUR_MS)
        stream.hear(at_ms, at_ms, 1, TERMS, is_sound=True)
    stream.quiet_ms = stream.heard_ms = START_MS + weeks * WEEK_MS
    return orjson.dumps(stream.as_json())
