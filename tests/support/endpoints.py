"""An endpoint of a subscriber on loopback that does as the test says, and a hub that tells it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from aiohttp import web
from standardwebhooks import Webhook

from synchub.kit.breaker import Limits
from synchub.kit.tasks import end
from synchub.policies import operations as policies
from synchub.redis import CoalescingRedis
from synchub.subscriptions import operations as subscriptions
from tests.support.deliveries import body_of, level
from tests.support.hub import Heard, Site, running_hub
from tests.support.wait import DEADLINE_S, eventually

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from synchub.hub import Hub

LOOPBACK: Final = "127.0.0.0/8"
PATIENT: Final = Limits(window=1000, calls_min=1000)
"""A breaker that no test of something else meets."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """One request that the endpoint has seen."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int

    @property
    def id(self) -> str:
        """Of the message."""
        return self.headers["webhook-id"]

    @property
    def occurrence(self) -> dict[str, Any]:
        """The body read."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def items(self) -> dict[str, Any]:
        """What is told of each SKU."""
        return {item["sku"]: item["available"] for item in self.occurrence["data"]["items"]}

    def verify(self, secret: str) -> None:
        """Check the signature by somebody else's implementation."""
        Webhook(secret).verify(self.body, dict(self.headers))


@dataclass
class Endpoint:
    """Answers 200 unless told otherwise; ``answers`` are used up first."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    answers: list[int | Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    gate: asyncio.Event | None = None
    """While it is there and not set, nothing is answered."""
    port: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/stock"

    @property
    def ids(self) -> list[str]:
        """Of all requests so far."""
        return [one.id for one in self.taken]

    @property
    def accepted(self) -> list[Taken]:
        """Requests answered with 2xx."""
        return [one for one in self.taken if one.status // 100 == 2]

    def known(self) -> dict[str, Any]:
        """What somebody knows who believes each occurrence that was accepted, in order."""
        known: dict[str, Any] = {}
        for one in self.accepted:
            known.update(one.items)
        return known

    @contextlib.asynccontextmanager
    async def serving(self, context: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """Listen until the block ends, encrypted if there is a context."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=context).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def knows(self, truth: Mapping[str, Any], *, within_s: float = DEADLINE_S) -> None:
        """Return when what was accepted adds up to this."""
        await eventually(lambda: self.known() == truth, within_s=within_s, what=f"knowing {truth}")

    async def reached(self, count: int) -> None:
        """Return when so many requests have been seen."""
        await eventually(lambda: len(self.taken) >= count, what=f"{count} requests at the endpoint")

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            body = await request.read()
            answer = self.answers.pop(0) if self.answers else self.status
            status = answer if isinstance(answer, int) else 0
            self.taken.append(
                Taken(path=request.path, headers=request.headers.copy(), body=body, status=status)
            )
            if self.gate is not None:
                await self.gate.wait()
            if not isinstance(answer, int):
                return await answer(request)
            return web.Response(status=answer, headers=self.headers)
        finally:
            self.at_once -= 1


@dataclass(frozen=True, kw_only=True)
class Town:
    """A hub that tells subscribers, and one endpoint."""

    site: Site
    endpoint: Endpoint

    @property
    def hub(self) -> Hub:
        """What the process holds."""
        return self.site.hub

    async def ask(self, method: str, path: str = "", *, key: str = "", **body: Any) -> Heard:
        """Ask about subscriptions with the agent's key, or another."""
        headers = {"Authorization": f"Bearer {key or self.site.merchant.key}"}
        about: dict[str, Any] = {"json": body} if method != "GET" else {}
        return await self.site.ask(method, f"/v1/subscriptions{path}", headers=headers, **about)

    async def subscribe(self, **about: Any) -> dict[str, Any]:
        """Make a subscription and return the answer."""
        heard = await self.ask("POST", **{"url": self.endpoint.url, **about})
        assert heard.status == 201, heard
        made: dict[str, Any] = json.loads(heard.body)
        return made

    async def show(self, name: str) -> dict[str, Any]:
        """Return what is shown of a subscription."""
        heard = await self.ask("GET", f"/{name}")
        assert heard.status == 200, heard
        shown: dict[str, Any] = json.loads(heard.body)
        return shown

    async def attempts(self, name: str) -> list[dict[str, Any]]:
        """Return its log, oldest first."""
        heard = await self.ask("GET", f"/{name}/attempts")
        assert heard.status == 200, heard
        return list(reversed(json.loads(heard.body)["attempts"]))

    async def change(self, **units: int) -> None:
        """Let the platform tell levels, and return when they count."""
        await change(self.site, **units)

    async def decide(self, *, scope: dict[str, Any] | None = None, **rule: Any) -> None:
        """Make one rule the merchant's policies."""
        name = self.site.merchant.name
        document = {"rules": [{"set": rule, **({"scope": scope} if scope else {})}]}
        form = policies.read_document(json.dumps(document).encode())
        expected = self.hub.policies.version(name)
        await policies.replace(
            self.hub.redis, name, form, expected=expected, author="anna", settings=self.hub.settings
        )

    async def becomes(self, name: str, status: str) -> None:
        """Return when a subscription has this status."""

        async def has_it() -> bool:
            return bool((await self.show(name))["status"] == status)

        await eventually(has_it, what=f"status {status}")

    async def has_logged(self, name: str, outcome: str, count: int = 1) -> None:
        """Return when the log holds so many lines of this outcome."""

        async def is_there() -> bool:
            found = [one for one in await self.attempts(name) if one["outcome"] == outcome]
            return len(found) >= count

        await eventually(is_there, what=f"{outcome} in the log")


_sequences = iter(range(1, 1_000_000))


async def change(site: Site, **units: int) -> None:
    """Let a platform tell levels, and return when they count."""
    sequence = next(_sequences)
    reports = [level(sku, number) for sku, number in units.items()]
    heard = await site.post(body_of(*reports, sequence=sequence))
    assert heard.status == 202, heard
    await site.drained()


@contextlib.asynccontextmanager
async def telling(hub: Hub, breaker: Limits = PATIENT) -> AsyncIterator[asyncio.Task[None]]:
    """Tell subscribers until the block ends; cancelled at once, as a worker that is stopped."""
    redis = CoalescingRedis(hub.settings.redis)
    work = subscriptions.deliver(redis, hub.directory, hub.vault, hub.policies, hub.settings, breaker=breaker)
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        await end(task)
        await redis.close()


def quick(**about: Any) -> dict[str, Any]:
    """Settings with short pauses and endpoints on this machine."""
    return {"private_targets": LOOPBACK, "retry_base_ms": 20, "retry_max_ms": 50, **about}


@contextlib.asynccontextmanager
async def open_town(
    redis_url: str, *, tells: bool = True, breaker: Limits = PATIENT, **sections: Mapping[str, Any]
) -> AsyncIterator[Town]:
    """Run a hub, an endpoint, and what tells it."""
    told: dict[str, Any] = {**sections, "subscriptions": quick(**sections.get("subscriptions", {}))}
    async with (
        Endpoint().serving() as endpoint,
        running_hub(redis_url, **told) as site,
        telling(site.hub, breaker) if tells else contextlib.nullcontext(),
    ):
        yield Town(site=site, endpoint=endpoint)
