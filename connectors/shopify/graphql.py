"""One question to one shop's GraphQL Admin API, and what its answer is taken for.

The surprising fact: a throttled query is answered with HTTP 200 and the word THROTTLED among its
``errors``. Calls are paid in points, taken from a bucket by the query's highest possible cost and
given back down to its real cost when it is answered.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Generic

from connectors.shopify.addresses import endpoint
from connectors.shopify.payloads import Cost
from synchub.connector_kit.contract import Quota
from synchub.connector_kit.payloads import P, parse, read_json
from synchub.errors import (
    CursorRefused,
    PayloadRefused,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamThrottled,
)

if TYPE_CHECKING:
    from synchub.connector_kit.contract import Access
    from synchub.connector_kit.http import HttpAnswer

RETRY_AFTER_S: Final = 5
"""How long to wait when a throttled answer does not say."""

RETRY_AFTER_S_MAX: Final = 60

# A quotation mark inside a value is escaped, so this can only be a name of the answer's own.
THROTTLE_STATUS: Final = re.compile(rb'"throttleStatus"\s*:\s*(\{[^{}]{0,300}\})')
FIELD: Final = re.compile(r"[A-Za-z]{1,40}")


class QueryTooDear(UpstreamRefused):
    """One query may not cost as much as this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Generic[P]):
    """What a query was answered with."""

    content: P
    asked_at_s: int
    """The platform's clock before it looked, cut to the second; ours where it tells no time."""


class Shop:
    """The API of one account's shop."""

    def __init__(self, access: Access) -> None:
        self._http = access.http
        self._credentials = access.credentials

    async def query(self, query: str, variables: Mapping[str, object], model: type[P], *, cost: float) -> P:
        """Return the answer's content.

        Raises:
            UpstreamThrottled: too few points; ``retry_after_s`` from the answer.
            CursorRefused: the platform does not know the position after which it was to go on.
            QueryTooDear: more points than one query may cost.
            UpstreamRefused: no or a wrong token, a missing permission, a wrong shop domain.
            UpstreamFailed: no answer, or one that is not of the documented form.
        """
        return (await self.ask(query, variables, model, cost=cost)).content

    async def ask(
        self, query: str, variables: Mapping[str, object], model: type[P], *, cost: float
    ) -> Answered[P]:
        """Return the answer's content and when it was asked; raises as ``query`` does."""
        before_s, started_s = time.time(), time.monotonic()
        answer = await self._http.send(
            "POST",
            endpoint(self._credentials.get("shop_domain", "")),
            headers={"x-shopify-access-token": self._token(), "accept": "application/json"},
            json={"query": query, "variables": dict(variables)},
            cost=cost,
        )
        asked_s = _asked_at_s(answer, before_s, time.monotonic() - started_s)
        return Answered(content=_read(answer.body, model), asked_at_s=asked_s)

    def _token(self) -> str:
        token = self._credentials.get("access_token", "")
        if not token:
            msg = "The account has no access token, so its levels cannot be read."
            raise UpstreamRefused(msg)
        return token


def read_quota(answer: HttpAnswer) -> Quota | None:
    """Return how many points the app has left in this shop; ``None`` where the answer does not say."""
    found = THROTTLE_STATUS.search(answer.body)
    try:
        status: Any = json.loads(found[1]) if found else {}
        remaining, capacity = float(status["currentlyAvailable"]), float(status["maximumAvailable"])
        restored = float(status["restoreRate"])
    except (ValueError, KeyError, TypeError):
        return None
    if not all(map(math.isfinite, (remaining, capacity, restored))) or capacity <= 0 or restored <= 0:
        return None
    return Quota(remaining=max(0.0, remaining), capacity=capacity, restored_per_s=restored)


def _asked_at_s(answer: HttpAnswer, before_s: float, took_s: float) -> int:
    # The platform writes its answer's date after it has looked, so the call's whole time is taken off.
    try:
        written_s = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except (TypeError, ValueError):
        return math.floor(before_s)
    return math.floor(written_s - took_s)


def _read(body: bytes, model: type[P]) -> P:
    try:
        content = read_json(body)
        _raise_errors(content)
        return parse(model, content.get("data"))
    except PayloadRefused as problem:
        msg = f"The platform's answer is not of the documented form: {problem.detail}"
        raise UpstreamFailed(msg) from problem


def _raise_errors(content: Mapping[str, object]) -> None:
    errors = content.get("errors")
    if not errors:
        return
    rows = errors if isinstance(errors, list) else []
    codes = {_code(error) for error in rows}
    if "THROTTLED" in codes:
        msg = "The shop's point bucket is empty."
        raise UpstreamThrottled(msg, retry_after_s=_retry_after_s(content))
    if "MAX_COST_EXCEEDED" in codes:
        msg = "The platform refused the query: MAX_COST_EXCEEDED."
        raise QueryTooDear(msg)
    if "ACCESS_DENIED" in codes:
        msg = f"The platform refused the query: ACCESS_DENIED{_where(rows)}."
        raise UpstreamRefused(msg)
    if any("INVALID CURSOR" in code for code in (*codes, *map(_message, rows))):
        msg = "The platform does not know the cursor any more."
        raise CursorRefused(msg)
    msg = "The platform answered the query with errors."
    raise UpstreamFailed(msg)


def _code(error: object) -> str:
    """Return an error's code; older answers have only the message ``Throttled``."""
    if not isinstance(error, Mapping):
        return ""
    extensions = error.get("extensions")
    code = extensions.get("code") if isinstance(extensions, Mapping) else None
    return str(code or error.get("message") or "").upper()


def _message(error: object) -> str:
    return str(error.get("message") or "").upper() if isinstance(error, Mapping) else ""


def _where(errors: list[object]) -> str:
    """Return which part of the question was denied, so that the missing permission can be guessed."""
    paths = [error.get("path") for error in errors if isinstance(error, Mapping)]
    names = [path[0] for path in paths if isinstance(path, list) and path and isinstance(path[0], str)]
    return next((f" at {name}" for name in names if FIELD.fullmatch(name)), "")


def _retry_after_s(content: Mapping[str, object]) -> int:
    extensions = content.get("extensions")
    try:
        cost = parse(Cost, extensions.get("cost") if isinstance(extensions, Mapping) else None)
    except PayloadRefused:
        return RETRY_AFTER_S
    missing = cost.requested - cost.throttle.currently_available
    return min(max(math.ceil(missing / cost.throttle.restore_rate), 1), RETRY_AFTER_S_MAX)
