"""One turn of polling an account: page after page, each applied before the next one is asked for.

The account's place moves in the same step of the store as the last changes of a page. So a worker may
end anywhere: the next turn begins with the page that was in hand, and what is read twice counts once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from redis.exceptions import ResponseError

from synchub import metrics
from synchub.errors import CursorRefused, SynchubError, UpstreamFailed
from synchub.ingress import operations as ingress
from synchub.ingress.rules import NOT_UNDERSTOOD
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import now_ms
from synchub.polling import rules, store
from synchub.polling.model import Tally, Told
from synchub.stock import operations as stock
from synchub.stock.model import Applied, Outcome, PageApplied
from synchub.stock.operations import NOT_TAKEN_IN
from synchub.stock.rules import ITEM, guard_row, move_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from synchub.accounts.model import AccountView
    from synchub.connector_kit.contract import Connector, Page, PagesClient
    from synchub.lua import Executes
    from synchub.polling.model import Change, Mode, PollState
    from synchub.settings import Settings
    from synchub.stock.model import PollPlace

_STANDS_STILL: Final = "Its pages lead back to where they have been; polling stops until the pause is over."
_STUCK_MAX: Final = 2
"""So many pages may lead to where the turn has been before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is polled, and into which store."""

    redis: Executes
    account: AccountView
    connector: Connector
    settings: Settings

    @property
    def keys(self) -> MerchantKeys:
        """Where the merchant's stock lies."""
        return MerchantKeys(self.account.merchant)

    @property
    def has_deliveries(self) -> bool:
        """Whether the platform tells changes by itself as well."""
        return bool(self.connector.manifest.topics)


