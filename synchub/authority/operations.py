"""What can be asked while the store is away: how many there are, of the sources themselves.

Nothing is remembered from one question to the next. Each SKU has an outcome of its own:
an answer that rests on all that the hub would count, or that there is none now.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.authority import rules
from synchub.authority.lanes import Lane
from synchub.authority.model import Heard
from synchub.authority.snapshot import Snapshot
from synchub.errors import Fault, StoreUnavailable, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

    from synchub.accounts.directory import Directory
    from synchub.authority.model import MerchantMap, Need
    from synchub.connector_kit.contract import Connector, LevelsClient
    from synchub.connector_kit.events import StockEvent
    from synchub.history.presence import Presence
    from synchub.lua import Executes
    from synchub.policies.model import Terms
    from synchub.settings import Settings
    from synchub.stock.model import Answer

    Opens = Callable[[str], LevelsClient | None]
    """Opens a client for an account by its name; None where it cannot be called."""

_NOT_HELD: Final = "The store is away, and this SKU cannot be asked of its source alone."
_LATE: Final = "The store is away, and the source did not answer in time."
_PARTLY: Final = "The store is away, and its sources did not tell all of this SKU."


class Authority:
    """Asks sources for one process."""

    def __init__(
        self,
        redis: Executes,
        directory: Directory,
        connectors: Mapping[str, Connector],
        settings: Settings,
        *,
        presence: Presence,
        opens: Opens,
    ) -> None:
        self.snapshot = Snapshot(redis, directory.accounts, connectors, settings.authority)
        self._directory = directory
        self._connectors = connectors
        self._settings = settings.authority
        self._presence = presence
        self._opens = opens
        self._lanes: dict[str, Lane] = {}

    @property
    def is_needed(self) -> bool:
        """Whether the store has been away for so long that sources are asked instead."""
        return self._presence.is_away

    @contextlib.asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        """Keep what is needed for the store's absence, for as long as the block runs."""
        try:
            async with self.snapshot.refreshing():
                yield
        finally:
            for lane in self._lanes.values():
                await lane.close()

    async def ask(
        self, merchant: str, skus: Collection[str], terms_of: Callable[[str], Terms]
    ) -> dict[str, Answer | Fault]:
        """Return for each SKU what its sources say, or why nothing can be said; within the deadline."""
        known = self.snapshot.of(merchant)
        needs = {sku: rules.needs_of(sku, known) for sku in skus} if known else {}
        asked = {need: self._asked(need) for theirs in needs.values() for need in theirs}
        if asked:
            await asyncio.wait(asked.values(), timeout=self._settings.deadline_ms / 1000)
        heard = {need: told.result() if told.done() else _fault(_LATE) for need, told in asked.items()}
        return {sku: _concluded(sku, known, needs.get(sku, ()), heard, terms_of) for sku in skus}

    def _asked(self, need: Need) -> asyncio.Future[Heard | Fault]:
        lane = self._lanes.get(need.account)
        if lane is None:
            lane = self._lanes[need.account] = self._lane(need.account)
        return lane.ask(need.item)

    def _lane(self, account: str) -> Lane:
        view = self._directory.find_account(account)
        connector = self._connectors.get(view.platform) if view else None
        offer = connector.manifest.client if connector else None

        async def call(items: Sequence[str]) -> tuple[StockEvent, ...]:
            client = self._opens(account)
            if client is None:
                msg = "The account cannot be called."
                raise UpstreamFailed(msg)
            return await client.fetch_levels(items)

        return Lane(
            call,
            items_max=offer.fetch_levels_max if offer else 1,
            calls_per_s=self._settings.calls_per_s,
            deadline_s=self._settings.deadline_ms / 1000,
        )


def _concluded(
    sku: str,
    known: MerchantMap | None,
    needs: Sequence[Need],
    heard: Mapping[Need, Heard | Fault],
    terms_of: Callable[[str], Terms],
) -> Answer | Fault:
    if known is None or not needs:
        return _counted("not_held", _fault(_NOT_HELD))
    told: dict[str, Heard] = {}
    for need in needs:
        said = heard[need]
        if not isinstance(said, Heard):
            return _counted("not_read", said)
        told[need.account] = said
    answer = rules.answer_from(known.footings[sku], known, told, terms_of(sku))
    if answer is None:
        return _counted("not_whole", _fault(_PARTLY))
    metrics.authority_answers.labels("told").inc()
    return answer


def _counted(outcome: str, fault: Fault) -> Fault:
    metrics.authority_answers.labels(outcome).inc()
    return fault


def _fault(sentence: str) -> StoreUnavailable:
    return StoreUnavailable(sentence, retry_after_s=1)
