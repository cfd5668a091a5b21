"""Relates the hub's clock to ours without either being right.

The hub says "at my time x you know everything"; ``Anchor.moment`` says when, on our
clock, that was at the earliest. It rests on one fact: the hub took our request after
we had sent it. From there the two clocks may drift apart by :data:`RHO` each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RHO: Final = 1e-4
"""How fast a clock may go wrong: 0.1 ms per second, several times what quartz does."""
STRETCH: Final = (1 + RHO) / (1 - RHO)
"""How much longer the same time may last on one clock than on another: 1 + 2 rho, rounded up."""
TICK_MS: Final = 1
"""The hub rounds its times down to whole milliseconds, so a difference of two may be one too long."""
_SHARE: Final = 20


@dataclass(frozen=True, slots=True)
class Anchor:
    """``sent_at`` on our clock (seconds) was before ``st_ms`` on the hub's."""

    sent_at: float
    st_ms: int

    def moment(self, asof_ms: int) -> float:
        """Return a moment of our clock that is not later than the hub's ``asof_ms``.

        After the anchor the elapsed time counts as short as it may have been; before
        it, as long, because then a longer time leads further back.
        """
        elapsed_s = (asof_ms - self.st_ms - TICK_MS) / 1000
        return self.sent_at + (elapsed_s / STRETCH if elapsed_s > 0 else elapsed_s * STRETCH)


def anchor_life_s(bound_s: float) -> float:
    """Return after how long an anchor is to be replaced: when drift may have eaten a tenth of the bound."""
    return bound_s / (_SHARE * RHO)
