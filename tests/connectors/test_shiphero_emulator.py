"""The ShipHero connector against its emulator: the process that the demo starts, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import connectors.shiphero
from connectors.shiphero import Client, normalize, verify
from synchub.connector_kit.contract import Access
from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.events import Level, StockEvent, Tickle
from synchub.connector_kit.http import AiohttpPlatformHttp
from synchub.connector_kit.manifest import load_manifest
from synchub.errors import SignatureRefused, UpstreamRefused, UpstreamThrottled
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

SECRET: Final = "sh_emulated"
TOKEN: Final = "sh_emulated_token"
UPDATE: Final = "Inventory Update"
CHANGE: Final = "Inventory Change"
WH1: Final = "76733"
WH2: Final = "76734"
MANIFEST: Final = load_manifest(Path(connectors.shiphero.__file__).with_name("manifest.toml"))


@dataclass
class Hub:
    """Receives as the hub would: what is not rightly signed gets a 401."""

    answer: str = MANIFEST.answer.body
    accepted: list[Delivery] = field(default_factory=list)
    refused: int = 0

    async def receive(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        sent = Delivery(account="wms", headers=headers, body=await request.read(), arrived_at_us=0)
        try:
            verify(sent, [SECRET], now_ms=0)
        except SignatureRefused as refusal:
            self.refused += 1
            return web.Response(status=refusal.status)
        self.accepted.append(sent)
        return web.Response(text=self.answer, content_type="application/json")

    def events(self) -> list[StockEvent]:
        return [event for sent in self.accepted for event in normalize(MANIFEST.topic_of(sent), sent)]


@dataclass
class Emulator:
    """One emulator process and the hub it posts to."""

    url: str
    hub: Hub
    session: aiohttp.ClientSession

    def reader(self, token: str = TOKEN) -> Client:
        given = {"access_token": token, "api_url": f"{self.url}/graphql"}
        return Client(Access(http=AiohttpPlatformHttp(self.session), credentials=given))

    async def post(self, path: str, **body: object) -> dict[str, Any]:
        async with self.session.post(f"{self.url}/_emulator/{path}", json=body) as answer:
            return dict(await answer.json())

    async def truth(self) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/_emulator/truth") as answer:
            return dict(await answer.json())


@asynccontextmanager
async def emulator(*arguments: str, hub: Hub | None = None) -> AsyncIterator[Emulator]:
    hub = hub or Hub()
    app = web.Application()
    app.router.add_post("/hooks", hub.receive)
    async with TestServer(app) as server, aiohttp.ClientSession(trust_env=False) as session:
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "connectors.shiphero.emulator",
                "--hook-url",
                str(server.make_url("/hooks")),
            ),
            *("--credential", f"shared_signature_secret={SECRET}", "--credential", f"access_token={TOKEN}"),
            *("--skus", "6", "--locations", "WH1,WH2", "--rate", "0", *arguments),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        try:
            assert process.stdout is not None
            port = json.loads(await process.stdout.readline())["port"]
            yield Emulator(url=f"http://127.0.0.1:{port}", hub=hub, session=session)
        finally:
            process.terminate()
            assert await process.wait() == 0


def levels_of(events: Sequence[StockEvent]) -> dict[str, dict[str, int | None]]:
    found: dict[str, dict[str, int | None]] = {}
    for event in events:
        if isinstance(event, Level):
            found.setdefault(event.item, {})[event.location] = event.quantity
    return found


async def test_what_the_emulator_announces_and_what_it_lets_read_is_its_truth() -> None:
    async with emulator() as shiphero:
        await eventually(lambda: len(levels_of(shiphero.hub.events())) == 6, what="six SKUs announced")
        truth = await shiphero.truth()
        read = await shiphero.reader().fetch_levels(sorted(truth["skus"]))
        announced = shiphero.hub.events()
    assert truth["levels"].keys() == {f"TEE-000{number}" for number in range(1, 7)}
    assert truth["levels"]["TEE-0001"].keys() == {WH1, WH2}
    assert levels_of(read) == truth["levels"]
    assert levels_of(announced) == truth["levels"]
    assert shiphero.hub.refused == 0


async def test_a_change_on_demand_is_posted_once_accepted_and_readable() -> None:
    async with emulator("--paused") as shiphero:
        answer = await shiphero.post("change", sku="TEE-0002", location="WH1", quantity=41)
        read = await shiphero.reader().fetch_levels(["TEE-0002"])
    assert answer == {"status": 200}
    assert shiphero.hub.events() == [Level(item="TEE-0002", location=WH1, quantity=41)]
    assert levels_of(read)["TEE-0002"][WH1] == 41


async def test_a_move_between_bins_is_posted_as_a_change_that_only_tickles() -> None:
    async with emulator("--paused") as shiphero:
        assert await shiphero.post("move", sku="TEE-0001", location="WH2") == {"status": 200}
    assert shiphero.hub.events() == [Tickle(item="TEE-0001", location=WH2)]


async def test_every_fifth_change_is_told_by_both_webhooks_under_ids_of_their_own() -> None:
    async with emulator("--paused") as shiphero:
        for quantity in range(100, 105):
            await shiphero.post("change", sku="TEE-0001", location="WH1", quantity=quantity)
    topics = [MANIFEST.topic_of(sent) for sent in shiphero.hub.accepted]
    assert sorted(topics) == [CHANGE, *[UPDATE] * 5]
    assert len({sent.headers["x-shiphero-message-id"] for sent in shiphero.hub.accepted}) == 6


async def test_an_answer_without_the_expected_body_counts_as_a_failed_delivery() -> None:
    async with emulator("--paused", hub=Hub(answer="{}")) as shiphero:
        answer = await shiphero.post("change", sku="TEE-0001", location="WH1", quantity=1)
        truth = await shiphero.truth()
    assert answer == {"status": 0}
    assert (truth["accepted"], truth["failed"]) == (0, 1)
    assert len(shiphero.hub.accepted) == 3, "it was tried three times"


async def test_a_forged_delivery_does_not_pass_our_verification() -> None:
    async with emulator("--paused", "--fault", "forge@0s-60s") as shiphero:
        await shiphero.post("change", sku="TEE-0001", location="WH1", quantity=1)
    assert shiphero.hub.refused == 1
    assert shiphero.hub.events() == [Level(item="TEE-0001", location=WH1, quantity=1)]


async def test_the_emulators_throttle_is_the_one_that_the_client_understands() -> None:
    async with emulator("--paused", "--fault", "throttle@0s-60s") as shiphero:
        with pytest.raises(UpstreamThrottled) as refused:
            await shiphero.reader().fetch_levels(["TEE-0001"])
    assert refused.value.retry_after_s == 1


async def test_credits_are_held_back_before_a_read_and_only_what_was_read_is_charged() -> None:
    async with emulator("--paused") as shiphero:
        levels = await shiphero.reader().fetch_levels([f"TEE-{number:04d}" for number in range(1, 301)])
        with pytest.raises(UpstreamThrottled) as refused:
            await shiphero.reader().fetch_levels([f"TEE-{number:04d}" for number in range(1, 400)])
    assert len(levels) == 12
    assert refused.value.retry_after_s is not None


async def test_the_emulator_refuses_another_token() -> None:
    async with emulator("--paused") as shiphero:
        with pytest.raises(UpstreamRefused):
            await shiphero.reader(token="other").fetch_levels(["TEE-0001"])
