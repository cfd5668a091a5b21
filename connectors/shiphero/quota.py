"""What an answer says of the credits that are left.

Two answers say it: one that was asked for ``user_quota``
(https://developer.shiphero.com/schema/types/user-quota.html) and a throttle, whose error has
``remaining_credits``. ShipHero sends no header for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connectors.shiphero.payloads import Answer, UserQuota
from synchub.connector_kit.contract import Quota
from synchub.connector_kit.payloads import parse, read_json
from synchub.errors import PayloadRefused

if TYPE_CHECKING:
    from synchub.connector_kit.http import HttpAnswer

_SIGNS: Final = (b'"user_quota"', b'"remaining_credits"')


def read_quota(answer: HttpAnswer) -> Quota | None:
    """Return what the answer says; ``None`` where it says nothing that can be read."""
    if not any(sign in answer.body for sign in _SIGNS):
        return None
    try:
        told = parse(Answer, read_json(answer.body))
        quota = parse(UserQuota, (told.data or {}).get("user_quota"))
    except PayloadRefused:
        return _of_a_throttle(answer)
    return Quota(
        remaining=max(0, quota.credits_remaining),
        capacity=quota.max_available or None,
        restored_per_s=quota.increment_rate or None,
    )


def _of_a_throttle(answer: HttpAnswer) -> Quota | None:
    try:
        problems = parse(Answer, read_json(answer.body)).errors
    except PayloadRefused:
        return None
    each = [part for problem in problems for part in (problem, problem.extensions) if part is not None]
    left = next((part.remaining_credits for part in each if type(part.remaining_credits) is int), None)
    return Quota(remaining=max(0, left)) if isinstance(left, int) else None
