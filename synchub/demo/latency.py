"""How long a change takes from the platform to the agent, measured and never guessed.

The agent hears totals, not causes. A change of the warehouse counts only when nothing
else can have made the number it heard: the agent knew the true total before the change,
heard exactly the true total after it, and nobody changed or traded the SKU in between.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synchub.demo.model import CAST, Heard, Told, Traded
from synchub.demo.rules import percentile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SAMPLES_MAX: Final = 100_000
"""Latest measurements kept."""

_CAST: Final = {one.account: one for one in CAST}


@dataclass(slots=True)
class _Sku:
    total: int
    known: int | None = None
    open: Told | None = None
    """The one change on its way, when it can be followed."""
    must_be_fetched: bool = False
    is_traded: bool = False
    """The next number heard may be due to a sale or a hold."""


class Latencies:
    """Fed with what was told and heard, in any order within one call of ``take``."""

    def __init__(self, totals: Mapping[str, int]) -> None:
        """``totals`` is what the platforms had before the first change told."""
        self._skus = {sku: _Sku(total) for sku, total in totals.items()}
        self._by_webhook: deque[float] = deque(maxlen=SAMPLES_MAX)
        self._by_fetch: deque[float] = deque(maxlen=SAMPLES_MAX)

    def take(self, events: Iterable[Told | Heard | Traded]) -> None:
        """Go on with everything that happened since the last call."""
        # Whoever tells at the same microsecond as somebody hears cannot have been heard yet.
        for event in sorted(events, key=lambda one: (one.at_us, isinstance(one, Told))):
            sku = self._skus.get(event.sku)
            if sku is None:
                continue
            match event:
                case Told():
                    self._told(sku, event)
                case Traded():
                    sku.open, sku.is_traded = None, True
                case Heard():
                    self._heard(sku, event)

    def by_webhook_ms(self) -> list[float]:
        """Return the sorted times of changes that a webhook alone could tell."""
        return sorted(self._by_webhook)

    def by_fetch_ms(self) -> list[float]:
        """Return the sorted times of changes that had to be fetched."""
        return sorted(self._by_fetch)

    def _told(self, sku: _Sku, change: Told) -> None:
        teller = _CAST[change.account]
        if change.quantity == change.previous or teller.sells:
            return
        can_follow = change.sent and not (change.by_order or sku.is_traded or sku.open)
        can_follow = can_follow and sku.known == max(0, sku.total)
        sku.total += change.quantity - change.previous
        sku.must_be_fetched = teller.has_no_versions and change.quantity > change.previous
        sku.open = change if can_follow else None

    def _heard(self, sku: _Sku, heard: Heard) -> None:
        if heard.available == sku.known:
            return
        change, sku.open, sku.known, sku.is_traded = sku.open, None, heard.available, False
        if change is not None and heard.available == sku.total:
            took_ms = (heard.at_us - change.at_us) / 1000
            (self._by_fetch if sku.must_be_fetched else self._by_webhook).append(took_ms)


def median_and_worst(ordered: list[float]) -> tuple[float | None, float | None]:
    """Return the 50th and the 99th percentile."""
    return percentile(ordered, 0.5), percentile(ordered, 0.99)
