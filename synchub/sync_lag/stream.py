"""One stream of deliveries: its rhythm, its past silences, and the one that lasts. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synchub.sync_lag.rhythm import HOUR_MS, Rhythm
from synchub.sync_lag.silence import Silences

if TYPE_CHECKING:
    from synchub.sync_lag.model import Terms


class Stream:
    """What is known of one stream; a few kilobytes, whatever the traffic."""

    __slots__ = ("_bound", "_bound_for", "heard_ms", "quiet_ms", "rhythm", "silences")

    def __init__(self) -> None:
        self.rhythm = Rhythm()
        self.silences = Silences()
        self.heard_ms = 0
        """The last delivery; 0: none yet."""
        self.quiet_ms = 0
        """Since when it is silent: the last delivery, or a poll that found nothing that had been missed."""
        self._bound: float | None = None
        self._bound_for = (-1, -1)

    def hear(self, first_ms: int, last_ms: int, count: int, terms: Terms, *, is_sound: bool) -> None:
        """Take in deliveries; in between they are taken to be spread evenly."""
        self._end_silence(first_ms, terms, is_sound=is_sound)
        if count > 1 and is_sound and self._is_learned(terms):
            self.silences.add(self.rhythm.expected(first_ms, last_ms) / (count - 1), count - 1)
        self._pass_to(last_ms, terms)
        self.rhythm.count += count
        self.heard_ms = max(self.heard_ms, last_ms)
        self.quiet_ms = max(self.quiet_ms, last_ms)

    def find_quiet(self, at_ms: int, terms: Terms, *, is_sound: bool) -> None:
        """Take note that there was nothing to be told until then."""
        if self.heard_ms:
            self._end_silence(at_ms, terms, is_sound=is_sound)
            self.quiet_ms = max(self.quiet_ms, at_ms)

    def restart(self, at_ms: int) -> None:
        """Forget the silence that lasts: nobody listened."""
        self.rhythm.spoil()
        if self.heard_ms:
            self.quiet_ms = max(self.quiet_ms, at_ms)

    def silence(self, now_ms: int, terms: Terms, *, since_ms: int = 0) -> float:
        """How long it is silent, as a share of what would be too long; 0 while that is not known."""
        begun_ms = max(self.quiet_ms, since_ms)
        if not self.quiet_ms or now_ms - begun_ms < terms.silence_floor_ms:
            return 0.0
        bound = self.bound(now_ms, terms)
        return self.rhythm.expected(begun_ms, now_ms) / bound if bound else 0.0

    def bound(self, now_ms: int, terms: Terms) -> float | None:
        """How long a silence is too long, in usual deliveries; ``None``: not known yet."""
        self._pass_to(now_ms, terms)
        if not self._is_learned(terms):
            return None
        # It moves slowly: once an hour is enough, and cheap.
        wanted = (self.rhythm.hour, terms.tests)
        if wanted != self._bound_for:
            self._bound = self.silences.bound(terms.false_alarm_weeks * terms.tests)
            self._bound_for = wanted
        return self._bound

    def as_json(self) -> dict[str, Any]:
        """Everything that is known, as JSON values."""
        return {
            "rhythm": self.rhythm.as_json(),
            "silences": self.silences.as_json(),
            "heard": self.heard_ms,
            "quiet": self.quiet_ms,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Stream:
        """Return what ``as_json`` had written."""
        stream = cls()
        stream.rhythm = Rhythm.from_json(value["rhythm"])
        stream.silences = Silences.from_json(value["silences"])
        stream.heard_ms, stream.quiet_ms = value["heard"], value["quiet"]
        return stream

    def _end_silence(self, at_ms: int, terms: Terms, *, is_sound: bool) -> None:
        self._pass_to(at_ms, terms)
        if not (self.quiet_ms and is_sound and self._is_learned(terms)):
            return
        length = self.rhythm.expected(self.quiet_ms, at_ms)
        bound = self._bound if self._bound_for[0] == self.rhythm.hour else self.bound(at_ms, terms)
        self.silences.add(length, bound=bound)
        if bound is not None and length > bound:
            self._bound_for = (-1, -1)

    def _pass_to(self, now_ms: int, terms: Terms) -> None:
        if now_ms // HOUR_MS <= self.rhythm.hour:  # nearly always
            return
        taught = self.rhythm.pass_to(now_ms)
        if taught and self._is_learned(terms):
            self.silences.observe(taught, now_ms)

    def _is_learned(self, terms: Terms) -> bool:
        return self.rhythm.hours >= terms.learn_hours
