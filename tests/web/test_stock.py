"""What an agent hears about one SKU, and who hears nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from synchub.accounts import operations as accounts
from synchub.accounts.directory import Directory
from synchub.accounts.model import NewAccount
from synchub.agents import operations as agents
from synchub.agents.operations import NewAgent
from synchub.connector_kit.events import Level, Scale, Version
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import now_ms
from synchub.stock import operations as stock
from synchub.stock.rules import Circumstances, rows_of
from synchub.web.keys import HUB
from synchub.web.problems import problems
from synchub.web.stock import stock_app
from tests.support.registry import connectors, open_registry
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.accounts.operations import Registry
    from synchub.hub import Hub


class Face:
    """The stock application over a real store, with merchant ``acme`` and its account ``main``."""

    def __init__(self, registry: Registry, directory: Directory, client: TestClient[Any, Any]) -> None:
        self.registry = registry
        self.directory = directory
        self.client = client

    async def key(self, **wanted: Any) -> str:
        issued = await agents.add_agent(self.registry.redis, NewAgent(**({"merchant": "acme"} | wanted)))
        await eventually(lambda: self.directory.find_agent(issued.key) is not None)
        return issued.key

    async def report(self, sku: str, quantity: int) -> None:
        event = Level(
            item=sku, location="WH1", quantity=quantity, version=Version(scale=Scale.SEQUENCE, number=1)
        )
        about = Circumstances(account="main", at_ms=now_ms(), is_read=False, op=sku, cause="test")
        keys = MerchantKeys("acme")
        await stock.apply(self.registry.redis, keys, rows_of([event], about), settings=self.registry.settings)

    async def ask(
        self, path: str, key: str | None = None, scheme: str = "Bearer"
    ) -> tuple[int, dict[str, Any]]:
        headers = {} if key is None else {"Authorization": f"{scheme} {key}"}
        async with self.client.get(URL(f"/v1/stock/{path}", encoded=True), headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)


@pytest.fixture
async def face(redis_url: str) -> AsyncIterator[Face]:
    async with open_registry(redis_url) as registry:
        await accounts.add_account(registry, NewAccount(platform="standard", merchant="acme", name="main"))
        directory = Directory(registry.settings, registry.vault, connectors())
        hub = cast(
            "Hub",
            SimpleNamespace(settings=registry.settings, redis=registry.redis, directory=directory),
        )
        app = web.Application(middlewares=[problems])
        app[HUB] = hub
        app.add_subapp("/v1/stock/", stock_app(hub))
        async with directory.following(), TestClient(TestServer(app)) as client:
            yield Face(registry, directory, client)


async def test_an_agent_is_told_state_number_age_and_position(face: Face) -> None:
    await face.report("TEE", 12)
    status, body = await face.ask("TEE", await face.key())
    assert status == 200
    assert (body["sku"], body["state"], body["available"], body["source"]) == ("TEE", "IN_STOCK", 12, "main")
    assert 0 <= body["age_ms"] < 5000
    assert body["seq"] == 1
    assert len(body["epoch"]) >= 11


async def test_an_unknown_sku_is_an_answer(face: Face) -> None:
    status, body = await face.ask("NOPE", await face.key())
    assert (status, body["state"], body["available"]) == (200, "UNKNOWN_SKU", 0)


@pytest.mark.parametrize("sku", ["A/B", "100%", "a?b", "Größe 42", "#1", "a+b", "..", "%2F"])
async def test_a_sku_may_hold_what_a_url_may_not(face: Face, sku: str) -> None:
    await face.report(sku, 3)
    path = "".join(f"%{byte:02X}" for byte in sku.encode())
    status, body = await face.ask(path, await face.key())
    assert (status, body.get("sku"), body.get("available")) == (200, sku, 3)


async def test_nobody_is_told_anything_without_a_known_key(face: Face) -> None:
    key = await face.key()
    attempts = [
        (None, "Bearer"),
        ("", "Bearer"),
        (key + "x", "Bearer"),
        (key, "Basic"),
        ("sak_" + "A" * 43, "Bearer"),
    ]
    for presented, scheme in attempts:
        status, body = await face.ask("TEE", presented, scheme)
        assert (status, body["code"]) == (401, "key_unknown")
        assert key not in str(body)


async def test_a_key_without_the_scope_is_not_allowed(face: Face) -> None:
    status, body = await face.ask("TEE", await face.key(scopes=["feed:read"]))
    assert (status, body["code"]) == (403, "not_allowed")
    assert "stock:read" in body["detail"]


async def test_the_merchant_comes_from_the_key(face: Face) -> None:
    await face.report("TEE", 12)
    status, body = await face.ask("TEE?merchant=acme", await face.key(merchant="other"))
    assert (status, body["state"]) == (200, "UNKNOWN_SKU")


async def test_a_key_for_channels_may_ask_for_those_only(face: Face) -> None:
    bound, free = await face.key(channels=["chat"]), await face.key()
    assert (await face.ask("TEE?channel=chat", bound))[0] == 200
    assert (await face.ask("TEE", bound))[0] == 200
    assert (await face.ask("TEE?channel=shop", bound))[0] == 403
    assert (await face.ask("TEE?channel=shop", free))[0] == 200


@pytest.mark.parametrize(
    "query", ["quantity=0", "quantity=-1", "quantity=x", "quantity=1.5", "channel=A%20b"]
)
async def test_a_question_that_makes_no_sense_is_refused(face: Face, query: str) -> None:
    status, body = await face.ask(f"TEE?{query}", await face.key())
    assert (status, body["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("sku", ["%20a", "a%1Fb", "a%E2%80%AEb", "x" * 129])
async def test_a_deceptive_sku_is_refused(face: Face, sku: str) -> None:
    status, body = await face.ask(sku, await face.key())
    assert (status, body["code"]) == (422, "invalid_request")