class Turn:
    """What one worker does for one account until there is no more, or enough has been read."""

    def __init__(
        self,
        line: Line,
        client: PagesClient,
        *,
        state: PollState,
        mode: Mode,
        place: PollPlace,
        epoch: str,
    ) -> None:
        self.mode = mode
        self.began_ms = now_ms()
        self.tally = Tally()
        self.reached_end = False
        self.left_out: list[str] = []
        """Why rows of pages could not be used at all."""
        self.is_overtaken = False
        """Somebody else has gone on from where this turn was."""
        self.is_sweeping = state.is_sweeping
        self.sweep_from_ms = 0
        """When the poll that has come to its end began, if it read everything."""
        self._redis, self._keys, self._client = line.redis, line.keys, client
        self._account, self._connector = line.account, line.connector
        self._settings, self._state = line.settings, state
        self._has_deliveries = line.has_deliveries
        self._place, self._epoch = place, epoch
        self._cursor, self._walk_ms = place.cursor, place.began_ms
        self._asked_ms = 0
        self._told_to_ms = place.asked_ms
        self._is_judged = place.complete_to_ms > 0
        """Whether what is found says anything about deliveries; of a first import it does not."""
        self._seen: set[str] = set()
        self._stuck = 0
        self._choose_beginning()

    @property
    def has_more(self) -> bool:
        """Whether the turn was cut short."""
        return not self.reached_end and not self.is_overtaken

    async def pages(self) -> AsyncIterator[Page]:
        """Read one page after the other, each from where the one before has moved the place to.

        Raises:
            UpstreamThrottled, UpstreamRefused, UpstreamFailed: what was applied stays applied.
        """
        limit = rules.pages_max(self.mode, self._settings.polling)
        while not self.reached_end and not self.is_overtaken and self.tally.pages < limit:
            yield await self._fetch()
        if self.has_more and self.tally.pages >= limit:
            metrics.poll_turns_cut.labels(self._connector.name).inc()

    def normalize(self, page: Page) -> tuple[Change, ...]:
        """Turn a page into rows of the apply script.

        Raises:
            UpstreamFailed: not of the form that every page has.
        """
        return rules.changes_of(
            page,
            account=self._account.name,
            asked_ms=self._asked_ms,
            future_skew_ms=self._settings.ingress.future_skew_ms,
        )

    async def apply(self, page: Page, changes: Sequence[Change]) -> None:
        """Apply a page, publish what changed and move the place past it; exactly once in effect.

        What the script cannot take in keeps the place where it is until it has failed so often that
        it is put aside, like a delivery.

        Raises:
            UpstreamFailed: the page is tried again after a pause.
            OutcomeUnknown, StoreUnavailable: it is read again from the store where the place is.
        """
        told = await self._what_is_told(changes)
        for change in changes:
            if change.refusal:
                await self._quarantine(change, change.refusal)
        taken = [change for change in changes if not change.refusal]
        walk_ms = self._walk_ms or self._asked_ms
        place = rules.place_after(
            self._place,
            page,
            asked_ms=self._asked_ms,
            began_ms=walk_ms,
            overlap_ms=self._overlap_ms,
            epoch=self._epoch,
        )
        applied = await self._apply(taken, place)
        if applied.moved is Outcome.HELD_BACK:
            await self._deal_with(taken, applied.results)
            moved = (await self._move([], place)).moved
            applied = PageApplied(results=applied.results, moved=moved)
        if applied.moved is not Outcome.APPLIED:
            self.is_overtaken = True
            return
        self._go_on(page, place, walk_ms)
        self._count(taken, applied.results, told)

    def _choose_beginning(self) -> None:
        """Begin earlier where the store has lost something since, with everything where that is wished."""
        if self._state.sweep_wished_ms > self._state.sweep_ms:
            self._begin_at(0)
            self.is_sweeping = True
        elif self._place.epoch and self._place.epoch != self._epoch:
            metrics.poll_rewinds.labels(self._connector.name, "loss").inc()
            loss_ms = self._settings.polling.loss_bound_ms
            self._begin_at(0 if self.is_sweeping else self._place.complete_to_ms - loss_ms)
            self._is_judged = False

    def _begin_at(self, time_ms: int) -> None:
        self._cursor = self._client.cursor_at(time_ms) if time_ms > 0 else ""
        self._walk_ms = 0

    @property
    def _overlap_ms(self) -> int:
        offer = self._connector.manifest.polling
        return offer.overlap_s * 1000 if offer else 0

    async def _fetch(self) -> Page:
        try:
            page = await self._ask()
        except CursorRefused:
            if not self._cursor:
                raise
            metrics.poll_rewinds.labels(self._connector.name, "refused").inc()
            self._begin_at(0 if self.is_sweeping else self._place.complete_to_ms - self._overlap_ms)
            page = await self._ask()
        self._look_for_circles(page)
        return page

    async def _ask(self) -> Page:
        self._asked_ms = now_ms()  # before the data: what changes meanwhile is on a later page
        try:
            return await self._client.fetch_page(self._cursor)
        except SynchubError:
            raise
        except Exception as fault:
            # A connector's fault must stay with its own account.
            msg = f"{type(fault).__name__} in the connector {self._connector.name}"
            raise UpstreamFailed(msg) from fault

    def _look_for_circles(self, page: Page) -> None:
        self._seen.add(self._cursor)
        if not page.is_last and page.cursor in self._seen:
            self._stuck += 1
            if self._stuck >= _STUCK_MAX:
                raise UpstreamFailed(_STANDS_STILL)

    async def _apply(self, changes: Sequence[Change], place: PollPlace) -> PageApplied:
        try:
            return await self._move(changes, place)
        except ResponseError:
            return await self._one_by_one(changes)

    async def _move(self, changes: Sequence[Change], place: PollPlace) -> PageApplied:
        rows = [row for change in changes for row in change.rows]
        name = self._account.name
        return await stock.apply_page(
            self._redis,
            self._keys,
            rows,
            guard=guard_row(name, self._place, epoch=self._epoch),
            move=move_row(name, self._place, to=place),
            settings=self._settings,
        )

    async def _one_by_one(self, changes: Sequence[Change]) -> PageApplied:
        """Apply what the store refuses as a whole, so that one change does not keep the others out."""
        results: list[Applied] = []
        guard = guard_row(self._account.name, self._place, epoch=self._epoch)
        for change in changes:
            try:
                results += (
                    await stock.apply(self._redis, self._keys, [guard, *change.rows], settings=self._settings)
                )[1:]
            except ResponseError as problem:
                results += [Applied(outcome=Outcome.FAILED, seq=0, error=str(problem))] * len(change.rows)
        return PageApplied(results=tuple(results), moved=Outcome.HELD_BACK)

    async def _deal_with(self, changes: Sequence[Change], results: Sequence[Applied]) -> None:
        """Put aside what could not be taken in; what may be our own fault only after some tries."""
        at = 0
        is_last_try = self._state.failures + 1 >= self._settings.ingress.tries_max
        for change in changes:
            own = [result for result in results[at : at + len(change.rows)] if result.outcome in NOT_TAKEN_IN]
            at += len(change.rows)
            failed = next((result.error for result in own if result.outcome is Outcome.FAILED), None)
            if failed is not None and not is_last_try:
                msg = f"The script could not apply what was polled: {failed}"
                raise UpstreamFailed(msg)
            if failed is not None:
                await self._put_aside(change, f"The script could not apply it: {failed}", is_dead=True)
            elif own:
                await self._quarantine(change, NOT_UNDERSTOOD[own[0].outcome])

    async def _put_aside(self, change: Change, reason: str, *, is_dead: bool) -> None:
        await ingress.put_rows_aside(
            self._redis,
            self._account.name,
            change.rows,
            reason=reason,
            is_dead=is_dead,
            settings=self._settings.ingress,
        )
        self.tally = replace(self.tally, put_aside=self.tally.put_aside + 1)

    async def _quarantine(self, change: Change, reason: str) -> None:
        await self._put_aside(change, reason, is_dead=False)

    def _go_on(self, page: Page, place: PollPlace, walk_ms: int) -> None:
        self._place = replace(place, moves=self._place.moves + 1)
        self.left_out += page.refused
        self._cursor, self._walk_ms = page.cursor, walk_ms
        self.reached_end = page.is_last
        if page.is_last and self.is_sweeping:
            self.is_sweeping, self.sweep_from_ms = False, walk_ms

    async def _what_is_told(self, changes: Sequence[Change]) -> Told:
        items = sorted({row[ITEM] for change in changes for row in change.rows})
        return Told(
            to_ms=self._told_to_ms,
            waiting_ms=await ingress.waiting_since_ms(self._redis),
            awaited=await store.awaited(self._redis, self._keys, self._account.name, items),
            grace_ms=self._settings.sync.grace_ms,
        )

    def _count(
        self,
        changes: Sequence[Change],
        results: Sequence[Applied],
        told: Told,
    ) -> None:
        tally = rules.counted(
            self.tally,
            changes,
            results,
            has_deliveries=self._has_deliveries,
            told=told,
        )
        if not self._is_judged:
            tally = replace(tally, found=self.tally.found, unseen=self.tally.unseen, oldest_unseen_ms=None)
        for result in results:
            metrics.events.labels(self._connector.name, result.outcome.value).inc()
        self.tally = tally
