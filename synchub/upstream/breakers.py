"""The breaker of one operation of one account: decided locally, shared through the store, working without it.

Each process looks back on its own calls. When they are too bad it opens the breaker for all; how long it
stays open, which few calls are tried then, and what follows from them, the store decides for all together.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Unpack

from synchub import metrics
from synchub.errors import UpstreamOpen
from synchub.kit.breaker import Breaker, Limits, State
from synchub.logs import get_logger
from synchub.upstream import store
from synchub.upstream.model import Verdict

if TYPE_CHECKING:
    from synchub.sync_settings import UpstreamSettings
    from synchub.upstream.model import Place
    from synchub.upstream.reach import Reach

_SHOWN: Final = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}
_log: Final = get_logger()


def breaker_limits(settings: UpstreamSettings) -> Limits:
    """Return the settings as the kit's breaker takes them."""
    return Limits(
        window_ms=settings.breaker_window_ms,
        calls_min=settings.breaker_calls_min,
        failed_percent=settings.breaker_failed_percent,
        slow_ms=settings.breaker_slow_ms,
        slow_percent=settings.breaker_slow_percent,
        open_ms=settings.breaker_open_ms,
        open_max_ms=settings.breaker_open_max_ms,
        trials=settings.breaker_permits,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """A call that the breaker has let through."""

    era: int
    name: str = ""
    """What the store calls it; empty for one that the store does not count."""
    generation: int = 0


class SharedBreaker:
    """Asked before each call of one operation and told what came of it."""

    def __init__(self, place: Place, operation: str, reach: Reach) -> None:
        self._place = place
        self._operation = operation
        self._reach = reach
        self._limits = breaker_limits(reach.settings)
        self._own = Breaker(self._limits)
        self._generation = 0
        self._looked_ms: int | None = None
        self._is_untold = False
        """It was opened here while the store was away."""
        self._numbers = itertools.count(1)
        self._show()

    @property
    def is_closed(self) -> bool:
        """Whether calls are made as if there were no breaker."""
        return self._own.state(self._now_ms()) is State.CLOSED

    async def check(self) -> None:
        """Return unless it is open, so that no call waits in vain for its turn.

        Raises:
            UpstreamOpen: until ``retry_after_s`` are over.
        """
        looked = self._looked_ms
        if looked is None or self._now_ms() - looked >= self._reach.settings.share_every_ms:
            await self.look()
        self._refuse_if_open()

    async def look(self) -> None:
        """Learn what the others have found, or tell them what could not be told before."""
        await self._ask("trip" if self._is_untold else "look", generation=self._generation)

    async def permit(self, lease_ms: int) -> Permit:
        """Let a call through; :meth:`tell` is to be told what came of it.

        Raises:
            UpstreamOpen: it is open, or half open with all its permits given out.
        """
        self._refuse_if_open()
        if self.is_closed:
            return Permit(era=self._own.era)
        name = f"{self._reach.process}-{next(self._numbers)}"
        told = await self._ask("permit", permit=name, permit_ms=lease_ms)
        if told is None:
            if not self._own.permits(self._now_ms()):
                raise self._open(0)
            return Permit(era=self._own.era)
        if not told.is_permitted:
            raise self._open(told.wait_ms)
        is_counted = told.state == State.HALF_OPEN.value
        return Permit(era=self._own.era, name=name if is_counted else "", generation=told.generation)

    async def tell(self, permit: Permit, verdict: Verdict, took_ms: int) -> None:
        """Take the result of a permitted call into account."""
        if permit.name:
            told = await self._ask(
                "forget" if verdict is Verdict.NOTHING else "result",
                permit=permit.name,
                generation=permit.generation,
                has_failed=verdict is Verdict.FAILED,
                was_slow=took_ms >= self._limits.slow_ms,
            )
            if told is not None:
                return
        if permit.era == self._own.era:
            await self._tell_oneself(verdict, took_ms)

    async def _tell_oneself(self, verdict: Verdict, took_ms: int) -> None:
        if verdict is Verdict.NOTHING:
            self._own.forget()
            return
        trips, now_ms = self._own.trips, self._now_ms()
        self._own.record(
            now_ms, has_failed=verdict is Verdict.FAILED, took_ms=took_ms, chance=self._reach.times.chance()
        )
        self._show()
        if self._own.trips <= trips:
            return
        self._is_untold = True
        self._note_trip()
        await self._ask("trip", generation=self._generation)

    async def _ask(self, step: str, **about: Unpack[store.About]) -> store.Shared | None:
        asked: store.Asked = {
            "operation": self._operation,
            "step": step,
            "chance": self._reach.times.chance(),
            "now_ms": self._reach.times.store_ms(),
        }
        told = await self._reach.ask(
            lambda: store.ask_breaker(self._reach.redis, self._place, self._limits, asked, about)
        )
        if told is None:
            return None
        if told.has_opened and step == "result":
            self._note_trip()
        self._adopt(told)
        return told

    def _adopt(self, told: store.Shared) -> None:
        self._looked_ms = self._now_ms()
        self._is_untold = False
        was = self._own.state(self._looked_ms)
        self._generation = told.generation
        self._own.adopt(self._looked_ms, State(told.state), wait_ms=told.wait_ms, trips=told.trips)
        if was is not State.CLOSED and self.is_closed:
            _log.info("upstream_closed_again", account=self._place.account, operation=self._operation)
        self._show()

    def _note_trip(self) -> None:
        account = metrics.upstream_accounts.of(self._place.account)
        metrics.upstream_trips.labels(account, self._operation).inc()
        _log.warning(
            "upstream_opened", account=self._place.account, operation=self._operation, trips=self._own.trips
        )

    def _show(self) -> None:
        if metrics.upstream_accounts.has(self._place.account):
            state = _SHOWN[self._own.state(self._now_ms())]
            metrics.upstream_breaker.labels(self._place.account, self._operation).set(state)

    def _refuse_if_open(self) -> None:
        if self._own.state(self._now_ms()) is State.OPEN:
            raise self._open(self._own.wait_ms(self._now_ms()))

    def _open(self, wait_ms: int) -> UpstreamOpen:
        msg = "The platform has failed too often of late and is left alone for a while."
        return UpstreamOpen(msg, retry_after_s=max(1, math.ceil(wait_ms / 1000)))

    def _now_ms(self) -> int:
        return self._reach.times.now_ms()
