from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from synchub.connector_kit.http import (
    DEFAULT_RETRY_AFTER_S,
    MAX_RETRY_AFTER_S,
    AiohttpPlatformHttp,
    HttpAnswer,
)
from synchub.errors import SynchubError, UpstreamFailed, UpstreamRefused, UpstreamThrottled

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def platform(answer: Answering) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/api?token=hush"))


async def call(answer: Answering, *, deadline_s: float = 5.0, max_answer_bytes: int = 1000) -> HttpAnswer:
    async with platform(answer) as url, aiohttp.ClientSession(trust_env=False) as session:
        http = AiohttpPlatformHttp(session, deadline_s=deadline_s, max_answer_bytes=max_answer_bytes)
        return await http.send("POST", url, headers={"X-Token": "hush"}, json={"a": 1})


def answering(status: int = 200, body: bytes = b"", headers: dict[str, str] | None = None) -> Answering:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return answer


async def test_an_answer_comes_whole_with_lower_case_headers() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert await request.json() == {"a": 1}
        assert request.headers["X-Token"] == "hush"
        return web.Response(status=201, body=b"done", headers={"X-Left": "7"})

    got = await call(answer)
    assert (got.status, got.body, got.headers["x-left"]) == (201, b"done", "7")


@pytest.mark.parametrize(
    ("status", "headers", "wait_s"),
    [
        (429, {"Retry-After": "7"}, 7),
        (429, {"Retry-After": "2.0"}, 2),
        (429, {"Retry-After": "0.1"}, 1),
        (429, {}, DEFAULT_RETRY_AFTER_S),
        (429, {"Retry-After": "soon"}, DEFAULT_RETRY_AFTER_S),
        (429, {"Retry-After": "-1"}, DEFAULT_RETRY_AFTER_S),
        (429, {"Retry-After": "nan"}, DEFAULT_RETRY_AFTER_S),
        (429, {"Retry-After": "99999999"}, MAX_RETRY_AFTER_S),
        (503, {"Retry-After": "3"}, 3),
        (
            429,
            {"Retry-After": "Sat, 21 Nov 2026 10:00:09 GMT", "Date": "Sat, 21 Nov 2026 10:00:00 GMT"},
            9,
        ),
    ],
)
async def test_too_many_calls_say_how_long_to_wait(status: int, headers: dict[str, str], wait_s: int) -> None:
    with pytest.raises(UpstreamThrottled) as failure:
        await call(answering(status, headers=headers))
    assert failure.value.retry_after_s == wait_s


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, UpstreamRefused),
        (401, UpstreamRefused),
        (404, UpstreamRefused),
        (500, UpstreamFailed),
        (503, UpstreamFailed),
        (304, UpstreamFailed),
    ],
)
async def test_a_status_is_a_refusal_or_a_failure(status: int, kind: type[SynchubError]) -> None:
    with pytest.raises(kind):
        await call(answering(status))


async def test_a_redirect_is_not_followed() -> None:
    called: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        called.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    with pytest.raises(UpstreamFailed):
        await call(answer)
    assert called == ["/api"]


async def test_an_answer_beyond_the_limit_is_not_read_on() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        endless = web.StreamResponse()
        endless.enable_compression()
        await endless.prepare(request)
        while True:
            await endless.write(b"0" * 10_000)

    with pytest.raises(UpstreamFailed, match="more than 1000 bytes"):
        await call(answer)


async def test_no_answer_in_time_is_a_failure() -> None:
    async def answer(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    with pytest.raises(UpstreamFailed, match="not answered in time"):
        await call(answer, deadline_s=0.05)


async def test_half_an_answer_is_a_failure() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        half = web.StreamResponse(headers={"Content-Length": "100"})
        await half.prepare(request)
        await half.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return half

    with pytest.raises(UpstreamFailed):
        await call(answer)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a?token=hush", "not a url/hush", "http://[hush", ""])
async def test_a_place_that_cannot_be_reached_is_a_failure(url: str) -> None:
    async with aiohttp.ClientSession(trust_env=False) as session:
        with pytest.raises(UpstreamFailed) as failure:
            await AiohttpPlatformHttp(session).send("GET", url)
    assert "hush" not in str(failure.value)


@pytest.mark.parametrize("status", [401, 429, 500])
async def test_a_failure_names_the_host_and_nothing_that_could_be_secret(status: int) -> None:
    with pytest.raises(SynchubError) as failure:
        await call(answering(status, b"hush"))
    assert "POST to 127.0.0.1" in failure.value.detail
    assert "hush" not in f"{failure.value!r} {failure.value.__cause__!r}"
