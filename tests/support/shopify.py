"""An emulated shop as a process, a hub that listens to it, and a shop that gives prepared answers."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import web

from connectors.shopify import Client, normalize, verify
from synchub.connector_kit.contract import Access
from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.events import OrderLine, StockEvent
from synchub.connector_kit.http import AiohttpPlatformHttp, HttpAnswer
from synchub.errors import SignatureRefused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from synchub.connector_kit.contract import Page, Record

SECRET: Final = "shpss_emulated"
TOKEN: Final = "shpat_emulated"
FIRST_ITEM: Final = "271878346596884001"
PATIENCE_S: Final = 20


class Receiver:
    """A hub that verifies and reads what it is sent and keeps the events."""

    def __init__(self) -> None:
        self.events: list[StockEvent] = []
        self.refused = 0
        self.is_failing = False
        self.url = ""
        self._arrived = asyncio.Condition()

    async def receive(self, request: web.Request) -> web.Response:
        if self.is_failing:
            return web.Response(status=500)
        headers = {name.lower(): value for name, value in request.headers.items()}
        now_us = time.time_ns() // 1000
        sent = Delivery(account="shop", headers=headers, body=await request.read(), arrived_at_us=now_us)
        try:
            verify(sent, [SECRET], now_ms=now_us // 1000)
        except SignatureRefused:
            self.refused += 1
            return web.Response(status=401)
        topic = headers.get("x-shopify-topic") or headers["shopify-topic"]
        async with self._arrived:
            self.events += normalize(topic, sent)
            self._arrived.notify_all()
        return web.Response()

    async def has(self, count: int) -> None:
        """Wait until so many events have arrived."""
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            await self._arrived.wait_for(lambda: len(self.events) >= count)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    hub = Receiver()
    app = web.Application()
    app.router.add_post("/hook", hub.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        hub.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield hub
    finally:
        await runner.cleanup()


@asynccontextmanager
async def emulator(hook_url: str, *options: str) -> AsyncIterator[str]:
    """Run the emulator as a process; gives its address."""
    credentials = [f"--credential=client_secret={SECRET}", f"--credential=access_token={TOKEN}"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "connectors.shopify.emulator", "--hook-url", hook_url, "--rate", "0"),
        *credentials,
        *options,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            first_line = await process.stdout.readline()
        yield f"http://127.0.0.1:{json.loads(first_line)['port']}"
    finally:
        process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0


@asynccontextmanager
async def client(shop_domain: str, token: str = TOKEN) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(trust_env=False) as session:
        credentials = {"shop_domain": shop_domain, "access_token": token}
        yield Client(Access(http=AiohttpPlatformHttp(session), credentials=credentials))


async def set_level(shop: str, sku: str, location: str, quantity: int) -> int:
    wish = {"sku": sku, "location": location, "quantity": quantity}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{shop}/_emulator/change", json=wish) as answer,
    ):
        return int((await answer.json())["status"])


async def control(shop: str, what: str, wish: Mapping[str, object] | None = None) -> Any:
    """Ask one of the emulator's own routes: told what is wished, or asked for what there is."""
    async with aiohttp.ClientSession() as session:
        method = "GET" if wish is None else "POST"
        async with session.request(method, f"{shop}/_emulator/{what}", json=wish) as answer:
            answer.raise_for_status()
            return await answer.json()


async def all_pages(
    api: Client, cursor: str, *, between: Callable[[Page], object] | None = None
) -> tuple[list[Record], str]:
    """Read to the last page; gives the records and where the next search begins."""
    records: list[Record] = []
    for _ in range(1000):
        page = await api.fetch_page(cursor)
        records += page.records
        cursor = page.cursor
        assert page.refused == ()
        if page.is_last:
            return records, cursor
        if between is not None:
            between(page)
    message = "The search does not end."
    raise AssertionError(message)


def events_of(records: Sequence[Record]) -> list[StockEvent]:
    """Return what the records say, in their order."""
    return [event for record in records for event in record.events]


def lines_in(events: Sequence[StockEvent]) -> dict[str, OrderLine]:
    """Return the newest state of each order's only line; of equal times the last one told."""
    newest: dict[str, OrderLine] = {}
    for event in events:
        if isinstance(event, OrderLine) and event.version is not None:
            known = newest.get(event.order)
            if known is None or known.version is None or known.version.number <= event.version.number:
                newest[event.order] = event
    return newest


class ShopAnswers:
    """A shop's API that gives the prepared answers in order and keeps what it was asked."""

    def __init__(self, *answers: object, date: str = "") -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.queries: list[str] = []
        self.costs: list[float] = []
        self.headers: dict[str, str] = {}
        self.url = ""
        self.date = date

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        cost: float = 1.0,
        listing: str = "",
    ) -> HttpAnswer:
        """Give the next answer."""
        assert (method, listing) == ("POST", "")
        assert isinstance(json, dict)
        self.url, self.headers = url, dict(headers or {})
        self.asked.append(json["variables"])
        self.queries.append(json["query"])
        self.costs.append(cost)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        body = answer if isinstance(answer, bytes) else as_json(answer)
        return HttpAnswer(status=200, headers={"date": self.date} if self.date else {}, body=body)

    def client(self, **credentials: str) -> Client:
        """Return a client that asks this shop."""
        known = {"shop_domain": "example.myshopify.com", "access_token": "shpat_secret"}
        return Client(Access(http=self, credentials=known | credentials))


def as_json(value: object) -> bytes:
    """Return the value as an answer's body."""
    return json.dumps(value).encode()
