"""How an answer that is no problem is written."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web
from multidict import CIMultiDict

if TYPE_CHECKING:
    from collections.abc import Mapping

# What is told belongs to one key, and to this moment.
_HEADERS: Final = CIMultiDict({"Content-Type": "application/json", "Cache-Control": "no-store"})


def answer_json(
    body: Mapping[str, Any], *, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Build an answer that nobody on the way keeps."""
    told = _HEADERS.copy()
    if headers:
        told.update(headers)
    return web.Response(status=status, body=orjson.dumps(body), headers=told)
