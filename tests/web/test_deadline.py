"""A caller that names its time gets an answer within it, or is told what is not known."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from synchub.errors import InvalidRequest
from synchub.web.deadline import HEADER, Effect, in_time, time_given_ms, usable_ms
from synchub.web.problems import problems
from tests.support.hub import running_hub
from tests.support.stock_face import open_face
from tests.support.wait import eventually

if TYPE_CHECKING:
    from typing import Any

    from tests.conftest import StartValkey


class Slow:
    """A handler that never answers by itself."""

    def __init__(self) -> None:
        self.was_cancelled = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert request is not None
        try:
            await asyncio.Event().wait()
        finally:
            self.was_cancelled = True
        return web.Response()


async def asked(slow: Slow, effect: Effect, given: str) -> tuple[int, dict[str, Any], str | None]:
    app = web.Application(middlewares=[problems])
    app.router.add_post("/", in_time(effect)(slow.answer))
    async with TestClient(TestServer(app)) as client, client.post("/", headers={HEADER: given}) as answer:
        return answer.status, await answer.json(content_type=None), answer.headers.get("Retry-After")


@pytest.mark.parametrize(
    ("effect", "code"), [(Effect.READ, "store_unavailable"), (Effect.WRITE, "outcome_unknown")]
)
async def test_what_is_not_finished_in_time_says_what_may_have_happened(effect: Effect, code: str) -> None:
    slow = Slow()
    status, body, retry_after = await asked(slow, effect, "20")
    assert (status, body["code"], retry_after) == (503, code, "1")
    assert "20 ms" in body["detail"]
    assert slow.was_cancelled


@pytest.mark.parametrize("given", ["9", "60001", "0", "-20", "20.5", "soon", "", "1e3", "²", "0" * 20 + "20"])
async def test_a_time_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        time_given_ms([given])
    assert "10 to 60000" in refused.value.detail


async def test_a_bad_header_is_answered_before_anything_is_done() -> None:
    slow = Slow()
    status, body, _ = await asked(slow, Effect.WRITE, "soon")
    assert (status, body["code"]) == (422, "invalid_request")
    assert not slow.was_cancelled


def test_a_time_is_given_once() -> None:
    assert time_given_ms(["10"]) == 10
    assert time_given_ms(["60000"]) == 60_000
    assert time_given_ms([]) is None
    with pytest.raises(InvalidRequest):
        time_given_ms(["20", "20"])


def test_some_of_the_time_is_kept_for_the_answer() -> None:
    assert [usable_ms(given) for given in (10, 50, 60_000)] == [9, 45, 59_995]


async def test_a_handler_s_own_time_out_is_not_the_caller_s() -> None:
    @in_time(Effect.READ)
    async def fails(request: web.Request) -> web.StreamResponse:
        assert request is not None
        raise TimeoutError

    app = web.Application(middlewares=[problems])
    app.router.add_get("/", fails)
    async with TestClient(TestServer(app)) as client, client.get("/", headers={HEADER: "1000"}) as answer:
        assert answer.status == 500


async def test_a_question_to_a_frozen_store_is_answered_in_time(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    async with open_face(valkey.url) as face:
        key = await face.key()
        await face.report("TEE", 3)
        valkey.freeze()
        status, body = await face.ask("TEE", key, **{HEADER: "50"})
        assert (status, body["code"]) == (503, "store_unavailable")
        valkey.thaw()

        async def is_back() -> bool:
            return (await face.ask("TEE", key, **{HEADER: "5000"}))[0] == 200

        await eventually(is_back)


async def test_a_whole_hub_with_a_frozen_store_answers_in_time_too(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    async with running_hub(valkey.url) as site:
        headers = {"Authorization": f"Bearer {site.merchant.key}", HEADER: "50"}
        await site.stock("TEE")
        valkey.freeze()
        # The store's own time is two seconds; whoever waits for that is late.
        async with asyncio.timeout(1.5):
            heard = await site.ask("GET", "/v1/stock/TEE", headers=headers)
        valkey.thaw()
        assert (heard.status, heard.problem["code"]) == (503, "store_unavailable")
        assert "50 ms" in heard.problem["detail"]


async def test_who_has_time_is_answered_as_ever(redis_url: str) -> None:
    async with open_face(redis_url) as face:
        await face.report("TEE", 3)
        status, body = await face.ask("TEE", await face.key(), **{HEADER: "60000"})
        assert (status, body["available"]) == (200, 3)
