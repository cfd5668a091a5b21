"""Made-up deliveries of shops, by the hour and the week: what a detector of silence is tried on.

A trace is a sequence of windows, each a few deliveries close together, as a worker would note them.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR_MS: Final = 3_600_000
WEEK_H: Final = 168
START_MS: Final = 2900 * WEEK_H * HOUR_MS
LEARNING_WEEKS: Final = 4
TEST_WEEKS: Final = 6
WEEKS: Final = LEARNING_WEEKS + TEST_WEEKS
TEST_FROM_MS: Final = START_MS + LEARNING_WEEKS * WEEK_H * HOUR_MS
END_MS: Final = START_MS + WEEKS * WEEK_H * HOUR_MS
QUARTER_WEEKS: Final = 13
_BURST_MS: Final = 8000


@dataclass(frozen=True, slots=True)
class Window:
    """A few deliveries close together."""

    first_ms: int
    last_ms: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How much a shop has to tell, and how evenly."""

    name: str
    per_hour: float
    burst: int = 1
    window_ms: int = 30_000
    """Single deliveries so close together are noted as one window."""
    noise: float = 0.3
    """How far whole hours differ from what is usual, up and down."""
    events: tuple[str, ...] = ()
    """What happens in the weeks after learning: ``holiday``, ``sale``, ``summer time``."""


TRAFFIC: Final = (
    Traffic(name="1,200 an hour", per_hour=1200),
    Traffic(name="600 an hour, in bursts of 8", per_hour=600, burst=8),
    Traffic(name="60 an hour", per_hour=60),
    Traffic(name="60 an hour, in bursts of 5", per_hour=60, burst=5),
    Traffic(name="6 an hour", per_hour=6),
)

HOLIDAY_H: Final = (LEARNING_WEEKS + 1) * WEEK_H + 48
SALE_H: Final = (LEARNING_WEEKS + 2) * WEEK_H + 72
SUMMER_H: Final = (LEARNING_WEEKS + 3) * WEEK_H + 26


def windows(traffic: Traffic, seed: int) -> Iterator[Window]:
    """Return ten weeks of deliveries; equal for equal seeds."""
    chance = random.Random(f"{traffic.name}/{seed}")
    for hour in range(WEEKS * WEEK_H):
        level = 1 + traffic.noise * chance.uniform(-1, 1)
        starts = _poisson(chance, level * rate(traffic, hour) / traffic.burst)
        times = sorted(START_MS + int((hour + chance.random()) * HOUR_MS) for _ in range(starts))
        if traffic.burst > 1:
            for time in times:
                yield Window(time, time + chance.randint(1000, _BURST_MS), traffic.burst)
        else:
            yield from _grouped(times, traffic.window_ms)


def rate(traffic: Traffic, hour: int) -> float:
    """How many deliveries an hour has, before chance: days, nights, weekends, and what happens."""
    shifted = hour + 1 if "summer time" in traffic.events and hour >= SUMMER_H else hour
    of_day, of_week = shifted % 24, shifted // 24 % 7
    factor = 1 + 0.85 * math.sin((of_day - 9) / 24 * 2 * math.pi)
    factor *= 0.6 if of_week >= 5 else 1.16
    if "holiday" in traffic.events and HOLIDAY_H <= hour < HOLIDAY_H + 48:
        factor *= 0.15
    if "sale" in traffic.events and SALE_H <= hour < SALE_H + 6:
        factor *= 10
    return traffic.per_hour * factor


def _grouped(times: list[int], window_ms: int) -> Iterator[Window]:
    begin = 0
    for place in range(1, len(times) + 1):
        if place == len(times) or times[place] - times[begin] > window_ms:
            yield Window(times[begin], times[place - 1], place - begin)
            begin = place


def _poisson(chance: random.Random, mean: float) -> int:
    if mean > 50:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    limit, product, number = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        number += 1
    return number
