"""A whole hub inside the test: a real store, a real socket, and the worker's consumer beside them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import aiohttp
from multidict import CIMultiDict

from synchub.hub import Hub, open_hub
from synchub.kit.tasks import end
from synchub.pipeline import follow_feed
from synchub.settings import (
    ArchiveSettings,
    DecisionSettings,
    FeedSettings,
    IngressSettings,
    LimitSettings,
    RedisSettings,
    RefetchSettings,
    ReservationSettings,
    SecretsSettings,
    ServerSettings,
    Settings,
    StockSettings,
    SubscriptionSettings,
    WorkerSettings,
)
from synchub.sync_settings import AuthoritySettings, PollingSettings, SyncSettings, UpstreamSettings
from synchub.web.app import build_app
from synchub.web.serving import serving
from tests.support.deliveries import signed
from tests.support.merchants import CONNECTORS, Merchant, add_merchant
from tests.support.registry import KEY
from tests.support.wait import eventually
from workers.ingest import ingest_consumer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_SECTIONS: Final = {
    "authority": AuthoritySettings,
    "server": ServerSettings,
    "ingress": IngressSettings,
    "stock": StockSettings,
    "feed": FeedSettings,
    "refetch": RefetchSettings,
    "archive": ArchiveSettings,
    "decisions": DecisionSettings,
    "limits": LimitSettings,
    "worker": WorkerSettings,
    "reservations": ReservationSettings,
    "subscriptions": SubscriptionSettings,
    "polling": PollingSettings,
    "sync": SyncSettings,
    "upstream": UpstreamSettings,
}
_ids = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One answer."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document that it is."""
        assert self.headers["Content-Type"].startswith("application/problem+json"), self
        document: dict[str, Any] = json.loads(self.body)
        assert document["status"] == self.status, document
        return document


@dataclass(frozen=True, kw_only=True)
class Site:
    """A served hub and one merchant of it."""

    hub: Hub
    port: int
    merchant: Merchant
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def ask(self, method: str, path: str, **about: Any) -> Heard:
        """Send any request."""
        async with self.session.request(method, self.url + path, **about) as answer:
            return Heard(status=answer.status, headers=CIMultiDict(answer.headers), body=await answer.read())

    async def post(
        self,
        body: bytes,
        *,
        message_id: str = "",
        age_s: float = 0,
        headers: Mapping[str, str] | None = None,
        merchant: Merchant | None = None,
    ) -> Heard:
        """Post a signed delivery; ``headers`` are added to or replace those of the signature."""
        sender = merchant or self.merchant
        told = signed(sender, body, message_id=message_id or f"msg_{next(_ids)}", age_s=age_s)
        return await self.ask("POST", sender.hook, data=body, headers={**told, **(headers or {})})

    async def stock(self, sku: str) -> dict[str, Any]:
        """What an agent is told."""
        headers = {"Authorization": f"Bearer {self.merchant.key}"}
        heard = await self.ask("GET", f"/v1/stock/{sku}", headers=headers)
        assert heard.status == 200, heard
        answer: dict[str, Any] = json.loads(heard.body)
        return answer

    async def drained(self) -> None:
        """Return when no delivery waits to be applied."""
        await eventually(self._is_drained, what="an empty ingest stream")

    async def _is_drained(self) -> bool:
        return not await self.hub.client.xlen("synchub:{ingest}:stream")


def settings_with(redis_url: str, **sections: Mapping[str, Any]) -> Settings:
    """Settings with this store and a free port; no file and no environment is read."""
    # A machine that does other things too may take its time to accept a connection.
    redis = {"url": redis_url, "connect_timeout_ms": 10_000, **sections.pop("redis", {})}
    own = {
        "server": {"port": 0, **sections.pop("server", {})},
        # The platforms of tests are on this machine.
        "upstream": {"private_targets": "127.0.0.0/8", **sections.pop("upstream", {})},
    }
    chosen = {name: _SECTIONS[name](**values) for name, values in {**sections, **own}.items()}
    return Settings.model_construct(
        redis=RedisSettings(**redis),
        secrets=SecretsSettings.model_validate({"key": base64.b64encode(KEY).decode()}),
        **chosen,
    )


@contextlib.asynccontextmanager
async def opened_hub(settings: Settings) -> AsyncIterator[Hub]:
    """What a process holds; connectors have been looked for before, because that reads files."""
    with mock.patch("synchub.hub.discover", return_value=dict(CONNECTORS)):
        async with open_hub(settings) as hub:
            yield hub


@contextlib.asynccontextmanager
async def running_hub(
    redis_url: str, *, works: bool = True, **sections: Mapping[str, Any]
) -> AsyncIterator[Site]:
    """Serve a hub on which one merchant is known; without ``works`` nothing is applied."""
    settings = settings_with(redis_url, **sections)
    merchant = await add_merchant(redis_url)
    async with (
        opened_hub(settings) as hub,
        serving(build_app(hub), settings.server) as port,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        _running(follow_feed(hub)),
        _consuming(hub) if works else contextlib.nullcontext(),
    ):
        yield Site(hub=hub, port=port, merchant=merchant, session=session)


@contextlib.asynccontextmanager
async def _consuming(hub: Hub) -> AsyncIterator[None]:
    consumer = ingest_consumer(hub, "test-worker", lambda _account: None)
    try:
        async with _running(consumer.run()):
            yield
    finally:
        await consumer.close()


@contextlib.asynccontextmanager
async def _running(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await end(task)
