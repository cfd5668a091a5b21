"""How long everything is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """``runs`` of each figure, of which the median counts."""

    runs: int
    seconds: float = 5.0
    saturated_requests: int = 40_000
    apply_rounds: int = 6
    idle_s: float = 20.0
    holds: int = 40_000
    live_holds: int = 100_000
    peer_s: float = 10.0
    skus: int = 1_000_000


def scale_of(*, runs: int, quick: bool) -> Scale:
    """Return the full scale, or one that only shows that everything works."""
    if not quick:
        return Scale(runs=runs)
    return Scale(
        runs=1,
        seconds=1.5,
        saturated_requests=8_000,
        apply_rounds=2,
        idle_s=5.0,
        holds=4_000,
        live_holds=8_000,
        peer_s=2.0,
        skus=20_000,
    )
