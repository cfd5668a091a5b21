"""The questions about stock on a real socket and store: merchant ``acme``, with an account ``main``."""

from __future__ import annotations

import contextlib
import itertools
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from synchub.accounts import operations as accounts
from synchub.accounts.directory import Directory
from synchub.accounts.model import NewAccount
from synchub.agents import operations as agents
from synchub.agents.operations import NewAgent
from synchub.availability.asking import Questions
from synchub.connector_kit.events import Catalogue, Level, Scale, Version
from synchub.decisions.operations import DecisionLog
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import now_ms
from synchub.policies import operations as policies
from synchub.policies.operations import PolicyDirectory
from synchub.stock import operations as stock
from synchub.stock.rules import Circumstances, rows_of
from synchub.web.keys import HUB
from synchub.web.limits import LIMITS, Limits
from synchub.web.problems import problems
from synchub.web.stock import add_stock_routes
from tests.support.registry import connectors, open_registry
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.accounts.operations import Registry
    from synchub.connector_kit.events import StockEvent
    from synchub.hub import Hub

Heard = tuple[int, dict[str, Any]]
"""Status and body of an answer."""


class Face:
    """Agents ask it; reports change what they are told."""

    def __init__(
        self,
        registry: Registry,
        directory: Directory,
        decisions: PolicyDirectory,
        client: TestClient[Any, Any],
    ) -> None:
        self.registry = registry
        self.directory = directory
        self.decisions = decisions
        self.client = client
        self._versions = itertools.count(1)

    async def key(self, **wanted: Any) -> str:
        """The key of a new agent."""
        issued = await agents.add_agent(self.registry.redis, NewAgent(**({"merchant": "acme"} | wanted)))
        await eventually(lambda: self.directory.find_agent(issued.key) is not None)
        return issued.key

    async def report(self, sku: str, quantity: int) -> None:
        """Let the account report a level."""
        version = Version(scale=Scale.SEQUENCE, number=next(self._versions))
        await self._apply(Level(item=sku, location="WH1", quantity=quantity, version=version))

    async def describe(self, sku: str, **said: Any) -> None:
        """Let the account's catalogue say something about a SKU."""
        await self._apply(Catalogue(item=sku, **said))

    async def decide(self, *rules: dict[str, Any]) -> None:
        """Make these the merchant's policies."""
        form = policies.read_document(json.dumps({"rules": rules}).encode())
        await policies.replace(
            self.registry.redis,
            "acme",
            form,
            expected=self.decisions.version("acme"),
            author="anna",
            settings=self.registry.settings,
        )
        await self.decisions.refresh("acme")

    async def ask(self, path: str, key: str | None = None, scheme: str = "Bearer", **headers: str) -> Heard:
        """Ask for one SKU; the path is sent as it is."""
        if key is not None:
            headers["Authorization"] = f"{scheme} {key}"
        async with self.client.get(URL(f"/v1/stock/{path}", encoded=True), headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def post(self, path: str, key: str, **about: Any) -> Heard:
        """Post a question: ``json`` or ``data``, and ``headers``."""
        about["headers"] = {"Authorization": f"Bearer {key}"} | about.get("headers", {})
        async with self.client.post(f"/v1/stock/{path}", **about) as answer:
            return answer.status, await answer.json(content_type=None)

    async def _apply(self, event: StockEvent) -> None:
        about = Circumstances(
            account="main", at_ms=now_ms(), is_read=False, op=f"op-{next(self._versions)}", cause="test"
        )
        keys = MerchantKeys("acme")
        await stock.apply(self.registry.redis, keys, rows_of([event], about), settings=self.registry.settings)


@contextlib.asynccontextmanager
async def open_face(redis_url: str, *, max_age_ms: int | None = None) -> AsyncIterator[Face]:
    """Serve it; ``max_age_ms`` is the account's own."""
    main = NewAccount(platform="standard", merchant="acme", name="main", max_age_ms=max_age_ms)
    async with open_registry(redis_url) as registry:
        await accounts.add_account(registry, main)
        directory = Directory(registry.settings, registry.vault, connectors())
        decisions = PolicyDirectory(registry.redis, registry.settings)
        parts = SimpleNamespace(
            settings=registry.settings,
            redis=registry.redis,
            questions=Questions(registry.redis),
            vault=registry.vault,
            directory=directory,
            policies=decisions,
            decisions=DecisionLog(registry.redis, registry.settings),
            authority=SimpleNamespace(is_needed=False),
        )
        hub = cast("Hub", parts)
        app = web.Application(middlewares=[problems])
        app[HUB] = hub
        app[HUB] = hub
        app[LIMITS] = Limits(hub)
        add_stock_routes(app)
        async with directory.following(), TestClient(TestServer(app)) as client:
            yield Face(registry, directory, decisions, client)
