"""What emulated APIs have in common: pages, tokens that expire, limits, and a count of calls."""

from __future__ import annotations

import secrets
import time
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Sequence

_Row = TypeVar("_Row")

TOKENS_MAX: Final = 10_000
"""Latest tokens that are remembered; older ones have expired."""

KINDS_MAX: Final = 100
"""Kinds of calls that are counted by name; further ones are counted together."""

_KIND: Final = web.RequestKey("emulator.kind", str)
_RESULT: Final = web.RequestKey("emulator.result", str)
_OTHERS: Final = "others"


def page_of(rows: Sequence[_Row], start: int, limit: int) -> tuple[list[_Row], int | None]:
    """Return a page of rows, and where the next one begins; ``None`` after the last."""
    end = start + max(1, limit)
    return list(rows[start:end]), end if end < len(rows) else None


class Tokens:
    """Opaque positions that a platform hands out and forgets after a while."""

    def __init__(self, *, live_s: float) -> None:
        self._live_s = live_s
        self._known: OrderedDict[str, tuple[float, Any]] = OrderedDict()

    def issue(self, position: object) -> str:
        """Return a new token for a position."""
        token = secrets.token_urlsafe(12)
        self._known[token] = (time.monotonic() + self._live_s, position)
        while len(self._known) > TOKENS_MAX:
            self._known.popitem(last=False)
        return token

    def read(self, token: str) -> Any:
        """Return the position of a token; ``None``: expired, or never handed out."""
        expires_s, position = self._known.get(token, (0.0, None))
        return position if time.monotonic() < expires_s else None


class Bucket:
    """A platform's limit: so much at once, restored steadily."""

    def __init__(self, *, capacity: float, restored_per_s: float) -> None:
        self.capacity = capacity
        self.restored_per_s = restored_per_s
        self._held = capacity
        self._at_s = time.monotonic()

    @property
    def remaining(self) -> float:
        """What is left now."""
        now_s = time.monotonic()
        self._held = min(self.capacity, self._held + (now_s - self._at_s) * self.restored_per_s)
        self._at_s = now_s
        return self._held

    def take(self, cost: float = 1.0) -> float:
        """Take the cost and return 0, or take nothing and return the seconds until there is enough."""
        missing = cost - self.remaining
        if missing > 0:
            return missing / self.restored_per_s
        self._held -= cost
        return 0.0


class CallCounts:
    """How many calls an emulated API was asked for, by kind and by what came of them."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def note(self, request: web.Request, status: int) -> None:
        """Count one call; a status of 0 is one that was not answered."""
        kind = request.get(_KIND) or f"{request.method} {request.path}"
        if kind not in self._counts and len(self._counts) >= KINDS_MAX:
            kind = _OTHERS
        self._counts.setdefault(kind, Counter())[request.get(_RESULT) or _result(status)] += 1

    def told(self) -> dict[str, Any]:
        """Return the counts for ``/_emulator/calls``."""
        total = sum(sum(results.values()) for results in self._counts.values())
        return {"total": total, "calls": {kind: dict(results) for kind, results in self._counts.items()}}


def name_call(request: web.Request, kind: str, result: str = "") -> None:
    """Say under what a call is counted, where its path does not tell; likewise what came of it."""
    request[_KIND] = kind
    if result:
        request[_RESULT] = result


def _result(status: int) -> str:
    if status == 429:  # noqa: PLR2004 - too many requests
        return "throttled"
    if status == 0:
        return "unanswered"
    return {2: "ok", 3: "redirected", 4: "refused"}.get(status // 100, "failed")
