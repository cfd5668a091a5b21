"""How the ledger's number becomes the state that one asker is told. Pure.

One formula says what is visible to an asker, here and where holds are granted::

    visible = max(0, ats - buffer + allowance)

The surprising part: while evidence is missing it is not the number that decides
but the merchant's policy, and the answer says so (``View.decided_by``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.availability.model import Assumption, Pressure, Restock, State, View
from synchub.policies.model import Disclosure, OnStale, OnUnknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.events import Incoming
    from synchub.policies.model import Terms
    from synchub.stock.model import Answer

TTL_MAX_MS: Final = 2000
"""How long an asker without a feed may keep an answer at most."""
TTL_UNSETTLED_MS: Final = 500
"""The same for one that is likely to change: degraded, or held by others."""
MAX_AGE_MS: Final = 900_000
"""Age at which a source is stale unless its account says otherwise."""
SLOW_DOWN_MS: Final = 500
RESERVED_RETRY_MS: Final = 1000
"""The shortest holds end after a second."""
BUCKETS: Final = (100, 50, 10, 5, 1, 0)
"""Lower ends of the ranges that are told instead of a number."""

_PER_WHOLE: Final = 10_000


def view(answer: Answer, terms: Terms, *, now_ms: int, max_age_ms: int = MAX_AGE_MS) -> View:
    """Return what the answer means to an asker with these terms; the first rule that fits decides.

    Unknown SKU; discontinued (by the catalogue, or gone from every platform); no
    number, or no fresh one: as the merchant decided; then by what is visible: in
    stock from ``low_threshold`` on, low below it, and at zero reserved where live
    holds have taken the rest, backordered where that is offered, otherwise out.

    ``max_age_ms`` is that of the account among the answer's sources which is stale first.
    """
    state, visible, decided_by = _conclude(answer, terms)
    pressure, retry_after_ms = _pressure(state, visible, terms)
    return View(
        state=state,
        visible=visible,
        available=disclosed(visible, terms.disclosure),
        degraded=answer.degraded or answer.stale or not answer.known,
        decided_by=decided_by,
        pressure=pressure,
        retry_after_ms=retry_after_ms,
        ttl_ms=_ttl_ms(answer, state, now_ms=now_ms, max_age_ms=max_age_ms),
    )


def visible_units(answer: Answer, terms: Terms) -> int:
    """Return how many units an asker with these terms could be granted, if the number can be believed."""
    return _visible(answer, terms, returned=0)


def buffer_units(answer: Answer, terms: Terms) -> int:
    """Return how many units are kept back: fixed, per cent rounded up, and more for each step of lag."""
    share = -(-answer.ref * terms.buffer_bp // _PER_WHOLE)
    return terms.buffer_units + share + answer.lag * terms.lag_units


def allowance_units(answer: Answer, terms: Terms) -> int:
    """Return how many units more than there are may be sold: per cent rounded down."""
    return answer.ref * terms.allowance_bp // _PER_WHOLE


def disclosed(units: int | None, how: Disclosure) -> int | None:
    """Return what is told of a number of units."""
    if units is None or how is Disclosure.NONE:
        return None
    if how is Disclosure.BUCKET:
        return next(lower for lower in BUCKETS if units >= lower)
    return units


def restock(answer: Answer, terms: Terms, incoming: Sequence[Incoming], *, now_ms: int) -> Restock | None:
    """Return the arrival from which on something is visible: the first that leaves more than is owed.

    Arrivals that are due already are not counted: they are in the number, or late.
    """
    units = answer.ats - buffer_units(answer, terms) + allowance_units(answer, terms)
    for arrival in sorted(incoming, key=_expected_at_us):
        if arrival.expected_at_us > now_ms * 1000:
            units += arrival.quantity
            visible = units if terms.channel_cap is None else min(units, terms.channel_cap)
            if visible > 0:
                return Restock(expected_at_ms=arrival.expected_at_us // 1000, units=visible)
    return None


def _conclude(answer: Answer, terms: Terms) -> tuple[State, int | None, Assumption | None]:
    if not answer.exists:
        return State.UNKNOWN_SKU, 0, None
    if answer.discontinued or answer.gone:
        return State.DISCONTINUED, 0, None
    if not answer.known:
        if terms.on_unknown is OnUnknown.ASSUME_IN:
            return State.IN_STOCK, None, Assumption.ON_UNKNOWN
        return State.OUT_OF_STOCK, 0, Assumption.ON_UNKNOWN
    if answer.stale:
        return *_conclude_stale(answer, terms), Assumption.ON_STALE
    return *_conclude_fresh(answer, terms), None


def _conclude_stale(answer: Answer, terms: Terms) -> tuple[State, int | None]:
    if terms.on_stale is OnStale.ANSWER:
        return _conclude_fresh(answer, terms)
    if terms.on_stale is OnStale.ASSUME_IN:
        return State.IN_STOCK, None
    return State.OUT_OF_STOCK, 0


def _conclude_fresh(answer: Answer, terms: Terms) -> tuple[State, int]:
    visible = visible_units(answer, terms)
    if visible > 0:
        return State.IN_STOCK if visible >= terms.low_threshold else State.LOW_STOCK, visible
    if _is_reserved(answer, terms):
        return State.RESERVED, 0
    return State.BACKORDERED if answer.backorder else State.OUT_OF_STOCK, 0


def _is_reserved(answer: Answer, terms: Terms) -> bool:
    """Whether something would be visible if every live hold were given back."""
    return answer.ats + answer.held > 0 and _visible(answer, terms, returned=answer.held) > 0


def _visible(answer: Answer, terms: Terms, *, returned: int) -> int:
    units = answer.ats + returned - buffer_units(answer, terms) + allowance_units(answer, terms)
    if terms.channel_cap is not None:
        units = min(units, terms.channel_cap)
    if not terms.split and answer.cells:
        units = min(units, max(cell.base - (0 if returned else cell.held) for cell in answer.cells))
    return max(0, units)


def _pressure(state: State, visible: int | None, terms: Terms) -> tuple[Pressure, int]:
    if state is State.RESERVED:
        return Pressure.PREFER_ALTERNATIVES, RESERVED_RETRY_MS
    if state is State.BACKORDERED:
        return Pressure.BACKORDER_ONLY, 0
    if state in {State.OUT_OF_STOCK, State.DISCONTINUED}:
        return Pressure.PREFER_ALTERNATIVES, 0
    if visible is not None and 0 < visible < terms.slow_below:
        return Pressure.SLOW_DOWN, SLOW_DOWN_MS
    return Pressure.NONE, 0


def _ttl_ms(answer: Answer, state: State, *, now_ms: int, max_age_ms: int) -> int:
    if state in {State.UNKNOWN_SKU, State.DISCONTINUED}:
        return TTL_MAX_MS
    if answer.stale or not answer.known:
        return TTL_UNSETTLED_MS
    is_unsettled = answer.degraded or state is State.RESERVED
    left_ms = answer.as_of_ms + max_age_ms - now_ms
    return max(0, min(TTL_UNSETTLED_MS if is_unsettled else TTL_MAX_MS, left_ms))


def _expected_at_us(arrival: Incoming) -> int:
    return arrival.expected_at_us
