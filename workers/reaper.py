"""Lets time pass: whatever changes by itself becomes an event within a second of its deadline."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.ingress.consumer import TROUBLE
from synchub.keyspace import MerchantKeys
from synchub.kit.tasks import is_ending
from synchub.logs import get_logger
from synchub.stock import operations as stock

if TYPE_CHECKING:
    from synchub.hub import Hub

EVERY_S: Final = 0.25
STEPS_MAX: Final = 40
"""Steps for one merchant before the next one has its turn."""

_log: Final = get_logger()


class Reaper:
    """Works off what is due, for every merchant of the hub; several at once do no harm."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._is_well = True
        self._frozen: set[str] = set()

    async def run(self) -> None:
        """Go on until cancelled; what goes wrong is tried again."""
        while not is_ending():
            await self.turn()
            await asyncio.sleep(EVERY_S)

    async def turn(self) -> None:
        """Let time pass once for everybody."""
        left = 0
        for merchant in sorted({account.merchant for account in self._hub.directory.accounts()}):
            try:
                left += await self._reap(merchant)
            except TROUBLE as trouble:
                if self._is_well:
                    _log.warning("reaper_interrupted", reason=f"{type(trouble).__name__}: {trouble}")
                self._is_well = False
                return
        if not self._is_well:
            _log.info("reaper_resumed")
        self._is_well = True
        metrics.deadlines_waiting.set(left)
        metrics.merchants_frozen.set(len(self._frozen))

    async def _reap(self, merchant: str) -> int:
        """Return how much is still due when the merchant's turn is over."""
        keys = MerchantKeys(merchant)
        left = 0
        for _ in range(STEPS_MAX):
            lapsed = await stock.let_time_pass(self._hub.redis, keys, settings=self._hub.settings)
            metrics.deadlines.inc(lapsed.done)
            left = lapsed.left
            self._note_frozen(merchant, is_frozen=lapsed.clock_ms < lapsed.frozen_until_ms)
            if not left:
                break
        return left

    def _note_frozen(self, merchant: str, *, is_frozen: bool) -> None:
        if is_frozen:
            self._frozen.add(merchant)
        elif merchant in self._frozen:
            self._frozen.discard(merchant)
            _log.info("history_thawed", merchant=merchant)
