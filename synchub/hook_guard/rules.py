"""When a platform is asked, when it is repaired, and when that is left to a person.

Pure. A repair is never the answer to a repair: each one in a day waits twice as long as the one before, and
after ``repairs_max`` of them nobody but a person goes on.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from synchub.connector_kit.contract import HookState
from synchub.hook_guard.model import GuardState, Need

if TYPE_CHECKING:
    from collections.abc import Iterable

    from synchub.connector_kit.contract import HookReport
    from synchub.sync_settings import HookGuardSettings

DAY_MS: Final = 86_400_000
JITTER: Final = 0.2
"""A check comes up to so much earlier or later, so that accounts do not come all at once."""
_SOON: Final = 0.1
"""After a repair, or a failed question, the platform is asked again in so much of the ordinary time."""
_DOUBLINGS_MAX: Final = 16
_DETAIL_MAX: Final = 300


def reaches(public_url: str, credentials: Iterable[str]) -> bool:
    """Say whether an account's platform can post to this address.

    One on the machine itself is reached only by a platform that its credentials put on the same machine.
    """
    if not public_url:
        return False
    return not _is_loopback(public_url) or any(map(_is_loopback, credentials))


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def first(now_ms: int, chance: float, settings: HookGuardSettings) -> GuardState:
    """Return the state of an account that has never been asked: within a fifth of the ordinary time it is."""
    return GuardState(due_ms=now_ms + int(chance * JITTER * settings.check_every_ms))


def pause_ms(chance: float, settings: HookGuardSettings) -> int:
    """Return the time to the next ordinary check; ``chance`` is 0 to 1."""
    return int(settings.check_every_ms * (1 + JITTER * (2 * chance - 1)))


def heard(state: GuardState, report: HookReport, now_ms: int, *, is_polled: bool) -> GuardState:
    """Take an answer of the platform into account.

    When it sends again, polls must reach the end once more before everything is there, if there are any.
    """
    is_news = report.state is not state.hooks
    said = replace(
        state,
        hooks=report.state,
        topics=report.topics,
        detail=report.detail[:_DETAIL_MAX],
        since_ms=now_ms if is_news else state.since_ms,
        checked_ms=now_ms,
        failures=0,
        error="",
        repairs=tuple(at_ms for at_ms in state.repairs if at_ms > now_ms - DAY_MS),
    )
    if is_broken(state) and not is_broken(said):
        return replace(said, backfill_from_ms=now_ms if is_polled else 0)
    return said


def is_broken(state: GuardState) -> bool:
    """Say whether deliveries do not come as they were asked for."""
    return state.hooks in {HookState.MISSING, HookState.DISABLED}


def may_repair(state: GuardState, now_ms: int, settings: HookGuardSettings) -> bool:
    """Say whether another repair may begin now."""
    if len(state.repairs) >= settings.repairs_max:
        return False
    return now_ms >= next_repair_ms(state, settings)


def next_repair_ms(state: GuardState, settings: HookGuardSettings) -> int:
    """Return when the next repair may begin: at once for the first, then after a pause that doubles."""
    if not state.repairs:
        return 0
    doublings = min(len(state.repairs) - 1, _DOUBLINGS_MAX)
    return state.repairs[-1] + settings.check_every_ms * (1 << doublings)


def repairing(state: GuardState, now_ms: int) -> GuardState:
    """Note a repair before it begins, so that one that kills its process is counted too."""
    return replace(state, repairs=(*state.repairs, now_ms), is_repairing=True)


def concluded(
    state: GuardState, now_ms: int, chance: float, settings: HookGuardSettings, *, is_soon: bool = False
) -> GuardState:
    """Say when the platform is asked next, and whether a person is needed."""
    need = _need(state, settings)
    wait_ms = pause_ms(chance, settings) * (_SOON if is_soon else 1)
    return replace(
        state,
        due_ms=now_ms + int(wait_ms),
        need=need,
        need_since_ms=state.need_since_ms if need and need == state.need else now_ms if need else 0,
    )


def _need(state: GuardState, settings: HookGuardSettings) -> Need:
    if not is_broken(state):
        return Need.NONE
    if len(state.repairs) < settings.repairs_max:
        return Need.NONE
    return Need.UNDONE if is_undone(state) else Need.EXHAUSTED


def is_undone(state: GuardState) -> bool:
    """Say whether it was repaired and well, and the platform has taken that back."""
    return is_broken(state) and bool(state.repairs) and state.since_ms > state.repairs[-1]


def failed(
    state: GuardState,
    error: str,
    now_ms: int,
    chance: float,
    settings: HookGuardSettings,
    *,
    wait_ms: int = 0,
) -> GuardState:
    """Take into account that the platform did not answer: soon again, then later, as ordinary at last."""
    ordinary_ms = pause_ms(chance, settings)
    growing_ms = ordinary_ms * _SOON * (1 << min(state.failures, _DOUBLINGS_MAX))
    return replace(
        state,
        failures=state.failures + 1,
        error=error[:_DETAIL_MAX],
        due_ms=now_ms + max(wait_ms, int(min(ordinary_ms, growing_ms))),
    )


def refused(
    state: GuardState, error: str, now_ms: int, chance: float, settings: HookGuardSettings
) -> GuardState:
    """Take into account that the platform does not let us: nothing but a person can change that."""
    return needing(failed(state, error, now_ms, chance, settings), Need.REFUSED, now_ms)


def needing(state: GuardState, need: Need, now_ms: int) -> GuardState:
    """Note that a person is needed, and since when."""
    return replace(state, need=need, need_since_ms=state.need_since_ms if need == state.need else now_ms)


def sentence(state: GuardState) -> str:
    """Say in words how the platform's promise stands and what is being done."""
    return f"{_standing(state)}{_doing(state)}"


def _standing(state: GuardState) -> str:
    if state.hooks is None:
        return "The platform has not said yet whether it sends to us."
    topics = f" ({', '.join(state.topics)})" if state.topics else ""
    told = {
        HookState.SOUND: "The platform sends what it was asked for.",
        HookState.WARNED: "The platform still sends and has said that it may stop.",
        HookState.MISSING: f"The platform does not send to us{topics}: the subscription is missing.",
        HookState.DISABLED: f"The platform has switched our subscription off{topics}.",
    }
    return f"{told[state.hooks]} {state.detail}".strip()


def _doing(state: GuardState) -> str:
    match state.need:
        case Need.EXHAUSTED:
            return f" {_times(state)} in a day did not help: a person is needed."
        case Need.UNDONE:
            return (
                f" It was well after a repair at {_clock(state.repairs[-1])} and is switched off again, "
                f"after {_times(state).lower()} in a day: find out why, a person is needed."
            )
        case Need.REFUSED:
            return f" The platform does not let us ask or repair: {state.error} A person is needed."
        case Need.SECRET_LOST:
            return f" Its new signing secret could not be kept: {state.error} A person is needed."
        case Need.NONE:
            return _going_on(state)


def _going_on(state: GuardState) -> str:
    if state.error:
        return f" It did not answer {state.failures} times in a row: {state.error}"
    if is_undone(state):
        return " It was repaired and is switched off again; the next repair waits longer."
    if is_broken(state):
        return " It will be repaired."
    return " What came meanwhile is being polled." if state.is_missed else ""


def _times(state: GuardState) -> str:
    return "One repair" if len(state.repairs) == 1 else f"{len(state.repairs) or 'No'} repairs"


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M UTC")
