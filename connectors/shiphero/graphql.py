"""One request to ShipHero's GraphQL API, and what its answer says went wrong.

The surprising fact: a throttle, a refusal and an unknown SKU all come with HTTP status 200; only
``errors`` tells them apart. See https://developer.shiphero.com/troubleshooting/error-glossary/
"""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, TypeVar

from connectors.shiphero import tokens
from connectors.shiphero.payloads import Answer
from synchub.connector_kit.payloads import Payload, parse, read_json
from synchub.errors import CursorRefused, PayloadRefused, UpstreamFailed, UpstreamRefused, UpstreamThrottled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectors.shiphero.payloads import Page, Problem
    from synchub.connector_kit.contract import Access
    from synchub.connector_kit.http import HttpAnswer

P = TypeVar("P", bound=Payload)

QUOTA: Final = "user_quota { credits_remaining max_available increment_rate }"
"""Asked for besides, because other integrations spend of the same credits; see ``quota.py``."""

UNKNOWN_WAIT_S: Final = 10
"""When a throttle names no time; 600 credits come back meanwhile."""

MAX_WAIT_S: Final = 300

_NOT_ENOUGH_CREDITS: Final = 30
_NOT_FOUND: Final = 5
_QUOTA_FIELD: Final = "user_quota"
_CURSOR = re.compile(r"cursor", re.IGNORECASE)
_REFUSAL = re.compile(
    r"unauthori[sz]ed|not authori[sz]ed|not allowed|permission|scope|token|credential", re.IGNORECASE
)
_PARTS_OF_TIME: Final = ((re.compile(r"([0-9]{1,6})\s*min"), 60), (re.compile(r"([0-9]{1,6})\s*sec"), 1))


async def ask(access: Access, query: str, variables: Mapping[str, object], *, cost: int) -> Answer:
    """Send one request and return its answer, as ``ask_timed`` does."""
    answer, _ = await ask_timed(access, query, variables, cost=cost)
    return answer


async def ask_timed(
    access: Access, query: str, variables: Mapping[str, object], *, cost: int
) -> tuple[Answer, int]:
    """Send one request; return its answer, in which at worst an unknown thing is wrong, and a time in ms.

    The time is the sooner of two: ShipHero's when it answered, and the hub's own before the call.

    ``cost`` is what ShipHero holds back for it: a credit for each row that it may return and for each
    object in that row, and one for the listing. It charges what it did return.

    Raises:
        CursorRefused: the answer says that a cursor in the variables is none.
        UpstreamThrottled: credits or requests are used up; says for how long.
        UpstreamRefused: no token, or one that may not do this.
        UpstreamFailed: no answer, half an answer, or one that is not of the documented form.
    """
    before_ms = time.time_ns() // 1_000_000
    sent = await _send(access, {"query": query, "variables": dict(variables)}, cost)
    try:
        answer = parse(Answer, read_json(sent.body))
    except PayloadRefused as problem:
        msg = f"ShipHero's answer is not one of its API: {problem.detail}"
        raise UpstreamFailed(msg) from problem
    for one in answer.errors:
        _check(one)
    return answer, min(before_ms, _date_ms(sent.headers.get("date", ""), before_ms))


async def _send(access: Access, body: Mapping[str, object], cost: int) -> HttpAnswer:
    """Send with the token there is, and once more with a new one if that is refused."""
    token = tokens.current(access) or await tokens.renew(access, "")
    if not token:
        msg = "The account has no access token: ShipHero's API cannot be used."
        raise UpstreamRefused(msg)
    try:
        return await _send_with(access, token, body, cost)
    except UpstreamRefused:
        renewed = await tokens.renew(access, token)
        if not renewed:
            raise
    return await _send_with(access, renewed, body, cost)


async def _send_with(access: Access, token: str, body: Mapping[str, object], cost: int) -> HttpAnswer:
    headers = {"authorization": f"Bearer {token}"}
    return await access.http.send("POST", tokens.api_url(access), headers=headers, json=body, cost=cost)


def field(answer: Answer, alias: str, model: type[P]) -> P:
    """Return one field of the answer.

    Raises:
        UpstreamFailed: it is missing, null, or not of the documented form.
    """
    found = find(answer, alias, model)
    if found is None:
        msg = "ShipHero left something out of its answer."
        raise UpstreamFailed(msg)
    return found


def find(answer: Answer, alias: str, model: type[P]) -> P | None:
    """Return one field of the answer; ``None``: ShipHero does not know what was asked for.

    Raises:
        UpstreamFailed: it is missing and nothing says why, or it is not of the documented form.
    """
    value = (answer.data or {}).get(alias)
    if value is None and any(_code(problem) == _NOT_FOUND for problem in answer.errors):
        return None
    try:
        return parse(model, value)
    except PayloadRefused as problem:
        msg = f"ShipHero's answer is not one of its API: {problem.detail}"
        raise UpstreamFailed(msg) from problem


def next_cursor(page: Page, came_from: str | None) -> str | None:
    """Return where the next page of a listing begins; ``None`` after the last.

    Raises:
        UpstreamFailed: there is more, but not at another place: reading on would never end.
    """
    if not page.page_info.has_next_page:
        return None
    cursor = page.page_info.end_cursor
    if not cursor or cursor == came_from:
        msg = "ShipHero says that there is more and not where."
        raise UpstreamFailed(msg)
    return cursor


def _date_ms(text: str, otherwise: int) -> int:
    try:
        return max(0, int(parsedate_to_datetime(text).timestamp()) * 1000)
    except (ValueError, OverflowError, TypeError):
        return otherwise


def _check(problem: Problem) -> None:
    """Return if the problem is an unknown thing or the quota, which nothing depends on; raise otherwise."""
    code = _code(problem)
    inner = problem.extensions or problem
    remaining = inner.time_remaining if problem.time_remaining is None else problem.time_remaining
    if code == _NOT_ENOUGH_CREDITS or remaining is not None:
        msg = "ShipHero has no credits left for this account."
        raise UpstreamThrottled(msg, retry_after_s=_wait_s(remaining))
    if code != _NOT_FOUND and problem.field != _QUOTA_FIELD:
        _fail(problem)


def _code(problem: Problem) -> object:
    """Return its code, which stands beside the message or among the extensions."""
    return (problem.extensions or problem).code if problem.code is None else problem.code


def _wait_s(remaining: object) -> int:
    """Return the seconds of ``"1 minutes, 7 seconds"``; ShipHero gives this time in words."""
    found = [(pattern.search(str(remaining)), unit) for pattern, unit in _PARTS_OF_TIME]
    seconds = sum(int(match[1]) * unit for match, unit in found if match)
    return min(seconds, MAX_WAIT_S) if any(match for match, _ in found) else UNKNOWN_WAIT_S


def _fail(problem: Problem) -> None:
    """Raise by the message, never repeating it: it may quote the request."""
    if _CURSOR.search(problem.message):
        msg = "ShipHero does not take this cursor."
        raise CursorRefused(msg)
    if _REFUSAL.search(problem.message):
        msg = "ShipHero refuses this token or what it asks for."
        raise UpstreamRefused(msg)
    msg = "ShipHero reports a problem of its own."
    raise UpstreamFailed(msg)
