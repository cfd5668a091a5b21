"""The measuring of holds is itself measured: what agents send, what the peer says, what a store keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis
from standardwebhooks import Webhook

from benchmarks import postgres
from benchmarks.asking import Asking, prepare, unexpected_of
from benchmarks.children import ChildFailedError
from benchmarks.holds import asking_of
from benchmarks.http1 import connect
from benchmarks.hub import Receiver
from benchmarks.loops import ClosedLoop
from benchmarks.observed import bytes_of, kept_bytes, script_time
from benchmarks.prepared import headers_of
from tests.support.small_hub import SmallHub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET = "whsec_YmVuY2htYXJrcyBiZW5jaG1hcmtzIGJlbmNo"


def asking(**changes: Any) -> Asking:
    told: dict[str, Any] = {
        "url": "http://127.0.0.1:1",
        "key": "sak_x",
        "kind": "hold",
        "sku": "TEE",
        "run": "r",
        "count": 5,
        "connections": 2,
    }
    return Asking(**(told | changes))


def parts(request: bytes) -> tuple[str, dict[str, str], str]:
    head, _, body = request.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), body


def test_each_hold_has_a_key_of_its_own_and_a_whole_body() -> None:
    requests = [*prepare(asking(), 5, part="w"), *prepare(asking(), 5, part="r")]
    keys = set()
    for request in requests:
        first, headers, body = parts(request)
        assert first == "POST /v1/reservations HTTP/1.1"
        assert headers["Authorization"] == "Bearer sak_x"
        assert int(headers["Content-Length"]) == len(body)
        assert json.loads(body)["lines"] == [{"sku": "TEE", "quantity": 1}]
        keys.add(headers["Idempotency-Key"])
    assert len(keys) == 10


def test_a_question_has_no_body() -> None:
    first, _, body = parts(prepare(asking(kind="ask"), 1, part="r")[0])
    assert (first, body) == ("GET /v1/stock/TEE HTTP/1.1", "")


def test_a_refusal_among_the_holds_is_noticed() -> None:
    assert unexpected_of("hold", [201, 202, 201]) == []
    assert unexpected_of("hold", [201, 200, 429]) == [200, 429]
    assert unexpected_of("ask", [200, 0]) == [0]


@pytest.mark.parametrize(("units", "unexpected"), [(50, []), (49, [200])])
async def test_agents_are_granted_what_is_there(units: int, unexpected: list[int]) -> None:
    async with SmallHub(units=units).running() as hub:
        plan = asking_of(Receiver(hook_url=f"{hub.url}/hooks/any", secret="", pids={}), "hold", 50)
        loop = ClosedLoop(prepare(replace(plan, connections=8), 50, part="r"))
        connections = await connect("127.0.0.1", int(hub.url.rpartition(":")[2]), 8, loop.answered)
        await loop.run(connections)
        for connection in connections:
            connection.close()
        assert hub.free == 0
    assert unexpected_of("hold", loop.statuses) == unexpected


def test_headers_of_a_delivery_are_accepted_by_others() -> None:
    body = b'{"type":"stock.changed"}'
    assert Webhook(SECRET).verify(body, headers_of(SECRET, "m1", body))


def test_the_peers_own_words_are_read() -> None:
    assert postgres.transactions_per_second("a\ntps = 1475.906858 (without initial)\n") == 1475.906858
    assert postgres.latencies_ns(["0 1 30151 0 1795255200 5", "7 2 99 0 1795255200 6"]) == [
        30_151_000,
        99_000,
    ]


def test_a_peer_that_says_nothing_is_no_peer() -> None:
    with pytest.raises(ChildFailedError, match="did not say"):
        postgres.transactions_per_second("number of failed transactions: 0")


class TestObserved:
    @pytest.fixture
    async def observer(self, redis_url: str) -> AsyncIterator[Any]:
        client: Redis = Redis.from_url(redis_url)
        yield client
        await client.aclose()

    async def test_time_in_scripts_is_the_servers_own(self, observer: Any) -> None:
        before = await script_time(observer)
        await observer.eval("return 1", 0)
        after = await script_time(observer)
        assert after.calls == before.calls + 1
        assert after.us > before.us

    async def test_streams_are_not_counted_as_kept(self, observer: Any) -> None:
        before = await kept_bytes(observer)
        for number in range(500):
            await observer.xadd("log", {"text": "x" * 1000}, id=f"{number + 1}-0")
        grown = await kept_bytes(observer) - before
        await observer.set("kept", "x" * 500_000)
        assert grown < 100_000
        assert await kept_bytes(observer) - before > 400_000

    async def test_the_average_of_some_keys_is_told(self, observer: Any) -> None:
        assert await bytes_of(observer, "once:*") == 0
        await observer.set("once:1", "x" * 1000)
        assert 1000 < await bytes_of(observer, "once:*") < 1500
