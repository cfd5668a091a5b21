"""One call to a platform: its turn, its breaker, its deadline, and what its end tells all three."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from synchub import metrics
from synchub.connector_kit.http import AiohttpPlatformHttp, HttpAnswer
from synchub.errors import (
    UpstreamFailed,
    UpstreamOpen,
    UpstreamPutOff,
    UpstreamRefused,
    UpstreamThrottled,
)
from synchub.upstream import rules
from synchub.upstream.model import Operation, Priority, Wanted
from synchub.upstream.retrying import RetryBudget, Terms, retried

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from synchub.connector_kit.contract import ReadQuota
    from synchub.upstream.breakers import Permit, SharedBreaker
    from synchub.upstream.budgets import Budget, Lease
    from synchub.upstream.reach import Reach

LEASE_MARGIN_MS: Final = 2000
"""A call's place is free again so long after it must have ended, whatever became of its process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Everything that the calls of one kind to one account go through."""

    connector: str
    operation: Operation
    priority: Priority
    budget: Budget
    breaker: SharedBreaker
    retries: RetryBudget
    reach: Reach
    session: aiohttp.ClientSession
    read_quota: ReadQuota | None
    deadline_ms: int
    counts_the_wait: bool
    """The deadline is the caller's own: the wait for the turn is part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    url: str
    headers: Mapping[str, str] | None
    json: Any
    wanted: Wanted


class _Spell:
    """A call's time, which runs from its first turn on, or at once."""

    def __init__(self, now_ms: Callable[[], int], deadline_ms: int, *, runs: bool) -> None:
        self._now_ms = now_ms
        self._deadline_ms = deadline_ms
        self._begun_ms = now_ms() if runs else None

    @property
    def runs(self) -> bool:
        return self._begun_ms is not None

    def begin(self) -> None:
        if self._begun_ms is None:
            self._begun_ms = self._now_ms()

    def left_ms(self) -> int:
        if self._begun_ms is None:
            return self._deadline_ms
        return self._deadline_ms - (self._now_ms() - self._begun_ms)


class AccountHttp:
    """``PlatformHttp`` inside the limits of one account, and not while its platform fails."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        cost: float = 1.0,
        listing: str = "",
    ) -> HttpAnswer:
        """Send a request when it is its turn and return its whole answer, as ``PlatformHttp`` says.

        What may be repeated is, within the deadline and a share of all calls.

        Raises:
            UpstreamPutOff: not sent, since the platform's limits left no room for it in time.
            UpstreamOpen: not sent, since the platform fails.
        """
        line = self._line
        wanted = Wanted(priority=line.priority, cost=cost, listing=listing)
        request = _Request(method=method, url=url, headers=headers, json=json, wanted=wanted)
        spell = _Spell(line.reach.times.now_ms, line.deadline_ms, runs=line.counts_the_wait)
        line.retries.note_call()
        if not rules.may_repeat(line.operation, method, headers):
            return await self._once(request, spell)
        return await retried(lambda: self._once(request, spell), self._terms(spell))

    def _terms(self, spell: _Spell) -> Terms:
        settings = self._line.reach.settings
        return Terms(
            tries_max=settings.tries_max,
            base_ms=settings.backoff_base_ms,
            max_ms=settings.backoff_max_ms,
            left_ms=spell.left_ms,
            budget=self._line.retries,
            sleep=self._line.reach.times.sleep,
            tell=self._tell_retry,
        )

    def _tell_retry(self, may: bool) -> None:  # noqa: FBT001 - the signature that Terms gives
        metrics.upstream_retries.labels(self._line.connector, "made" if may else "refused").inc()

    async def _once(self, request: _Request, spell: _Spell) -> HttpAnswer:
        line = self._line
        try:
            await line.breaker.check()
            lease = await self._turn(request.wanted, spell)
            spell.begin()
            permit = await self._permit(lease, spell)
        except UpstreamPutOff:
            self._count("put_off")
            raise
        except UpstreamOpen:
            self._count("open")
            raise
        return await self._sent(request, spell, lease, permit)

    async def _turn(self, wanted: Wanted, spell: _Spell) -> Lease:
        line, settings = self._line, self._line.reach.settings
        started_ms = line.reach.times.now_ms()
        wait_ms = min(settings.wait_max_ms, spell.left_ms()) if spell.runs else settings.wait_max_ms
        lease_ms = max(0, spell.left_ms()) + LEASE_MARGIN_MS
        lease = await line.budget.take(wanted, wait_ms=max(0, wait_ms), lease_ms=lease_ms)
        waited_ms = line.reach.times.now_ms() - started_ms
        metrics.upstream_wait.labels(line.priority.label).observe(waited_ms / 1000)
        return lease

    async def _permit(self, lease: Lease, spell: _Spell) -> Permit:
        line = self._line
        try:
            return await line.breaker.permit(max(0, spell.left_ms()) + LEASE_MARGIN_MS)
        except BaseException as problem:  # it is raised again: the turn is somebody else's
            given_back = line.reach.spawn(line.budget.settle(lease, is_unused=True))
            if isinstance(problem, Exception):
                await asyncio.shield(given_back)
            raise

    async def _sent(self, request: _Request, spell: _Spell, lease: Lease, permit: Permit) -> HttpAnswer:
        line = self._line
        started_ms = line.reach.times.now_ms()
        try:
            with metrics.upstream_in_flight.track_inprogress():
                answer = await self._send(request, spell.left_ms())
        except BaseException as problem:  # it is raised again: whatever it was, the call is over
            ended = line.reach.spawn(self._end(lease, permit, started_ms, problem, None))
            if isinstance(problem, Exception):
                await asyncio.shield(ended)
            raise
        await asyncio.shield(line.reach.spawn(self._end(lease, permit, started_ms, None, answer)))
        return answer

    async def _send(self, request: _Request, left_ms: int) -> HttpAnswer:
        if left_ms <= 0:
            msg = "The call's time was over before it was its turn."
            raise UpstreamThrottled(msg, retry_after_s=1)
        settings = self._line.reach.settings
        http = AiohttpPlatformHttp(
            self._line.session, deadline_s=left_ms / 1000, max_answer_bytes=settings.answer_max_bytes
        )
        answer = await http.send(request.method, request.url, headers=request.headers, json=request.json)
        if rules.is_page_for_people(answer.headers.get("content-type", ""), answer.body):
            msg = f"{request.method} was answered with {answer.status} and a web page."
            raise UpstreamFailed(msg)
        return answer

    async def _end(
        self,
        lease: Lease,
        permit: Permit,
        started_ms: int,
        problem: BaseException | None,
        answer: HttpAnswer | None,
    ) -> None:
        line = self._line
        took_ms = line.reach.times.now_ms() - started_ms
        metrics.upstream_call_seconds.labels(line.connector).observe(took_ms / 1000)
        self._count(_result(problem))
        throttled_s = problem.retry_after_s or 1 if isinstance(problem, UpstreamThrottled) else 0
        quota = rules.usable(line.read_quota(answer)) if line.read_quota and answer else None
        await line.breaker.tell(permit, rules.verdict_on(problem), took_ms)
        await line.budget.settle(lease, quota=quota, throttled_s=throttled_s)

    def _count(self, result: str) -> None:
        metrics.upstream_calls.labels(self._line.connector, self._line.operation.value, result).inc()


def _result(problem: BaseException | None) -> str:
    if problem is None:
        return "ok"
    if isinstance(problem, UpstreamThrottled):
        return "throttled"
    if isinstance(problem, UpstreamRefused):
        return "refused"
    return "failed" if isinstance(problem, UpstreamFailed) else "called_off"
