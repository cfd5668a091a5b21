"""Request bodies: bounded, read strictly, and refused with a sentence that says what to change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from synchub.connector_kit.payloads import identifier, read_json
from synchub.errors import BodyTooSlow, EncodingRefused, InvalidRequest, PayloadRefused, PayloadTooLarge
from synchub.web.keys import HUB

if TYPE_CHECKING:
    from aiohttp import web

BODY_MAX_BYTES: Final = 65_536
"""Largest body of an agent's request."""
_NAME_MAX: Final = 80
_DEPTH_PLAIN: Final = 8


class Body(BaseModel):
    """Base of all request bodies: nothing is converted, and a field that is not read is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


_BodyT = TypeVar("_BodyT", bound=Body)
_Row = TypeVar("_Row")
Rows = Annotated[tuple[_Row, ...], Field(strict=False)]
"""A JSON array as a tuple."""


async def read_body(request: web.Request, model: type[_BodyT]) -> _BodyT:
    """Return the request's body as an instance of the model.

    Raises:
        PayloadTooLarge, EncodingRefused, BodyTooSlow: as :func:`read_bytes` says.
        InvalidRequest: not JSON of the documented form; names the first field that does not fit.
    """
    timeout_ms = request.app[HUB].settings.server.body_timeout_ms
    body = await read_bytes(request, BODY_MAX_BYTES, timeout_ms=timeout_ms)
    try:
        return model.model_validate(_parsed(body))
    except PayloadRefused as refusal:
        raise InvalidRequest(refusal.detail) from None
    except ValidationError as problem:
        raise InvalidRequest(_sentence(problem)) from None


async def read_bytes(request: web.Request, limit: int, *, timeout_ms: int) -> bytes:
    """Return at most ``limit`` bytes, counting them and believing no header.

    Raises:
        EncodingRefused: there is a ``Content-Encoding``.
        PayloadTooLarge: there are more.
        BodyTooSlow: they did not arrive in time.
    """
    if "Content-Encoding" in request.headers:
        msg = "Send the body as it is, without a Content-Encoding."
        raise EncodingRefused(msg)
    if request.content.is_eof():  # it came together with its head, as nearly all do
        return _within(limit, request.content.read_nowait())
    parts = bytearray()
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            async for part in request.content.iter_any():
                parts += part
                _within(limit, parts)
    except TimeoutError:
        msg = "The body did not arrive in time."
        raise BodyTooSlow(msg) from None
    return bytes(parts)


def sku_of(text: str) -> str:
    """Return a SKU in the form in which it is kept.

    Raises:
        InvalidRequest: no SKU can be called so.
    """
    try:
        return identifier(text, "The SKU")
    except PayloadRefused as refusal:
        raise InvalidRequest(refusal.detail) from None


_BytesT = TypeVar("_BytesT", bytes, bytearray)


def _parsed(body: bytes) -> JsonValue:
    """Read as strictly as :func:`read_json` does, and quickly what cannot be misread.

    Where there are as many colons as fields no name was given twice; without fractions nothing is inexact.
    """
    try:
        value: JsonValue = orjson.loads(body)
    except orjson.JSONDecodeError:
        return read_json(body)  # which says what is wrong
    return value if isinstance(value, dict) and _fields_in(value) == body.count(b":") else read_json(body)


def _fields_in(value: JsonValue, depth: int = 0) -> int:
    """Count the fields of all objects in it; -1 where it has to be read more carefully."""
    if isinstance(value, float) or depth > _DEPTH_PLAIN:
        return -1
    if not isinstance(value, dict | list):
        return 0
    parts = value.values() if isinstance(value, dict) else value
    fields = len(value) if isinstance(value, dict) else 0
    for part in parts:
        inner = _fields_in(part, depth + 1)
        if inner < 0:
            return -1
        fields += inner
    return fields


def _within(limit: int, body: _BytesT) -> _BytesT:
    if len(body) > limit:
        msg = f"The body is larger than {limit} bytes."
        raise PayloadTooLarge(msg)
    return body


def _sentence(problem: ValidationError) -> str:
    """Say which field does not fit and what would, without repeating its content."""
    first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:_NAME_MAX] or "the body"
    place = "".join(char if char.isascii() and char.isprintable() else "?" for char in place)
    if first["type"] == "missing":
        return f"{place} is missing."
    if first["type"] == "extra_forbidden":
        return f"{place} is not a field of this request; leave it out."
    return f"{place}: {first['msg'].lower()}."
