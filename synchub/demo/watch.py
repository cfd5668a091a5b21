"""Watches what comes of a planned fault, from outside: the hub is told nothing of the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.connector_kit.emulated_faults import FaultKind
from synchub.demo.model import CAST, FaultReport
from synchub.sync_lag.model import SyncState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from synchub.demo.counters import Counters
    from synchub.demo.model import PlannedFault, Told

_POLLS: Final = "synchub_polls_total"
_PUT_OFF: Final = "synchub_upstream_put_off_total"
_CALLS: Final = "synchub_upstream_calls_total"
_COUNTED: Final[dict[FaultKind, tuple[tuple[str, dict[str, str]], ...]]] = {
    FaultKind.FORGE: (("synchub_signature_failures_total", {}),),
    FaultKind.DUPLICATE: (("synchub_replays_rejected_total", {}),),
    FaultKind.REORDER: (("synchub_events_total", {"outcome": "superseded"}),),
    # Some platforms say so in an answer that looks well: the poll knows, the call does not.
    FaultKind.THROTTLE: ((_CALLS, {"result": "throttled"}), (_POLLS, {"result": "throttled"})),
    FaultKind.DOWN: ((_CALLS, {"result": "failed"}),),
}
"""The counters that move when the hub has noticed; of the other kinds the account's state tells."""

_PLATFORM: Final = {one.account: one.platform for one in CAST}


class FaultWatch:
    """One fault from before its beginning until truth and agent agree again."""

    def __init__(self, planned: PlannedFault, started_us: int) -> None:
        """``started_us`` is the wall clock at the emulators' start."""
        self._planned = planned
        self._platform = _PLATFORM[planned.account]
        self._noticed_before = 0
        self._before = (0, 0)
        self._polls, self._put_off = 0, 0
        self._detected_s: float | None = None
        self._recovered_s: float | None = None
        self._touched: set[str] = set()
        """SKUs that the platform changed during the fault."""
        self._agreed: set[str] = set()
        """Those of them that have been seen to agree since its end."""
        self._window_us = (started_us + int(planned.from_s * 1e6), started_us + int(planned.to_s * 1e6))

    @property
    def account(self) -> str:
        """Whose fault it is."""
        return self._planned.account

    def note(self, changes: Iterable[Told]) -> None:
        """Take in what the platforms changed."""
        begin_us, end_us = self._window_us
        self._touched |= {
            one.sku
            for one in changes
            if one.account == self._planned.account and begin_us <= one.at_us <= end_us
        }

    def look(self, elapsed_s: float, counters: Counters, state: SyncState, wrong: set[str]) -> None:
        """Take in how things are, so many seconds after the emulators' start.

        ``state`` is what the hub thinks of the account, ``wrong`` are the SKUs of which the agent knows
        another number than the warehouse has.
        """
        if elapsed_s < self._planned.from_s:
            self._noticed_before = self._noticed(counters)
            self._before = self._work(counters)
            return
        if self._recovered_s is None:
            polls, put_off = self._work(counters)
            self._polls, self._put_off = polls - self._before[0], put_off - self._before[1]
        if self._detected_s is None and self._is_noticed(counters, state):
            self._detected_s = elapsed_s - self._planned.from_s
        if elapsed_s >= self._planned.to_s and self._recovered_s is None:
            self._agreed |= self._touched - wrong
            if self._agreed >= self._touched and state is SyncState.HEALTHY:
                self._recovered_s = elapsed_s - self._planned.to_s

    def report(self, missing: set[str]) -> FaultReport:
        """Return what came of it; ``missing`` are the SKUs that disagree at the end."""
        return FaultReport(
            kind=self._planned.kind.value,
            account=self._planned.account,
            detected_after_s=_rounded(self._detected_s),
            recovered_after_s=_rounded(self._recovered_s),
            polls=self._polls,
            calls_put_off=self._put_off,
            missing=len((self._touched - self._agreed) & missing),
        )

    def _is_noticed(self, counters: Counters, state: SyncState) -> bool:
        if self._planned.kind in _COUNTED:
            return self._noticed(counters) > self._noticed_before
        return state is SyncState.STALLED

    def _noticed(self, counters: Counters) -> int:
        moved = _COUNTED.get(self._planned.kind, ())
        return sum(counters.count(name, connector=self._platform, **labels) for name, labels in moved)

    def _work(self, counters: Counters) -> tuple[int, int]:
        """Polls of the platform so far, and calls that had to wait for its limits."""
        return counters.count(_POLLS, connector=self._platform), counters.count(
            _PUT_OFF, connector=self._platform
        )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(max(0.0, seconds), 2)
