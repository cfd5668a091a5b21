"""How a number comes to contain other accounts' sales: what may be chosen, what was measured. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from synchub.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ANY: Final = "*"
"""Sales of every account for which nothing is chosen by itself."""

LAG_MAX_MS: Final = 86_400_000
STEPS_PER_OCTAVE: Final = 4
LATE: Final = "late"
SHARE: Final = 0.999

Pair = tuple[str, str]
"""An authority, and the account that sells."""


class Way(StrEnum):
    """What shows that a level contains a sale."""

    OWN = "own"
    """It took the order itself."""
    REF = "ref"
    """It acknowledges the sale."""
    LAG = "lag"
    """It was read so much later than the sale was heard of."""
    NEVER = "never"
    """Nothing: it never contains such sales."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What was chosen for a pair."""

    way: Way
    lag_ms: int = 0
    suspended_ms: int | None = None
    """Since when it counts for nothing newer; None: it counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How long sales took to arrive, as far as acknowledgements have told."""

    sales: int = 0
    lag_ms: int | None = None
    """At most so long for 999 of 1,000; None: nothing was measured."""
    late: int = 0
    """How often a level lacked a sale that it was thought to contain; the lag was raised each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One pair as people see it."""

    authority: str
    origin: str
    ways: tuple[Way, ...]
    """Whichever comes first counts; empty: nothing does."""
    lag_ms: int | None
    suspended_ms: int | None
    measured: Measured


def check_choice(way: Way, lag_ms: int | None, *, authority: str, origin: str, offers: Sequence[str]) -> None:
    """Return when a way may be chosen for a pair.

    Raises:
        InvalidRequest: the platform does not offer it, or the time is missing, superfluous or out of range.
    """
    if way is Way.OWN and authority != origin:
        msg = "Only orders that an account took itself are its own."
        raise InvalidRequest(msg)
    if way is not Way.NEVER and way.value not in offers:
        told = ", ".join((*offers, Way.NEVER))
        msg = f"This platform does not offer {way} as evidence; it offers {told}."
        raise InvalidRequest(msg)
    if way is not Way.LAG and lag_ms is not None:
        msg = "Only lag takes a time."
        raise InvalidRequest(msg)
    if way is Way.LAG and (lag_ms is None or not 0 <= lag_ms <= LAG_MAX_MS):
        msg = f"Say after how many milliseconds every sale has arrived: 0 to {LAG_MAX_MS}."
        raise InvalidRequest(msg)


def text_of(way: Way, lag_ms: int | None) -> str | None:
    """Return how a choice is stored; None where the platform's own offers are all there is."""
    if way is Way.LAG:
        return f"lag|{lag_ms}"
    return "never" if way is Way.NEVER else None


def stored_of(text: str) -> Stored:
    """Return what a stored choice says."""
    if text == Way.NEVER:
        return Stored(way=Way.NEVER)
    _, lag_ms, *rest = text.split("|")
    is_suspended = len(rest) == 1
    return Stored(way=Way.LAG, lag_ms=int(lag_ms), suspended_ms=int(rest[0]) if is_suspended else None)


def evidence_of(
    pair: Pair, offers: Sequence[str], stored: Mapping[Pair, Stored], measured: Mapping[Pair, Measured]
) -> Evidence:
    """Return what counts for a pair."""
    authority, origin = pair
    chosen = stored.get(pair) or stored.get((authority, ANY))
    ways = [Way.OWN] if authority == origin and Way.OWN in offers else []
    ways += [Way.REF] if Way.REF in offers else []
    is_by_lag = chosen is not None and chosen.way is Way.LAG and Way.OWN not in ways
    return Evidence(
        authority=authority,
        origin=origin,
        ways=(*ways, Way.LAG) if is_by_lag else tuple(ways),
        lag_ms=chosen.lag_ms if chosen and is_by_lag else None,
        suspended_ms=chosen.suspended_ms if chosen and is_by_lag else None,
        measured=measured.get(pair, Measured()),
    )


def unproven(
    authority: str, offers: Sequence[str], sellers: Iterable[str], stored: Mapping[Pair, Stored]
) -> list[str]:
    """Return the accounts whose sales no evidence ever shows to be in the authority's number."""
    return [
        seller for seller in sellers if not evidence_of((authority, seller), offers, stored, measured={}).ways
    ]


def measured_of(counts: Mapping[str, int]) -> Measured:
    """Return what the counts of a pair say, each of sales that took up to 2 to the power of step / 4."""
    steps = sorted((int(step), count) for step, count in counts.items() if step != LATE)
    total, seen = sum(count for _, count in steps), 0
    for step, count in steps:
        seen += count
        if seen >= SHARE * total:
            return Measured(
                sales=total, lag_ms=round(2 ** (step / STEPS_PER_OCTAVE)), late=counts.get(LATE, 0)
            )
    return Measured(late=counts.get(LATE, 0))
