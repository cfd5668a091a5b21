"""Calls made again: full jitter, within a deadline, and never more than a share of all calls.

The only module that uses tenacity. When many callers repeat what a struggling platform did not answer, the
repetitions are what keeps it down; so they are paid from what calls have put by, and a call that finds
nothing there fails as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    wait_random_exponential,
)

from synchub.errors import Fault, UpstreamFailed, UpstreamOpen, UpstreamPutOff, UpstreamThrottled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

SAVED_MAX: Final = 10.0
"""Repetitions that can be put by; a quiet day must not pay for a storm."""
_EXACTLY: Final = 1e-9
_Answer = TypeVar("_Answer")


class RetryBudget:
    """What the calls of one account have put by for repetitions, in one process.

    Each process keeps to the share, so all of them together do.
    """

    def __init__(self, percent: int) -> None:
        self._percent = percent
        self._saved = 0.0

    def note_call(self) -> None:
        """Put by the share of one call."""
        self._saved = min(SAVED_MAX, self._saved + self._percent / 100)

    def pay(self) -> bool:
        """Take one repetition out, if there is one."""
        if self._saved < 1 - _EXACTLY:
            return False
        self._saved -= 1
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """When a call may be made again."""

    tries_max: int
    base_ms: int
    max_ms: int
    left_ms: Callable[[], int]
    """How much of the call's time is left."""
    budget: RetryBudget
    sleep: Callable[[float], Coroutine[Any, Any, Any]]
    tell: Callable[[bool], None]
    """Told of each failure that is worth another try whether there is one."""


async def retried(call: Callable[[], Awaitable[_Answer]], terms: Terms) -> _Answer:
    """Make a call until it succeeds, is not worth repeating, or has no time or budget left.

    Raises:
        UpstreamThrottled, UpstreamRefused, UpstreamFailed: what the last try raised.
    """

    def is_enough(state: RetryCallState) -> bool:
        # The budget is asked last: it is charged by being asked.
        return (
            state.attempt_number >= terms.tries_max
            or _takes_too_long(state, terms.left_ms())
            or _cannot_be_paid(terms)
        )

    async def once() -> _Answer:
        return await call()  # the library awaits only what is declared so

    retrying = AsyncRetrying(
        stop=is_enough,
        wait=wait_random_exponential(multiplier=terms.base_ms / 1000, max=terms.max_ms / 1000),
        retry=retry_if_exception(_is_worth_it),
        sleep=terms.sleep,
        reraise=True,
    )
    return await retrying(once)


def _is_worth_it(problem: BaseException) -> bool:
    if isinstance(problem, UpstreamOpen | UpstreamPutOff):
        return False  # it was not even sent
    return isinstance(problem, UpstreamFailed | UpstreamThrottled)


def _takes_too_long(state: RetryCallState, left_ms: int) -> bool:
    problem = state.outcome.exception() if state.outcome else None
    asked_s = problem.retry_after_s or 0 if isinstance(problem, Fault) else 0
    return max(state.upcoming_sleep, asked_s) * 1000 >= left_ms


def _cannot_be_paid(terms: Terms) -> bool:
    may = terms.budget.pay()
    terms.tell(may)
    return not may
