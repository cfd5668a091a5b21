"""Watches what comes of a planned fault, from outside: the hub is told nothing of the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.connector_kit.emulated_faults import FaultKind
from synchub.demo.model import CAST, FaultReport
from synchub.demo.rules import disagreeing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from synchub.demo.counters import Counters
    from synchub.demo.model import PlannedFault, Told

_NOTICED_BY: Final = {
    FaultKind.FORGE: "synchub_signature_failures_total",
    FaultKind.DUPLICATE: "synchub_replays_rejected_total",
}
"""The counter that moves when the hub has noticed; the other kinds have none yet."""

_POLLS: Final = "synchub_poll_requests_total"
_PLATFORM: Final = {one.account: one.platform for one in CAST}


class FaultWatch:
    """One fault from before its beginning until truth and agent agree again."""

    def __init__(self, planned: PlannedFault, started_us: int) -> None:
        """``started_us`` is the wall clock at the emulators' start."""
        self._planned = planned
        self._platform = _PLATFORM[planned.account]
        self._noticed_before = 0
        self._polls_before = 0
        self._polls = 0
        self._detected_s: float | None = None
        self._recovered_s: float | None = None
        self._touched: set[str] = set()
        """SKUs that the platform changed during the fault."""
        self._agreed: set[str] = set()
        """Those of them that have been seen to agree since its end."""
        self._window_us = (started_us + int(planned.from_s * 1e6), started_us + int(planned.to_s * 1e6))

    def note(self, changes: Iterable[Told]) -> None:
        """Take in what the platforms changed."""
        begin_us, end_us = self._window_us
        self._touched |= {
            one.sku
            for one in changes
            if one.account == self._planned.account and begin_us <= one.at_us <= end_us
        }

    def look(
        self, elapsed_s: float, counters: Counters, truth: Mapping[str, int], known: Mapping[str, int]
    ) -> None:
        """Take in how things are, so many seconds after the emulators' start."""
        if elapsed_s < self._planned.from_s:
            self._noticed_before = self._noticed(counters)
            self._polls_before = counters.count(_POLLS, self._platform)
            return
        if self._recovered_s is None:
            self._polls = counters.count(_POLLS, self._platform) - self._polls_before
        if self._detected_s is None and self._noticed(counters) > self._noticed_before:
            self._detected_s = elapsed_s - self._planned.from_s
        if elapsed_s >= self._planned.to_s and self._recovered_s is None:
            self._agreed |= self._touched - disagreeing(truth, known)
            if self._agreed >= self._touched:
                self._recovered_s = elapsed_s - self._planned.to_s

    def report(self, missing: set[str]) -> FaultReport:
        """Return what came of it; ``missing`` are the SKUs that disagree at the end."""
        return FaultReport(
            kind=self._planned.kind.value,
            account=self._planned.account,
            detected_after_s=_rounded(self._detected_s),
            recovered_after_s=_rounded(self._recovered_s),
            polls=self._polls,
            missing=len((self._touched - self._agreed) & missing),
        )

    def _noticed(self, counters: Counters) -> int:
        counter = _NOTICED_BY.get(self._planned.kind)
        return counters.count(counter, self._platform) if counter else 0


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(max(0.0, seconds), 2)
