"""Access tokens that are renewed with the refresh token.

The surprising fact: an access token ends after 28 days, a refresh token never
(https://developer.shiphero.com/getting-started/). A client cannot store what it gets, so each process keeps
its own tokens in memory and renews them when ShipHero refuses one.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from yarl import URL

from connectors.shiphero.payloads import Renewed
from synchub.connector_kit.payloads import parse, read_json
from synchub.errors import PayloadRefused, UpstreamFailed

if TYPE_CHECKING:
    from synchub.connector_kit.contract import Access

API_URL: Final = "https://public-api.shiphero.com/graphql"
REFRESH_PATH: Final = "/auth/refresh"

RENEWED_EACH_S: Final = 60.0
"""A token that is refused sooner after it was renewed is refused for another reason."""

KEPT_MAX: Final = 10_000
"""Tokens that are kept; the one that was renewed first is forgotten, and renewed when it is needed."""


@dataclass(frozen=True, slots=True)
class _Kept:
    token: str = field(repr=False)
    at_s: float


_kept: Final[OrderedDict[str, _Kept]] = OrderedDict()


def api_url(access: Access) -> str:
    """Return where GraphQL is."""
    return access.credentials.get("api_url") or API_URL


def current(access: Access) -> str:
    """Return the token to use: the renewed one, otherwise the one that was given; empty if there is none."""
    kept = _kept.get(_key(access))
    return kept.token if kept else access.credentials.get("access_token", "")


async def renew(access: Access, refused: str) -> str:
    """Return another token instead of a refused one; empty where there is none to be had.

    Raises:
        UpstreamThrottled, UpstreamRefused: ShipHero does not renew it now, or not at all.
        UpstreamFailed: no answer, or one that is not of the documented form.
    """
    refresh_token, key = access.credentials.get("refresh_token"), _key(access)
    if not refresh_token:
        return ""
    kept = _kept.get(key)
    if kept and kept.token != refused:
        return kept.token
    if kept and time.monotonic() - kept.at_s < RENEWED_EACH_S:
        return ""
    url = str(URL(api_url(access)).with_path(REFRESH_PATH))
    answer = await access.http.send("POST", url, json={"refresh_token": refresh_token})
    try:
        token = parse(Renewed, read_json(answer.body)).access_token
    except PayloadRefused as problem:
        msg = f"ShipHero's answer is not one of its API: {problem.detail}"
        raise UpstreamFailed(msg) from problem
    _kept[key] = _Kept(token, time.monotonic())
    _kept.move_to_end(key)
    while len(_kept) > KEPT_MAX:
        _kept.popitem(last=False)
    return token


def _key(access: Access) -> str:
    given = (access.credentials.get("refresh_token", ""), api_url(access))
    return hashlib.sha256("\x00".join(given).encode()).hexdigest()
