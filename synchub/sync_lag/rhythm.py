"""How much is usual at this hour of the week. Pure; times are arguments.

Counts of each hour of the week are averaged over the weeks, newer weeks weighing more. A rate is taken
from three neighbouring hours, one part, two parts, one part, and drawn towards the mean while few weeks
have been seen. Hours in which something was wrong teach nothing. Weeks are counted in UTC: a merchant's
summer time moves the rhythm by an hour, which the neighbours soften.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Final

HOUR_MS: Final = 3_600_000
WEEK_H: Final = 168
NEWEST: Final = 0.3
"""The least weight of the newest week."""
SHRINK_WEEKS: Final = 0.5
"""How many weeks of the mean stand beside what was seen of an hour."""
JUMP: Final = 3.0
"""An hour teaches at most so many times what is usual: a sale of one day is no rhythm."""
SLACK: Final = 10.0
"""Events that an hour may have beyond that: few are never a jump."""
BUSY: Final = 0.5
"""An hour with at least this share of the mean is a busy one."""


class Rhythm:
    """The learned rate of one stream of deliveries: about 340 numbers, whatever the traffic."""

    __slots__ = ("_cumulated", "_rates", "count", "hour", "hours", "is_sound", "means", "weeks")

    def __init__(self) -> None:
        self.means = [0.0] * WEEK_H
        """Deliveries in each hour of the week."""
        self.weeks = [0] * WEEK_H
        """How often each has been seen."""
        self.hours = 0
        """Hours that taught something."""
        self.hour = -1
        """The hour now, since 1970."""
        self.count = 0.0
        self.is_sound = False
        """Whether the present hour has been observed from its beginning, and nothing was wrong."""
        self._rates: list[float] = []
        self._cumulated: list[float] = []

    def note(self, at_ms: int, count: float) -> None:
        """Count deliveries; those of an hour that is over already count for the present one."""
        self.pass_to(at_ms)
        self.count += count

    def spoil(self) -> None:
        """Learn nothing from the present hour."""
        self.is_sound = False

    def pass_to(self, now_ms: int) -> int:
        """Let time pass; returns how many hours have ended that taught something."""
        hour, taught = now_ms // HOUR_MS, 0
        if hour <= self.hour:
            return 0
        is_first = self.hour < 0
        if hour - self.hour > WEEK_H:
            self.is_sound = False
        while self.hour < hour and self.is_sound:
            self._learn()
            taught += 1
            self.count = 0.0
            self.hour += 1
        self.hour, self.count = hour, 0.0
        # The first hour was not seen whole.
        self.is_sound = not is_first
        return taught

    def rate(self, at_ms: int) -> float:
        """How many deliveries an hour are usual at a time."""
        return self._smooth()[(at_ms // HOUR_MS) % WEEK_H]

    def expected(self, from_ms: int, to_ms: int) -> float:
        """How many deliveries are usual between two times: silence in units of what is usual."""
        if to_ms <= from_ms:
            return 0.0
        hour = from_ms // HOUR_MS
        if hour == to_ms // HOUR_MS:  # nearly always
            return self._smooth()[hour % WEEK_H] * (to_ms - from_ms) / HOUR_MS
        return self._until(to_ms) - self._until(from_ms)

    def is_busy(self, at_ms: int) -> bool:
        """Whether this is an hour in which much changes; while nothing is known it is."""
        if not self.hours:
            return True
        rates = self._smooth()
        return rates[(at_ms // HOUR_MS) % WEEK_H] >= BUSY * sum(rates) / WEEK_H

    def as_json(self) -> dict[str, Any]:
        """Everything that is known, as JSON values."""
        return {
            "means": [round(mean, 2) for mean in self.means],
            "weeks": self.weeks,
            "hours": self.hours,
            "hour": self.hour,
            "count": self.count,
            "sound": self.is_sound,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Rhythm:
        """Return what ``as_json`` had written."""
        rhythm = cls()
        rhythm.means, rhythm.weeks = list(value["means"]), list(value["weeks"])
        rhythm.hours, rhythm.hour, rhythm.count = value["hours"], value["hour"], value["count"]
        rhythm.is_sound = value["sound"]
        return rhythm

    def _learn(self) -> None:
        slot = self.hour % WEEK_H
        seen = self.weeks[slot]
        count = self.count
        if self.hours >= WEEK_H:
            count = min(count, JUMP * self._smooth()[slot] + SLACK)
        weight = max(1 / (seen + 1), NEWEST)
        self.means[slot] += weight * (count - self.means[slot])
        self.weeks[slot] = min(seen + 1, 99)
        self.hours += 1
        self._rates = []

    def _smooth(self) -> list[float]:
        if not self._rates:
            self._rates = self._smoothed()
            self._cumulated = [0.0, *accumulate(self._rates)]
        return self._rates

    def _smoothed(self) -> list[float]:
        seen = [slot for slot in range(WEEK_H) if self.weeks[slot]]
        mean = sum(self.means[slot] for slot in seen) / len(seen) if seen else 0.0
        return [self._rate_of(slot, mean) for slot in range(WEEK_H)]

    def _rate_of(self, slot: int, mean: float) -> float:
        near = [(slot, 2), ((slot - 1) % WEEK_H, 1), ((slot + 1) % WEEK_H, 1)]
        known = [(self.means[one], weight) for one, weight in near if self.weeks[one]]
        if not known:
            return mean
        smooth = sum(value * weight for value, weight in known) / sum(weight for _, weight in known)
        weeks = self.weeks[slot]
        return (smooth * weeks + mean * SHRINK_WEEKS) / (weeks + SHRINK_WEEKS)

    def _until(self, at_ms: int) -> float:
        """What is usual from the first hour of 1970 on: differences of it are what is asked for."""
        rates = self._smooth()
        hours, rest_ms = divmod(at_ms, HOUR_MS)
        weeks, slot = divmod(hours, WEEK_H)
        whole = weeks * self._cumulated[WEEK_H] + self._cumulated[slot]
        return whole + rates[slot] * rest_ms / HOUR_MS
