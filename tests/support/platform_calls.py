"""Calls to platforms in tests: an account, a platform that answers as told, and time that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.test_utils import TestServer

from synchub.accounts.model import AccountView, Role
from synchub.connector_kit.contract import Connector, Quota
from synchub.errors import Fault, StoreUnavailable
from synchub.kit.outbound import guarded_session, networks_of
from synchub.redis import CoalescingRedis
from synchub.settings import Settings
from synchub.sync_settings import UpstreamSettings
from synchub.upstream.model import Operation, Priority
from synchub.upstream.operations import Upstream
from synchub.upstream.reach import Times
from tests.support.registry import a_shop, settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.connector_kit.http import HttpAnswer
    from synchub.lua import Executes
    from synchub.redis import Part

Answer = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]
"""How a fake platform answers."""
EPOCH_MS: Final = 1_800_000_000_000
LOOPBACK: Final = "127.0.0.0/8"


class Clock:
    """Time that passes only when the test says so, or when somebody sleeps while ``runs``."""

    def __init__(self, *, runs: bool = True) -> None:
        self.ms = 0.0
        self.runs = runs
        self.slept: list[float] = []
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now_ms(self) -> int:
        """The present of a process."""
        return int(self.ms)

    def store_ms(self) -> int:
        """The present of the store."""
        return EPOCH_MS + int(self.ms)

    async def sleep(self, seconds: float) -> None:
        """Let the time pass, or wait until the test does."""
        self.slept.append(seconds)
        if self.runs:
            self.ms += seconds * 1000
            await asyncio.sleep(0)
            return
        sleeper = (self.ms + seconds * 1000, asyncio.Event())
        self._sleepers.append(sleeper)
        try:
            await sleeper[1].wait()
        finally:
            self._sleepers.remove(sleeper)

    async def advance(self, ms: float) -> None:
        """Let time pass, wake whoever slept so long, and let everybody take their turns."""
        self.ms += ms
        for due, woken in self._sleepers:
            if due <= self.ms:
                woken.set()
        await asyncio.sleep(0)

    def sleeping(self) -> list[float]:
        """When those wake who sleep."""
        return [due for due, woken in self._sleepers if not woken.is_set()]

    def times(self, chance: float = 1.0) -> Times:
        """What an ``Upstream`` is given."""
        return Times(now_ms=self.now_ms, store_ms=self.store_ms, chance=lambda: chance, sleep=self.sleep)


@dataclass
class FakePlatform:
    """Somebody else's API: answers what ``answer`` says."""

    answer: Answer
    taken: list[str] = field(default_factory=list)
    """Paths that were asked for, in order."""
    at_once: int = 0
    most_at_once: int = 0
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Count and answer."""
        self.taken.append(request.path)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self.answer(request)
        finally:
            self.at_once -= 1

    def counts(self) -> Counter[str]:
        """How often each path was asked for."""
        return Counter(self.taken)


async def well(_: web.Request) -> web.StreamResponse:
    """Answer as a healthy platform."""
    return web.json_response({})


def always(status: int, **headers: str) -> Answer:
    """Answer always the same."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(
            status=status, headers={name.replace("_", "-"): to for name, to in headers.items()}
        )

    return answer


@contextlib.asynccontextmanager
async def a_platform(
    answer: Answer = well,
) -> AsyncIterator[FakePlatform]:
    """Serve a platform on loopback."""
    platform = FakePlatform(answer)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", platform.handle)
    async with TestServer(app) as server:
        platform.url = str(server.make_url("/"))
        yield platform


def an_account(name: str = "shop", merchant: str = "acme") -> AccountView:
    """An account of the shop."""
    return AccountView(
        name=name,
        merchant=merchant,
        platform="shop",
        role=Role.CONTRIBUTOR,
        rank=1,
        signing=(),
        credentials={"access_token": "token"},
    )


def read_quota(answer: HttpAnswer) -> Quota | None:
    """Read what the fake platform's headers say."""
    told = answer.headers.get("x-left")
    if told is None:
        return None
    capacity, rate = answer.headers.get("x-capacity"), answer.headers.get("x-rate")
    return Quota(
        remaining=float(told),
        capacity=float(capacity) if capacity else None,
        restored_per_s=float(rate) if rate else None,
    )


def a_connector(**limits: Any) -> Connector:
    """The shop, with these limits."""
    told = {"capacity": 1000, "restored_per_s": 1000, "concurrency": 10, **limits}
    return Connector(
        manifest=a_shop(limits=told),
        verify=lambda _delivery, _secrets, *, now_ms: None,  # noqa: ARG005 - the contract's name
        normalize=lambda _topic, _delivery: (),
        client=None,
        read_quota=read_quota,
    )


@dataclass
class Process:
    """One process's way out, as a test uses it."""

    upstream: Upstream
    url: str
    connector: Connector
    account: AccountView

    async def call(
        self,
        path: str = "",
        *,
        method: str = "GET",
        operation: Operation = Operation.LEVELS,
        priority: Priority = Priority.TICKLE,
        deadline_ms: int | None = None,
        headers: dict[str, str] | None = None,
        cost: float = 1.0,
        listing: str = "",
    ) -> HttpAnswer:
        """Call the platform."""
        access = self.upstream.access(
            self.account, self.connector, operation, priority=priority, deadline_ms=deadline_ms
        )
        return await access.http.send(method, self.url + path, headers=headers, cost=cost, listing=listing)

    async def outcome(self, path: str = "", **about: Any) -> str:
        """Call the platform and return ``ok`` or the name of what was raised."""
        try:
            await self.call(path, **about)
        except Fault as problem:
            return type(problem).__name__
        return "ok"


class NoStore:
    """A store that is away."""

    def __init__(self) -> None:
        self.asked = 0

    async def execute(self, *_: Part) -> Any:
        """Refuse."""
        self.asked += 1
        msg = "away"
        raise StoreUnavailable(msg, retry_after_s=1)


class Line:
    """A store that can be cut off."""

    def __init__(self, redis: Executes) -> None:
        self._redis = redis
        self.is_cut = False

    async def execute(self, *command: Part) -> Any:
        """Pass on, or refuse."""
        if self.is_cut:
            msg = "away"
            raise StoreUnavailable(msg, retry_after_s=1)
        return await self._redis.execute(*command)


@contextlib.asynccontextmanager
async def a_store(redis_url: str) -> AsyncIterator[CoalescingRedis]:
    """A client of the real store."""
    redis = CoalescingRedis(settings_for(redis_url).redis)
    try:
        yield redis
    finally:
        await redis.close()


@contextlib.asynccontextmanager
async def a_process(
    redis: Executes,
    url: str,
    *,
    connector: Connector | None = None,
    account: AccountView | None = None,
    times: Times | None = None,
    **upstream: Any,
) -> AsyncIterator[Process]:
    """A process that calls a platform, with these settings."""
    limits = UpstreamSettings(**{"private_targets": LOOPBACK, **upstream})
    settings = Settings.model_construct(upstream=limits)
    allowed = networks_of(limits.private_targets)
    async with (
        guarded_session(allowed=allowed, connections_max=limits.connections_max, unpacks=True) as session,
        Upstream(redis, session, settings, times=times).following() as opened,
    ):
        yield Process(
            upstream=opened, url=url, connector=connector or a_connector(), account=account or an_account()
        )
