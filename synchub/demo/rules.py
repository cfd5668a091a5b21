"""What a fault on the command line means, who disagrees with whom, and percentiles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from synchub.connector_kit.emulated_faults import parse_fault
from synchub.demo.model import CAST, PlannedFault
from synchub.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from synchub.demo.model import Truth

_CHANNELS: Final = frozenset(one.account for one in CAST if one.sells)


def planned_fault(text: str) -> PlannedFault:
    """Read ``stall:shop@5s-25s``.

    Raises:
        InvalidRequest: another form, or no such kind or account.
    """
    kind, _, rest = text.partition(":")
    account, _, window = rest.partition("@")
    accounts = [one.account for one in CAST]
    if account not in accounts:
        known = ", ".join(accounts)
        msg = f"A fault is KIND:ACCOUNT@FROM-TO such as stall:shop@5s-25s, ACCOUNT one of {known}."
        raise InvalidRequest(msg)
    fault = parse_fault(f"{kind}@{window}")
    return PlannedFault(kind=fault.kind, account=account, from_s=fault.from_s, to_s=fault.to_s)


def totals(truths: Iterable[Truth]) -> dict[str, int]:
    """Return what there is of each SKU: the warehouse's levels; what a channel shows of it is not stock."""
    sums: dict[str, int] = {}
    for truth in truths:
        if truth.account in _CHANNELS:
            continue
        for sku, level in truth.levels.items():
            sums[sku] = sums.get(sku, 0) + level
    return sums


def disagreeing(truth: Mapping[str, int], known: Mapping[str, int]) -> set[str]:
    """Return the SKUs of which the agent knows another number, or none.

    Of more sold than there was it is told that there is nothing.
    """
    return {sku for sku, level in truth.items() if known.get(sku) != max(0, level)}


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest value that this share of them does not exceed; None when there are none."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
