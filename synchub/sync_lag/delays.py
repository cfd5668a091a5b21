"""How late deliveries are, in steps that double. Pure."""

from __future__ import annotations

from typing import Any, Final

STEPS: Final = 24
"""The last one takes everything from 2**22 ms (70 minutes) on."""
FEW: Final = 200
"""With fewer deliveries the latest one stands for the rest."""
FORGET: Final = 0.5
"""What last week's weigh."""


def step_of(delay_ms: int) -> int:
    """Return the step that a delay belongs to: 0 up to 1 ms, then doubling."""
    return min(STEPS - 1, max(0, delay_ms).bit_length())


class Delays:
    """How long deliveries were on their way, by the times that they name."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = [0.0] * STEPS

    def add(self, step: int, count: float) -> None:
        """Count deliveries of one step."""
        self.counts[min(step, STEPS - 1)] += count

    def fade(self) -> None:
        """Let a week pass."""
        self.counts = [count * FORGET for count in self.counts]

    def quantile_ms(self, share: float) -> int:
        """The time within which this share of deliveries arrived, rounded up to a step; 0: none is known."""
        total = sum(self.counts)
        above = (1 - share) * total if total >= FEW else 0.0
        for step in range(STEPS - 1, -1, -1):
            above -= self.counts[step]
            if above < 0:
                return 1 << step
        return 0

    def as_json(self) -> list[Any]:
        """Everything that is known, as JSON values."""
        return [[step, round(count, 3)] for step, count in enumerate(self.counts) if count]

    @classmethod
    def from_json(cls, value: list[Any]) -> Delays:
        """Return what ``as_json`` had written."""
        delays = cls()
        for step, count in value:
            delays.counts[step] = count
        return delays
