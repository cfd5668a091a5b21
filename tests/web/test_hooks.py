"""What platforms, and whoever pretends to be one, are answered at the door."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest

from synchub import metrics
from synchub.keyspace import ingest_stream, quarantine
from tests.support.deliveries import body_of, level, signed
from tests.support.hub import Site, running_hub
from tests.support.merchants import Merchant, add_merchant
from tests.support.sockets import Caller, chunk, head
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartValkey
    from tests.support.hub import Heard

LIMIT: Final = 256 * 1024


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    """A hub that takes deliveries and applies none, so that what it stores can be looked at."""
    waits = {"header_timeout_ms": 300, "body_timeout_ms": 300, "keepalive_ms": 1000}
    async with running_hub(redis_url, works=False, server=waits) as served:
        yield served


def a_body(size: int = 0) -> bytes:
    body = body_of(level("TEE", "4"), sequence=1)
    return body + b" " * (size - len(body))


async def stored(site: Site) -> int:
    return int(await site.hub.client.xlen(ingest_stream()))


def of(problem: Heard) -> dict[str, Any]:
    return problem.problem


async def test_a_signed_delivery_is_stored_before_it_is_answered(site: Site) -> None:
    heard = await site.post(a_body())
    assert (heard.status, heard.body) == (202, b"")
    [(_, fields)] = await site.hub.client.xrange(ingest_stream())
    assert fields[b"b"] == a_body()
    assert fields[b"a"].decode() == site.merchant.account


async def test_only_the_headers_that_a_connector_needs_are_stored(site: Site) -> None:
    await site.post(
        a_body(), message_id="msg_a", headers={"Cookie": "mine", "Authorization": "Bearer secret"}
    )
    [(_, fields)] = await site.hub.client.xrange(ingest_stream())
    assert json.loads(fields[b"h"]) == {"webhook-id": "msg_a"}


# ---------------------------------------------------------------------------------------------- how large


async def test_the_limit_counts_the_bytes_of_the_body(site: Site) -> None:
    assert (await site.post(a_body(LIMIT))).status == 202
    assert of(await site.post(a_body(LIMIT + 1)))["code"] == "payload_too_large"
    assert await stored(site) == 1


async def test_the_hubs_own_limit_is_above_every_connectors(redis_url: str) -> None:
    async with running_hub(redis_url, works=False, ingress={"max_body_bytes": 2048}) as site:
        assert (await site.post(a_body(2048))).status == 202
        assert (await site.post(a_body(2049))).status == 413


async def test_the_limit_does_not_tell_which_accounts_exist(site: Site) -> None:
    for size in (LIMIT, LIMIT + 1):
        known = await site.ask("POST", site.merchant.hook, data=a_body(size))
        unknown = await site.ask("POST", "/hooks/nobody", data=a_body(size))
        assert (known.status, known.body) == (unknown.status, unknown.body)


async def test_a_body_sent_in_chunks_is_counted_too(site: Site) -> None:
    async with Caller(site.port) as caller:
        caller.send(head("POST", site.merchant.hook, {"Transfer-Encoding": "chunked"}))
        for _ in range(LIMIT // 65_536 + 1):
            caller.send(chunk(b"x" * 65_536))
        assert await caller.status() == 413
    assert await stored(site) == 0


async def test_a_chunked_delivery_within_the_limit_is_taken(site: Site) -> None:
    body = a_body(5000)
    async with Caller(site.port) as caller:
        headers = {**signed(site.merchant, body), "Transfer-Encoding": "chunked"}
        caller.send(head("POST", site.merchant.hook, headers))
        for start in range(0, len(body), 700):
            caller.send(chunk(body[start : start + 700]))
        caller.send(chunk(b""))
        assert await caller.status() == 202
    assert await stored(site) == 1


async def test_a_length_that_promises_too_much_is_refused_before_it_comes(site: Site) -> None:
    async with Caller(site.port) as caller:
        caller.send(head("POST", site.merchant.hook, {"Content-Length": str(10**12)}))
        caller.send(b"x" * (LIMIT + 1))
        assert await caller.status() == 413


async def test_a_length_and_chunks_together_are_refused(site: Site) -> None:
    async with Caller(site.port) as caller:
        both = {"Content-Length": "5", "Transfer-Encoding": "chunked"}
        caller.send(head("POST", site.merchant.hook, both) + chunk(b"x" * 9) + chunk(b""))
        assert await caller.status() == 400
    assert await stored(site) == 0


async def test_a_body_shorter_than_its_length_is_never_taken(site: Site) -> None:
    body = a_body()
    async with Caller(site.port) as caller:
        headers = {**signed(site.merchant, body), "Content-Length": str(len(body) + 10)}
        caller.send(head("POST", site.merchant.hook, headers) + body)
        assert await caller.status() == 408
    assert await stored(site) == 0


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity", "gzip, gzip"])
async def test_an_encoded_body_is_refused_unread(site: Site, encoding: str) -> None:
    heard = await site.post(a_body(), headers={"Content-Encoding": encoding})
    assert heard.status == 415
    assert await stored(site) == 0


# ----------------------------------------------------------------------------------------------- how slow


async def test_a_head_that_does_not_end_is_cut_off(site: Site) -> None:
    before = metrics.header_timeouts._value.get()
    async with Caller(site.port) as caller:
        caller.send(b"POST /hooks/x HTTP/1.1\r\nHost: local")
        assert await caller.is_closed()
    assert metrics.header_timeouts._value.get() == before + 1


async def test_a_head_that_trickles_is_cut_off_too(site: Site) -> None:
    async with Caller(site.port) as caller:
        caller.send(b"POST /hooks/x HTTP/1.1\r\n")
        trickle = asyncio.create_task(_trickle(caller))
        assert await caller.is_closed()
        trickle.cancel()


async def test_a_second_half_sent_head_on_a_kept_connection_is_cut_off(site: Site) -> None:
    async with Caller(site.port) as caller:
        caller.send(head("GET", "/livez", {}))
        assert await caller.status() == 200
        assert await caller.read_exactly(len(b"ok\n")) == b"ok\n"
        caller.send(b"POST /hooks/x HTTP/1.1\r\nHost: local")
        assert await caller.is_closed()


async def test_half_sent_heads_do_not_hold_up_others(site: Site) -> None:
    async with AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(Caller(site.port)) for _ in range(200)]
        for caller in callers:
            caller.send(b"POST /hooks/x HTTP/1.1\r\n")
        assert (await site.post(a_body())).status == 202
        assert all(await asyncio.gather(*(caller.is_closed() for caller in callers)))


async def test_a_body_that_does_not_end_is_answered_408(site: Site) -> None:
    async with Caller(site.port) as caller:
        caller.send(head("POST", site.merchant.hook, {"Content-Length": "100"}) + b"{")
        assert await caller.status() == 408


async def _trickle(caller: Caller) -> None:
    while True:
        caller.send(b"X-More: a\r\n")
        await asyncio.sleep(0.02)


# --------------------------------------------------------------------------------------------- from whom


async def test_an_unknown_account_and_a_wrong_signature_look_the_same(site: Site) -> None:
    stranger = Merchant(name="none", account="nobody", secret="whsec_" + "A" * 32, key="")
    impostor = Merchant(name="none", account=site.merchant.account, secret=stranger.secret, key="")
    unknown = await site.post(a_body(), merchant=stranger)
    forged = await site.post(a_body(), merchant=impostor)
    unsigned = await site.ask("POST", site.merchant.hook, data=a_body())
    assert unknown.status == forged.status == unsigned.status == 401
    assert unknown.body == forged.body == unsigned.body
    assert shape(unknown) == shape(forged) == shape(unsigned)
    assert await stored(site) == 0


async def test_an_unknown_account_takes_as_long_as_a_wrong_signature(site: Site) -> None:
    stranger = Merchant(name="none", account="nobody", secret="whsec_" + "A" * 32, key="")
    impostor = Merchant(name="none", account=site.merchant.account, secret=stranger.secret, key="")
    body = a_body(LIMIT)
    # The best of several: load on the machine only ever adds.
    fastest = {
        one.account: min([await seconds(site, body, one) for _ in range(15)]) for one in (stranger, impostor)
    }
    assert fastest["nobody"] > 0.4 * fastest[site.merchant.account], fastest


@pytest.mark.parametrize("age_s", [301, -301, 7200, 76 * 3600, 10**9])
async def test_a_delivery_signed_at_another_time_is_refused(site: Site, age_s: int) -> None:
    assert of(await site.post(a_body(), age_s=age_s))["code"] == "delivery_stale"
    assert await stored(site) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-signature", "v1,"),
        ("webhook-signature", "v1," + "A" * 5000),
        ("webhook-signature", "\u00e4"),
        ("webhook-timestamp", "nan"),
        ("webhook-timestamp", "9" * 40),
        ("webhook-timestamp", "-1"),
        ("webhook-id", "msg.1"),
        ("webhook-id", "x" * 300),
    ],
)
async def test_malformed_signature_headers_are_the_same_refusal(site: Site, name: str, value: str) -> None:
    assert of(await site.post(a_body(), headers={name: value}))["code"] == "signature_refused"


async def test_every_flipped_bit_of_a_body_is_refused(site: Site) -> None:
    body = a_body()
    headers = signed(site.merchant, body)
    for place in range(0, len(body), 7):
        flipped = bytes([*body[:place], body[place] ^ 1, *body[place + 1 :]])
        heard = await site.ask("POST", site.merchant.hook, data=flipped, headers=headers)
        assert heard.status == 401
    assert await stored(site) == 0


@pytest.mark.parametrize("account", ["%00", "%F0%9F%98%80", "a" * 3000, "..", "%7Bingest%7D:stream", "A%20B"])
async def test_odd_account_names_are_nobody(site: Site, account: str) -> None:
    heard = await site.ask("POST", f"/hooks/{account}", data=a_body())
    assert heard.status in {401, 404}, heard


# ------------------------------------------------------------------------------------ when the store fails


async def test_a_store_that_is_away_is_answered_503_and_when_to_come_again(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    async with running_hub(valkey.url, redis={"command_timeout_ms": 300, "connect_timeout_ms": 300}) as site:
        assert (await site.post(a_body())).status == 202
        valkey.kill()
        heard = await site.post(a_body(), message_id="while-away")
        assert heard.status == 503
        assert of(heard)["code"] in {"store_unavailable", "outcome_unknown"}
        assert int(heard.headers["Retry-After"]) >= 1
        assert (await site.post(b"{}", headers={"webhook-signature": "v1,AAAA"})).status == 401
        valkey.start()
        await eventually(lambda: accepted(site), within_s=5, what="an accepted delivery")
        await site.drained()


async def test_a_store_that_hangs_is_an_unknown_outcome(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    async with running_hub(valkey.url, redis={"command_timeout_ms": 300}) as site:
        assert (await site.post(a_body())).status == 202
        valkey.freeze()
        heard = await site.post(a_body(), message_id="while-frozen")
        assert (heard.status, of(heard)["code"]) == (503, "outcome_unknown")
        assert int(heard.headers["Retry-After"]) >= 1
        valkey.thaw()
        await eventually(lambda: accepted(site), within_s=5, what="an accepted delivery")


async def test_a_full_ingest_stream_is_answered_503_until_it_is_worked_off(redis_url: str) -> None:
    async with running_hub(redis_url, works=False, ingress={"stream_max": 100}) as site:
        heard = await fill(site)
        assert (heard.status, of(heard)["code"]) == (503, "store_unavailable")
        assert int(heard.headers["Retry-After"]) >= 1
        kept = await stored(site)
        assert 100 <= kept < 2000
        await site.hub.client.xtrim(ingest_stream(), maxlen=0)
        await eventually(lambda: accepted(site), what="an accepted delivery")


async def accepted(site: Site) -> bool:
    return (await site.post(a_body())).status == 202


async def fill(site: Site) -> Heard:
    for _ in range(40):
        answers = await asyncio.gather(*(site.post(a_body()) for _ in range(50)))
        refused = [heard for heard in answers if heard.status != 202]
        if refused:
            return refused[0]
    pytest.fail("the stream never was full")


# ---------------------------------------------------------------------------------------- signed nonsense


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"type": "order.paid"}', b"x" * 1000]
)
async def test_what_is_signed_and_not_understood_is_accepted_and_quarantined(
    redis_url: str, body: bytes
) -> None:
    async with running_hub(redis_url) as site:
        assert (await site.post(body)).status == 202
        await site.drained()
        [(_, fields)] = await site.hub.client.xrange(quarantine())
        assert fields[b"b"] == body
        assert fields[b"reason"]


# ------------------------------------------------------------------------------------------ other requests


async def test_a_get_is_greeted_without_saying_who_exists(site: Site) -> None:
    known = await site.ask("GET", site.merchant.hook)
    unknown = await site.ask("GET", "/hooks/nobody")
    assert known.status == unknown.status == 200
    assert known.body == unknown.body


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_a_problem_that_says_which_are_allowed(site: Site, method: str) -> None:
    heard = await site.ask(method, site.merchant.hook)
    assert of(heard)["status"] == 405
    assert "POST" in heard.headers["Allow"]


@pytest.mark.parametrize(
    "path", ["/", "/hooks", "/hooks/", "/hooks/a/b", "/v1", "/v1/nothing", "/.env", "//"]
)
async def test_unknown_routes_are_a_problem_document(site: Site, path: str) -> None:
    assert of(await site.ask("GET", path))["code"] == "not_found"


@pytest.mark.parametrize(
    "raw",
    [
        b"BREW / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_refused(site: Site, raw: bytes) -> None:
    async with Caller(site.port) as caller:
        caller.send(raw)
        assert await caller.status() in {0, 400, 505}


async def test_a_head_request_for_a_hook_is_answered(site: Site) -> None:
    heard = await site.ask("HEAD", site.merchant.hook)
    assert heard.status in {200, 405}


async def test_two_merchants_deliveries_do_not_open_each_others_doors(site: Site, redis_url: str) -> None:
    other = await add_merchant(redis_url)
    await eventually(lambda: site.hub.directory.find_account(other.account) is not None)
    body = a_body()
    heard = await site.ask("POST", other.hook, data=body, headers=signed(site.merchant, body))
    assert of(heard)["code"] == "signature_refused"


def shape(heard: Heard) -> dict[str, str]:
    return {name: value for name, value in heard.headers.items() if name != "Date"}


async def seconds(site: Site, body: bytes, merchant: Merchant) -> float:
    started = time.perf_counter()
    await site.post(body, merchant=merchant)
    return time.perf_counter() - started
