"""How long a silence is too long, after those that ended well. Pure.

A silence is measured in deliveries that would have been usual in it, so that nights and days are of one
kind. Beyond their 99.5 % quantile such silences are taken to fall off exponentially (peaks over a
threshold): from quantile, mean excess and how many excesses a period has follows the length that is
exceeded once in that period. The memory is a histogram of a hundred steps.
"""

from __future__ import annotations

import math
from typing import Any, Final

from synchub.sync_lag.rhythm import HOUR_MS, WEEK_H

STEPS: Final = 96
FIRST: Final = 0.05
RATIO: Final = 1.15
TAIL: Final = 0.005
"""The part of all silences whose excess is looked at."""
TAIL_MIN: Final = 10
"""Fewer excesses say nothing about their mean: the quantile is taken lower."""
SILENCES_MIN: Final = 200
FORGET: Final = 0.85
"""What last week's silences still weigh."""
WEEKS_KEPT: Final = 12
"""The longest silence of each of so many weeks is kept as it was."""
LESSON_MAX: Final = 2.0
"""No silence teaches more than so many times what was too long before it."""
_LOG_RATIO: Final = math.log(RATIO)


class Silences:
    """Past silences of one stream of deliveries, and how long the next one may be."""

    __slots__ = ("counts", "hours", "longest", "sums", "week")

    def __init__(self) -> None:
        self.counts = [0.0] * STEPS
        self.sums = [0.0] * STEPS
        self.longest = [0.0] * WEEKS_KEPT
        self.hours = 0.0
        """Hours in which they were observed, with the weight that they still have."""
        self.week = -1

    def add(self, length: float, count: float = 1.0, *, bound: float | None = None) -> None:
        """Learn from silences of one length that ended well; ``bound`` is what would have been too long."""
        if bound is not None:
            length = min(length, LESSON_MAX * bound)
        step = _step(length)
        self.counts[step] += count
        self.sums[step] += count * length
        place = self.week % WEEKS_KEPT
        self.longest[place] = max(self.longest[place], length)

    def observe(self, hours: int, now_ms: int) -> None:
        """Say for how long they were observed; with a new week the old ones weigh less."""
        self.hours += hours
        week = now_ms // (HOUR_MS * WEEK_H)
        if week == self.week:
            return
        if self.week >= 0:
            self.counts = [count * FORGET for count in self.counts]
            self.sums = [total * FORGET for total in self.sums]
            self.hours *= FORGET
        self.week = week
        self.longest[week % WEEKS_KEPT] = 0.0

    def bound(self, period_weeks: float) -> float | None:
        """The length that is exceeded once in so many weeks; ``None``: too little is known."""
        total = sum(self.counts)
        if total < SILENCES_MIN or not self.hours:
            return None
        wanted = max(TAIL * total, TAIL_MIN)
        step, excesses, length = STEPS, 0.0, 0.0
        while step > 0 and excesses < wanted:
            step -= 1
            excesses += self.counts[step]
            length += self.sums[step]
        quantile = _edge(step)
        # An exponential tail would have this mean excess, if it began at nothing.
        least = 0.5 * quantile / math.log(total / excesses) if excesses < total / 2 else 0.0
        excess = max(length / excesses - quantile, least)
        expected = excesses / self.hours * WEEK_H * period_weeks
        return max(quantile + excess * math.log(max(1.0, expected)), *self.longest)

    def as_json(self) -> dict[str, Any]:
        """Everything that is known, as JSON values; empty steps are left out."""
        return {
            "steps": [
                [step, round(count, 3), round(self.sums[step], 3)]
                for step, count in enumerate(self.counts)
                if count
            ],
            "longest": [round(length, 3) for length in self.longest],
            "hours": round(self.hours, 3),
            "week": self.week,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Silences:
        """Return what ``as_json`` had written."""
        silences = cls()
        for step, count, total in value["steps"]:
            silences.counts[step], silences.sums[step] = count, total
        silences.longest = list(value["longest"])
        silences.hours, silences.week = value["hours"], value["week"]
        return silences


def _step(length: float) -> int:
    if length < FIRST:
        return 0
    return min(STEPS - 1, 1 + int(math.log(length / FIRST) / _LOG_RATIO))


def _edge(step: int) -> float:
    return 0.0 if step == 0 else FIRST * RATIO ** (step - 1)
