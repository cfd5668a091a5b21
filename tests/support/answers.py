"""Answers and terms as the rules take them; only what matters to a test need be said."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

from synchub.policies.model import Disclosure, OnStale, OnUnknown, Terms
from synchub.stock.model import Answer, Cell, Position

AS_OF_MS: Final = 1_795_255_200_041
"""2026-11-21, 10:00:00.041 UTC."""
POSITION: Final = Position(epoch="one", seq=50, feed_seq=48)


def a_cell(base: int = 10, held: int = 0, place: str = "WH1", account: str = "depot") -> Cell:
    return Cell(place=place, account=account, base=base, held=held, evidence_ms=AS_OF_MS)


def an_answer(sku: str = "TEE", **changes: Any) -> Answer:
    """Ten units, fresh, at one location, none of them held."""
    told: dict[str, Any] = {
        "sku": sku,
        "ver": 3,
        "seq": 7,
        "ats": 10,
        "held": 0,
        "known": True,
        "gone": False,
        "discontinued": False,
        "backorder": False,
        "as_of_ms": AS_OF_MS,
        "by": "depot",
        "degraded": False,
        "stale": False,
        "lag": 0,
        "ref": 0,
    } | changes
    return Answer(**{"cells": (a_cell(told["ats"] + told["held"]),)} | told)


def unknown_sku(sku: str = "NOPE") -> Answer:
    """What nobody has ever reported."""
    return an_answer(sku, ver=0, seq=0, ats=0, known=False, as_of_ms=0, by="", cells=())


def some_terms(**changes: Any) -> Terms:
    """Those of a merchant without policies."""
    return Terms(**({"version": 0} | changes))


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Any answer in which number, holds and locations fit each other."""
    cells = tuple(
        a_cell(draw(st.integers(-30, 300)), draw(st.integers(0, 30)), place=f"WH{number}")
        for number in range(draw(st.integers(1, 3)))
    )
    held = sum(cell.held for cell in cells) + draw(st.integers(0, 30))
    return an_answer(
        ver=draw(st.sampled_from([0, 1, 9])),
        ats=sum(cell.base for cell in cells) - held,
        held=held,
        known=draw(st.sampled_from([True, True, True, False])),
        gone=draw(st.sampled_from([False, False, False, True])),
        discontinued=draw(st.sampled_from([False, False, False, True])),
        backorder=draw(st.booleans()),
        degraded=draw(st.booleans()),
        stale=draw(st.sampled_from([False, False, True])),
        lag=draw(st.integers(0, 3)),
        ref=draw(st.integers(0, 1000)),
        cells=cells,
    )


def terms() -> st.SearchStrategy[Terms]:
    """Any terms."""
    return st.builds(
        Terms,
        version=st.integers(0, 9),
        buffer_units=st.integers(0, 20),
        buffer_bp=st.integers(0, 10_000),
        lag_units=st.integers(0, 5),
        allowance_bp=st.integers(0, 2000),
        channel_cap=st.none() | st.integers(0, 100),
        low_threshold=st.integers(1, 20),
        disclosure=st.sampled_from(Disclosure),
        on_stale=st.sampled_from(OnStale),
        on_unknown=st.sampled_from(OnUnknown),
        split=st.booleans(),
        backpressure_below=st.none() | st.integers(0, 30),
    )
