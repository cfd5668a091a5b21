"""What emulated APIs share: limits, tokens, pages, counted calls, and giving up on an address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from connectors.standard.emulator import StandardEmulator
from synchub.connector_kit import emulated_pages
from synchub.connector_kit.emulated_pages import Bucket, CallCounts, Tokens, name_call, page_of
from synchub.connector_kit.emulation import Options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

SECRET = "whsec_YSBzaWduaW5nIHNlY3JldCBmb3IgdGVzdHMgb25seS4="


def test_a_page_says_where_the_next_begins() -> None:
    assert page_of([1, 2, 3], 0, 2) == ([1, 2], 2)
    assert page_of([1, 2, 3], 2, 2) == ([3], None)
    assert page_of([1, 2], 0, 2) == ([1, 2], None)
    assert page_of([1, 2], 9, 2) == ([], None)
    assert page_of([1, 2], 0, 0) == ([1], 1)


def test_a_bucket_gives_what_it_has_and_says_when_there_is_more() -> None:
    bucket = Bucket(capacity=3, restored_per_s=0.001)
    assert bucket.take(2) == 0
    assert 900 < bucket.take(2) <= 1000
    assert bucket.take() == 0
    assert bucket.remaining < 0.1


def test_a_bucket_is_never_fuller_than_it_can_be() -> None:
    bucket = Bucket(capacity=3, restored_per_s=1_000_000)
    bucket.take(3)
    assert bucket.remaining <= 3


def test_a_token_is_known_while_it_lives() -> None:
    tokens = Tokens(live_s=60)
    assert tokens.read(tokens.issue({"after": 5})) == {"after": 5}
    assert tokens.read("another") is None
    expired = Tokens(live_s=0)
    assert expired.read(expired.issue(5)) is None


def test_the_oldest_tokens_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated_pages, "TOKENS_MAX", 2)
    tokens = Tokens(live_s=60)
    issued = [tokens.issue(number) for number in range(3)]
    assert [tokens.read(token) for token in issued] == [None, 1, 2]


def test_calls_are_counted_by_kind_and_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated_pages, "KINDS_MAX", 2)
    counts = CallCounts()
    for status in (200, 204, 301, 404, 429, 500, 0):
        counts.note(make_mocked_request("GET", "/a"), status)
    named = make_mocked_request("POST", "/graphql")
    name_call(named, "page", "throttled")
    counts.note(named, 200)
    for path in ("/b", "/c"):
        counts.note(make_mocked_request("GET", path), 200)
    told = counts.told()
    assert told["total"] == 10
    assert told["calls"] == {
        "GET /a": {"ok": 2, "redirected": 1, "refused": 1, "throttled": 1, "failed": 1, "unanswered": 1},
        "page": {"throttled": 1},
        "others": {"ok": 2},
    }


def answering(*statuses: int) -> Callable[[web.Request], Awaitable[web.Response]]:
    left = list(statuses)

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=left.pop(0) if len(left) > 1 else left[0])

    return answer


async def test_a_platform_gives_up_on_an_address_that_fails_too_often_in_a_row() -> None:
    app = web.Application()
    app.router.add_post("/hooks/acc_1", answering(500, 202, 500, 500, 202))
    async with TestServer(app) as hub:
        options = Options(
            hook_url=str(hub.make_url("/hooks/acc_1")),
            credentials={"signing_secret": SECRET},
            skus=1,
            rate=0,
            tries=1,
            paused=True,
            disable_after=2,
        )
        emulator = StandardEmulator(options)
        async with TestClient(TestServer(emulator.app())) as control:

            async def change(quantity: int) -> int:
                wish = {"sku": "TEE-0001", "location": "WH1", "quantity": quantity}
                status: int = (await (await control.post("/_emulator/change", json=wish)).json())["status"]
                return status

            assert [await change(quantity) for quantity in range(5)] == [500, 202, 500, 500, 0]
            assert emulator.sender.counts["disabled"] == 1
            emulator.restore_subscription()
            assert await change(6) == 202
