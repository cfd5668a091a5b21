"""One endpoint's lane: what it is told, in order, one request at a time, until it has taken it.

Nothing is queued. A lane is a position in the merchant's history, at most one message in hand, and in memory
the latest answers of the SKUs that have changed since: never more than it watches. A lane that fails lets go
even of these and afterwards catches up from its position. Before each request the store is asked whether this
process still has the lane, so that one that was frozen does not go on beside its successor.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.keyspace import MerchantKeys
from synchub.kit.breaker import Breaker, State
from synchub.kit.clock import monotonic_ms, now_ms, wall_ms
from synchub.kit.tasks import is_ending
from synchub.logs import get_logger
from synchub.stock import operations as stock
from synchub.subscriptions import occurrences, rules, store
from synchub.subscriptions.backlog import Backlog
from synchub.subscriptions.equipment import TROUBLE, LaneLost
from synchub.subscriptions.model import (
    EVERYTHING,
    Asked,
    Attempt,
    Event,
    Outcome,
    Pending,
    Spot,
    Standing,
    Status,
)
from synchub.subscriptions.sending import send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from synchub.agents.model import Agent
    from synchub.feed.model import ViewClass
    from synchub.redis import Part
    from synchub.stock.model import Answer
    from synchub.subscriptions.equipment import Equipment
    from synchub.subscriptions.model import Reply, Subscription

CHECKPOINT_S: Final = 10.0
"""How often an idle lane writes down that it has got further without having had anything to tell."""
PAUSE_S: Final = 0.5
"""Longest pause before the store is asked again."""

_ID_BYTES: Final = 18
_log: Final = get_logger()


class Lane:
    """Tells one endpoint; :meth:`run` until it is cancelled or :class:`LaneLost`."""

    def __init__(
        self,
        subscription: Subscription,
        standing: Standing,
        equipment: Equipment,
        present: Callable[[], Spot],
    ) -> None:
        """``present`` says up to where changes have been handed to :meth:`note`."""
        self.subscription = subscription
        self.standing = standing
        self.waits_since_ms = 0
        """Since when it has been told nothing although there is something; 0: there is nothing."""
        self.breaker = Breaker(equipment.breaker)
        self.holder: Agent | None = None
        """Whose it is, as it was when it was last looked at."""
        self._keys = MerchantKeys(subscription.merchant)
        self._with = equipment
        self._limits = equipment.settings.subscriptions
        redis, settings = equipment.redis, equipment.settings
        self._backlog = Backlog(redis, self._keys, subscription.filter, settings, present, equipment.looks)
        self._written = standing.spot
        self._done = Asked()
        self._stirred = asyncio.Event()

    @property
    def is_held_back(self) -> bool:
        """Whether its breaker lets nothing through at present."""
        return self.breaker.state(monotonic_ms()) is State.OPEN

    def status(self) -> Status:
        """Return how the subscription is now."""
        return rules.status_of(self.subscription, self.standing, now_ms())

    def note(self, answer: Answer) -> None:
        """Take in a change that matches, in the order of the changes."""
        if self._backlog.note(answer) and self.standing.pending is None:
            self._stirred.set()

    def fall_behind(self) -> None:
        """Look for changes from the position on: what was collected is not complete."""
        self._backlog.let_go()
        self._stirred.set()

    def stir(self) -> None:
        """Have it look at everything again."""
        self._stirred.set()

    def renew(self, subscription: Subscription, standing: Standing) -> None:
        """Take over what an agent has changed or wants; a wish that was met already stays met."""
        self.subscription = subscription
        wishes = {wish: getattr(standing.asked, wish) for wish in store.WISHES}
        undone = {wish: name for wish, name in wishes.items() if name != getattr(self._done, wish)}
        self.standing = replace(self.standing, asked=Asked(**undone))
        self._stirred.set()

    async def run(self) -> None:
        """Tell the endpoint what there is to tell, until cancelled.

        Raises:
            LaneLost: it is somebody else's by now.
        """
        while not is_ending():
            try:
                await self._turn()
            except TROUBLE:
                # What had been sent and could not be written down is sent again, under the same id.
                await asyncio.sleep(random.uniform(PAUSE_S / 2, PAUSE_S))  # noqa: S311 - spreads load

    async def _turn(self) -> None:
        self._stirred.clear()
        await self._go_on()
        if not await self._is_on():
            self._backlog.let_go()
            self.waits_since_ms = 0
            await self._idle(None)
            return
        await self._redrive()
        await self._test()
        self._check_view()
        if self.standing.pending is None:
            await self._take_in_hand()
        if self.standing.pending is None:
            await self._idle(CHECKPOINT_S)
            await self._checkpoint()
            return
        wait_ms = max(self.standing.next_at_ms - now_ms(), self.breaker.wait_ms(monotonic_ms()))
        if wait_ms <= 0 and self.breaker.permits(monotonic_ms()):
            await self._attempt(self.standing.pending)
        else:
            await self._idle(wait_ms / 1000 if wait_ms > 0 else PAUSE_S)

    async def _idle(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stirred.wait(), seconds)

    # ------------------------------------------------------------------------------- whether and from where

    async def _is_on(self) -> bool:
        """Say whether anything is to be sent, and note it once when a grant has run out."""
        status = self.status()
        if status is Status.EXPIRED and not self.standing.is_expiry_noted:
            await self._write({"expiry_noted": 1}, _event(Event.EXPIRED))
            self.standing = replace(self.standing, is_expiry_noted=True)
            metrics.subscriptions_over.labels(status.value).inc()
            _log.info("subscription_expired", **self._about)
        return status is Status.ACTIVE and self._with.holder_of(self.subscription) is not None

    async def _go_on(self) -> None:
        """Turn on again what was turned off, because its agent wants it."""
        name = self.standing.asked.renew
        if not name or self.standing.status is Status.ENDED:
            return
        after = replace(
            self.standing,
            status=Status.ACTIVE,
            reason="",
            failing_since_ms=0,
            next_at_ms=0,
            is_expiry_noted=False,
        )
        was_off = self.standing.status is not Status.ACTIVE or self.standing.is_expiry_noted
        fields = {**store.lane_fields(after), **store.done_fields("renew", name)}
        await self._write(fields, _event(Event.RESUMED) if was_off else None)
        self._is_done(after, renew=name)
        self.breaker = Breaker(self._with.breaker)

    async def _redrive(self) -> None:
        """Go back to a position because the agent wants it; what is told from there has ids of its own."""
        text = self.standing.asked.redrive
        if not text:
            return
        _, epoch, seq = text.split(" ")
        after = replace(self.standing, spot=Spot(epoch=epoch, seq=int(seq)), pending=None, next_at_ms=0)
        fields = {**store.lane_fields(after), **store.done_fields("redrive", text)}
        await self._write(fields, _event(Event.REDRIVEN))
        self._is_done(after, redrive=text)
        self._backlog.let_go()

    def _is_done(self, after: Standing, **wish: str) -> None:
        self._done = replace(self._done, **wish)
        self.standing = replace(after, asked=replace(after.asked, **dict.fromkeys(wish, "")))

    def _check_view(self) -> None:
        """When the agent is shown things otherwise, whatever it was told is out of date."""
        mark = occurrences.mark_of(self._view())
        if self.standing.view and self.standing.view != mark:
            everything = replace(self.standing.spot, seq=EVERYTHING)
            self.standing = replace(self.standing, spot=everything, pending=None)
            self._backlog.let_go()
        self.standing = replace(self.standing, view=mark)

    # ------------------------------------------------------------------------------------- what comes next

    async def _take_in_hand(self) -> None:
        """Put the next message together and write it down, if there is anything to tell."""
        spot = await self._backlog.fill(self.standing.spot)
        self.standing = replace(self.standing, spot=spot)
        if not self._backlog.size:
            self.waits_since_ms = 0
            return
        self.waits_since_ms = self.waits_since_ms or wall_ms()
        part, upto = self._backlog.take(self._limits.items_max)
        pending = Pending(
            id=f"msg_{secrets.token_urlsafe(_ID_BYTES)}",
            upto=upto,
            skus=tuple(answer.sku for answer in part),
            truncated=self._backlog.is_truncated(spot),
            at_ms=wall_ms(),
        )
        await self._write(
            {**store.spot_fields(spot), **store.pending_fields(pending), "view": self.standing.view}
        )
        if pending.truncated:
            metrics.push_truncated.inc()
        self.standing = replace(self.standing, pending=pending)

    async def _checkpoint(self) -> None:
        """Write down that it has got further, so that a successor need not look at what matches nothing."""
        spot = self.standing.spot
        if spot != self._written:
            fields = {**store.spot_fields(spot), **store.pending_fields(None), "view": self.standing.view}
            await self._write(fields)
            self._written = spot

    # ----------------------------------------------------------------------------------------- one attempt

    async def _attempt(self, pending: Pending) -> None:
        try:
            async with self._slot():
                # The latest state: what has changed meanwhile is told now, and again with its own position.
                reading = await stock.read(self._with.redis, self._keys, pending.skus)
                if reading.position.epoch != pending.upto.epoch:
                    self.breaker.forget()
                    await self._drop()
                    return
                body = occurrences.changed(pending, self.standing.spot, reading.answers, self._view())
                # Whoever has lost the lane learns it here, before anything is sent.
                await self._write({"tried_at": wall_ms()})
                reply = await self._send(body, pending.id)
        except BaseException:  # whatever it is, it is raised again: the permitted call had no result
            self.breaker.forget()
            raise
        self._tell_breaker(reply)
        if reply.outcome is Outcome.DELIVERED:
            await self._delivered(pending, reply)
        else:
            await self._failed(pending, reply)

    async def _drop(self) -> None:
        """Give up a message of a history that is over; everything is told anew in the other one."""
        await self._write(store.pending_fields(None))
        self.standing = replace(self.standing, pending=None)
        self._backlog.let_go()

    async def _delivered(self, pending: Pending, reply: Reply) -> None:
        after = replace(
            self.standing,
            spot=pending.upto,
            pending=None,
            failures=0,
            failing_since_ms=0,
            next_at_ms=0,
            delivered_at_ms=wall_ms(),
        )
        await self._write(store.lane_fields(after), _line(pending, reply))
        self.standing = after
        self._written = after.spot
        self.waits_since_ms = 0
        self._backlog.strike_off(pending.upto.seq)

    async def _failed(self, pending: Pending, reply: Reply) -> None:
        now = now_ms()
        failures = self.standing.failures + 1
        pause_ms = rules.pause_ms(
            failures,
            reply.retry_after_ms,
            base_ms=self._limits.retry_base_ms,
            most_ms=self._limits.retry_max_ms,
            chance=random.random(),  # noqa: S311 - spreads load, guards nothing
        )
        after = replace(
            self.standing,
            failures=failures,
            failing_since_ms=self.standing.failing_since_ms or now,
            next_at_ms=now + pause_ms,
        )
        if reply.outcome is Outcome.GONE:
            after = _over(after, Status.ENDED, reply.outcome)
        elif rules.has_failed_too_long(after, now, self._limits.disable_after_ms):
            after = _over(after, Status.DISABLED, reply.outcome)
        self._backlog.let_go()
        await self._write(store.lane_fields(after), _line(pending, reply, retry_at_ms=after.next_at_ms))
        self.standing = after
        if after.status is Status.DISABLED:
            _log.warning("subscription_disabled", reason=after.reason, failures=failures, **self._about)
            await self._is_over(Event.DISABLED)
        elif after.status is Status.ENDED:
            _log.warning("subscription_ended", reason=after.reason, **self._about)
            await self._is_over(Event.ENDED)

    async def _is_over(self, event: Event) -> None:
        metrics.subscriptions_over.labels(event.value).inc()
        await self._write({}, _event(event))

    async def _test(self) -> None:
        """Send what the agent wants, before all else; once it is taken, the rest is tried again at once."""
        name = self.standing.asked.test
        if not name:
            return
        # First, so that a process that dies over it does not send it for ever.
        await self._write(store.done_fields("test", name))
        self._is_done(self.standing, test=name)
        spot = replace(self.standing.spot, seq=max(self.standing.spot.seq, 0))
        async with self._slot():
            reply = await self._send(occurrences.test(name, spot, wall_ms()), name)
        if reply.outcome is Outcome.DELIVERED:
            self.standing = replace(self.standing, next_at_ms=0)
            self.breaker = Breaker(self._with.breaker)
        line = replace(_line(None, reply), name=rules.TEST, id=name)
        await self._write({"next_at": self.standing.next_at_ms}, line)

    async def _send(self, body: bytes, name: str) -> Reply:
        signing = rules.signing(self.subscription.secrets, now_ms())
        texts = [self._with.opened(self.subscription, secret) for secret in signing]
        with metrics.push_in_flight.track_inprogress():
            reply = await send(
                self._with.session,
                self.subscription.url,
                body,
                occurrences.headers(body, texts, name=name, at_ms=wall_ms()),
                timeout_ms=self._limits.timeout_ms,
            )
        metrics.push_attempts.labels(reply.outcome.value).inc()
        metrics.push_seconds.observe(reply.took_ms / 1000)
        return reply

    def _tell_breaker(self, reply: Reply) -> None:
        """Being asked to wait is no failure of the endpoint's: it is waited for."""
        if reply.outcome is Outcome.THROTTLED:
            self.breaker.forget()
        else:
            has_failed = reply.outcome is not Outcome.DELIVERED
            self.breaker.record(monotonic_ms(), has_failed=has_failed, took_ms=reply.took_ms)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Wait for a place among the requests of this process; failing endpoints have few of them."""
        if self.standing.failures:
            async with self._with.slots_failing, self._with.slots:
                yield
        else:
            async with self._with.slots:
                yield

    async def _write(self, fields: dict[str, Part], attempt: Attempt | None = None) -> None:
        is_ours = await store.write_lane(
            self._with.redis,
            self._keys,
            self.subscription,
            fields,
            owner=self._with.owner,
            attempt=attempt,
            kept=self._limits.attempts_kept,
        )
        if not is_ours:
            raise LaneLost

    def _view(self) -> ViewClass:
        agent = self._with.holder_of(self.subscription)
        if agent is None:
            raise LaneLost
        low_threshold = self._with.settings.stock.low_threshold
        return occurrences.view_of(self._with.decided, self.subscription, agent, low_threshold)

    @property
    def _about(self) -> dict[str, str]:
        subscription = self.subscription
        return {
            "subscription": subscription.id,
            "merchant": subscription.merchant,
            "agent": subscription.agent,
        }


def _over(standing: Standing, status: Status, because: Outcome) -> Standing:
    return replace(standing, status=status, reason=because.value, changed_at_ms=now_ms(), next_at_ms=0)


def _event(event: Event) -> Attempt:
    return Attempt(at_ms=wall_ms(), name="", id="", outcome=event.value)


def _line(pending: Pending | None, reply: Reply, *, retry_at_ms: int = 0) -> Attempt:
    return Attempt(
        at_ms=wall_ms(),
        name=rules.CHANGED,
        id=pending.id if pending else "",
        outcome=reply.outcome.value,
        status=reply.status,
        took_ms=reply.took_ms,
        items=len(pending.skus) if pending else 0,
        retry_at_ms=retry_at_ms,
    )
