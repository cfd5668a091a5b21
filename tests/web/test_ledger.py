"""A merchant's ledger over HTTP."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from synchub.errors import KeyUnknown
from synchub.redis import CoalescingRedis
from synchub.settings import RedisSettings
from synchub.web.keys import HUB
from synchub.web.ledger import ledger_handlers
from synchub.web.problems import problems
from tests.support.archive import Ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from synchub.hub import Hub


class Desk:
    """A merchant who asks for the ledger."""

    def __init__(self, client: TestClient[web.Request, web.Application], ledger: Ledger) -> None:
        self.client = client
        self.ledger = ledger

    async def ask(self, query: str = "", *, merchant: str = "acme") -> tuple[int, dict[str, Any]]:
        async with self.client.get(f"/ledger{query}", headers={"X-Merchant": merchant}) as answer:
            return answer.status, await answer.json(content_type=None)

    async def told(self, query: str = "") -> dict[str, Any]:
        status, body = await self.ask(query)
        assert status == 200, body
        return body


@pytest.fixture
async def desk(redis_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    redis = CoalescingRedis(RedisSettings(url=redis_url))
    app = web.Application(middlewares=[problems])
    # Of a hub the handler uses the store alone.
    app[HUB] = cast("Hub", SimpleNamespace(redis=redis))
    app.add_routes(ledger_handlers(merchant_of))
    async with TestClient(TestServer(app)) as client:
        yield Desk(client, Ledger(redis=redis, folder=tmp_path))
    await redis.close()


def merchant_of(request: web.Request) -> str:
    """Believe a header, as no hub does."""
    if not request.headers["X-Merchant"]:
        raise KeyUnknown
    return request.headers["X-Merchant"]


async def test_entries_are_told_in_order_with_the_way_on(desk: Desk) -> None:
    await desk.ledger.write(5)
    body = await desk.told("?limit=3")
    assert (body["epoch"], body["head"], body["oldest"], body["next_after"]) == ("first", 5, 1, 3)
    assert [entry["seq"] for entry in body["entries"]] == [1, 2, 3]
    assert body["entries"][0] == {
        "seq": 1,
        "at_ms": 1_795_255_200_001,
        "sku": "TEE-1",
        "location": "WH1",
        "account": "wms",
        "item": "item-1",
        "field": "level",
        "from": "K0",
        "to": "K1",
        "version": f"{1:020d}",
        "cause": "delivery:1",
        "ats": 1,
    }
    rest = await desk.told("?limit=3&after=3")
    assert ([entry["seq"] for entry in rest["entries"]], rest["next_after"]) == ([4, 5], None)


async def test_one_sku_can_be_asked_for(desk: Desk) -> None:
    await desk.ledger.write(9)
    body = await desk.told("?sku=TEE-2")
    assert [entry["seq"] for entry in body["entries"]] == [2, 5, 8]


@pytest.mark.parametrize(
    "query", ["?limit=0", "?limit=1001", "?after=-1", "?after=x", "?after=" + "9" * 40, "?sku=", "?limit=²"]
)
async def test_a_question_that_makes_no_sense_is_refused(desk: Desk, query: str) -> None:
    status, body = await desk.ask(query)
    assert (status, body["code"]) == (422, "invalid_request")


async def test_each_merchant_sees_the_own_ledger_alone(desk: Desk) -> None:
    await desk.ledger.write(5)
    assert (await desk.ask(merchant="other"))[1]["entries"] == []
    assert (await desk.ask(merchant=""))[0] == 401
