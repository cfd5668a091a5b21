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
    fanout_s: float = 3.0
    readers: tuple[int, ...] = (100, 500, 2_000)
    stopped_among: int = 500
    watched_skus: int = 100_000
    watched_each: int = 200
    idle_readers: int = 10_000


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
        fanout_s=1.0,
        readers=(20, 50),
        stopped_among=50,
        watched_skus=2_000,
        watched_each=20,
        idle_readers=200,
    )
