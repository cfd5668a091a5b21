"""Every refusal and fault becomes one problem document (RFC 9457), in one place."""

from __future__ import annotations

import traceback
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson
import sentry_sdk
from aiohttp import web

from synchub.errors import Fault, KeyUnknown, SynchubError
from synchub.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = get_logger()


def problem(code: str, status: int, detail: str, *, retry_after_s: int | None = None) -> web.Response:
    """Build one problem document; ``code`` is stable, ``detail`` is for a person."""
    document = {
        "type": f"https://synchub.dev/problems/{code}",
        "title": code.replace("_", " "),
        "status": status,
        "code": code,
        "detail": detail,
    }
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s is not None else {}
    if code == KeyUnknown.code:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(
        status=status,
        body=orjson.dumps(document),
        content_type="application/problem+json",
        headers=headers,
    )


def of_error(error: SynchubError) -> web.Response:
    """Render one of the hub's own errors."""
    retry_after_s = error.retry_after_s
    if retry_after_s is None and isinstance(error, Fault):
        retry_after_s = 1
    return problem(error.code, error.status, error.detail, retry_after_s=retry_after_s)


@web.middleware
async def problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer with a problem document whatever goes wrong; never with a stack trace."""
    try:
        return await handler(request)
    except SynchubError as error:
        return of_error(error)
    except web.HTTPException as error:
        return _of_http(error)
    except ConnectionError:
        raise
    except Exception as fault:  # noqa: BLE001 - the last door before the caller; reported, and answered plainly
        route = str(request.match_info.route.name)
        frames = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(fault.__traceback__)]
        # Not its message: a library's may repeat what the request carried.
        _log.error("request_failed", route=route, fault=type(fault).__name__, frames=frames)
        sentry_sdk.capture_exception(fault)
        return problem("internal", 500, "The hub has a fault; it has been reported.")


def _of_http(error: web.HTTPException) -> web.StreamResponse:
    if error.status < HTTPStatus.BAD_REQUEST:
        raise error
    codes = {404: "not_found", 413: "payload_too_large"}
    rendered = problem(
        codes.get(error.status, "invalid_request"), error.status, HTTPStatus(error.status).phrase + "."
    )
    if isinstance(error, web.HTTPMethodNotAllowed):
        rendered.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    return rendered
