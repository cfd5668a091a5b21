"""A feed on a real socket and a real store: changes are written as the stock script writes them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from aiohttp import ClientSession, ClientTimeout, web
from aiohttp.test_utils import TestServer

from synchub.errors import KeyUnknown
from synchub.feed.operations import Feed
from synchub.keyspace import LIST_SEPARATOR, SEPARATOR, MerchantKeys
from synchub.policies import operations as policies
from synchub.policies.operations import PolicyDirectory
from synchub.redis import CoalescingRedis
from synchub.settings import FeedSettings, RedisSettings, Settings
from synchub.web.feed import feed_application
from synchub.web.feed_sets import sets_application
from synchub.web.problems import problems

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from aiohttp import ClientResponse
    from redis import Redis

    from synchub.agents.model import Scope

EPOCH = "history-one"
AS_OF_MS = 1_795_255_200_123
_DEFAULTS = Settings()


@dataclass
class Store:
    """Writes one merchant's answers and feed entries, each in one transaction."""

    client: Redis
    merchant: str = "acme"
    seq: int = 0
    feed_seq: int = 0
    vers: dict[str, int] = field(default_factory=dict)

    def change(self, sku: str, ats: int = 10, *, whose: Sequence[str] = (), **fields: object) -> int:
        """Change one answer, because of holds of some agents' or otherwise, and return its sequence."""
        self.seq += 1
        self.vers[sku] = self.vers.get(sku, 0) + 1
        keys = MerchantKeys(self.merchant)
        held = int(str(fields.get("held", 0)))
        cell = SEPARATOR.join(map(str, (AS_OF_MS, "depot", ats + held, "WH1", 0))) + LIST_SEPARATOR
        told: dict[str, Any] = dict.fromkeys(
            ("held", "gone", "backorder", "degraded", "stale", "lag", "ref"), 0
        )
        told |= {"known": 1, "cat": "A"} | fields
        order = ("held", "known", "gone", "cat", "backorder", "degraded", "stale", "lag", "ref")
        parts = [self.vers[sku], self.seq, ats, *(told[name] for name in order), "depot", cell]
        answer = "|".join(map(str, parts))
        with self.client.pipeline() as pipe:
            entry: dict[Any, Any] = {
                "p": self.feed_seq,
                "sku": sku,
                "answer": answer,
                "asof": AS_OF_MS,
                "t": 0,
            }
            if whose:
                entry["whose"] = SEPARATOR.join(whose)
            pipe.xadd(keys.feed, entry, id=f"{self.seq}-0")
            pipe.hset(keys.sku(sku), mapping={"answer": answer})
            pipe.zadd(keys.skus, {sku: 0})
            pipe.hset(keys.head, mapping={"seq": self.seq, "feed_seq": self.seq})
            pipe.execute()
        self.feed_seq = self.seq
        return self.seq

    def name_history(self, epoch: str = EPOCH) -> Self:
        """Give the history a name that the test knows."""
        self.client.hset(MerchantKeys(self.merchant).head, mapping={"epoch": epoch})
        return self

    def effect(self) -> int:
        """Use a sequence for an effect that changes no answer."""
        self.seq += 1
        self.client.hset(MerchantKeys(self.merchant).head, mapping={"seq": self.seq})
        return self.seq

    def forget(self, since: int) -> None:
        """Lose every entry and sequence from ``since`` on, as a store that comes back from an old file."""
        keys = MerchantKeys(self.merchant)
        kept: Any = self.client.xrange(keys.feed, "-", f"({since}-0")
        self.seq = self.feed_seq = since - 1
        with self.client.pipeline() as pipe:
            pipe.delete(keys.feed)
            for entry, fields in kept:
                pipe.xadd(keys.feed, fields, id=entry)
            pipe.hset(keys.head, mapping={"seq": self.seq, "feed_seq": self.seq})
            pipe.execute()

    @property
    def epoch(self) -> str:
        """The history's present name."""
        return str(self.client.hget(MerchantKeys(self.merchant).head, "epoch"))


@dataclass(frozen=True)
class Frame:
    """One event as a client sees it."""

    event: str
    id: str | None
    data: dict[str, Any]

    @property
    def skus(self) -> list[str]:
        """Names of the items."""
        return [item["sku"] for item in self.data["items"]]


class Client:
    """Reads one feed connection."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.seen: list[Frame] = []

    async def next(self, *events: str, within_s: float = 5) -> Frame:
        """Return the next frame of these kinds; heartbeats are passed over unless asked for."""
        async with asyncio.timeout(within_s):
            while True:
                frame = await self._read()
                self.seen.append(frame)
                if frame.event in events or (not events and frame.event != "hb"):
                    return frame

    async def caught_up(self) -> list[Frame]:
        """Read up to the end of the snapshot and return what was read, heartbeats left out."""
        start = len(self.seen)
        await self.next("snap_end")
        return [frame for frame in self.seen[start:] if frame.event != "hb"]

    async def at_end(self) -> bool:
        """Whether the server has ended the response in good order."""
        return not await self.response.content.readline()

    async def _read(self) -> Frame:
        fields: dict[str, str] = {}
        while True:
            line = (await self.response.content.readline()).decode()
            if not line:
                msg = "the server has closed the feed"
                raise EOFError(msg)
            if line == "\n":
                return Frame(fields["event"], fields.get("id"), json.loads(fields["data"]))
            name, _, value = line.rstrip("\n").partition(":")
            fields[name] = value.removeprefix(" ")


class Site:
    """A served feed."""

    def __init__(
        self, feed: Feed, server: TestServer, session: ClientSession, decide: Callable[..., Awaitable[None]]
    ) -> None:
        self.feed = feed
        self.server = server
        self.session = session
        self.decide = decide
        """Edits a merchant's policies: its name, then the rules."""

    @contextlib.asynccontextmanager
    async def connect(
        self, query: str = "", *, last: str | None = None, key: str = "acme.shopper"
    ) -> AsyncIterator[Client]:
        """Open a connection and read its answer's head."""
        async with await self.get(query, last=last, key=key) as response:
            assert response.status == 200, await response.text()
            yield Client(response)

    async def get(
        self, query: str = "", *, last: str | None = None, key: str = "acme.shopper"
    ) -> ClientResponse:
        """Send the request."""
        headers = {"Authorization": f"Bearer {key}"} | ({"Last-Event-ID": last} if last else {})
        return await self.session.get(self.server.make_url(f"/v1/feed{query}"), headers=headers)

    async def sets(
        self, method: str, set_id: str = "", *, key: str = "acme.shopper", **body: Any
    ) -> tuple[int, Any]:
        """Ask for something about a set, and return the answer's status and JSON."""
        address = self.server.make_url("/v1/feed/sets" + (f"/{set_id}" if set_id else ""))
        headers = {"Authorization": f"Bearer {key}"}
        async with self.session.request(method, address, headers=headers, json=body or None) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def new_set(self, *skus: str, key: str = "acme.shopper") -> str:
        """Make a set and return its id."""
        status, told = await self.sets("POST", key=key, skus=list(skus))
        assert status == 201, told
        return str(told["set"])


@dataclass(frozen=True)
class Caller:
    merchant: str
    name: str
    tier: str = "standard"
    channels: frozenset[str] = frozenset()


def identify(request: web.Request, *scopes: Scope) -> Caller:
    """The key `merchant.agent`, or `merchant.agent.tier`, is that agent's."""
    assert scopes
    merchant, _, who = request.headers.get("Authorization", "").removeprefix("Bearer ").partition(".")
    if not who:
        raise KeyUnknown
    name, _, tier = who.partition(".")
    return Caller(merchant, name, tier or "standard")


@contextlib.asynccontextmanager
async def serving_feed(redis_url: str, **feed_settings: int) -> AsyncIterator[Site]:
    """Serve a feed; settings of its section may be overridden."""
    settings = _DEFAULTS.model_copy(
        update={
            "redis": RedisSettings(url=redis_url, command_timeout_ms=1000),
            "feed": FeedSettings(**{"read_block_ms": 20, **feed_settings}),
        }
    )
    client = CoalescingRedis(settings.redis)
    decisions = PolicyDirectory(client, settings)
    feed = Feed(settings, client, decisions)
    decisions.on_moved = feed.renew_views

    async def decide(merchant: str, *rules: dict[str, Any]) -> None:
        form = policies.read_document(json.dumps({"rules": rules}).encode())
        version = decisions.version(merchant)
        await policies.replace(client, merchant, form, expected=version, author="anna", settings=settings)
        await decisions.refresh(merchant)

    app = web.Application(middlewares=[problems])
    app.add_subapp("/v1/feed/sets", sets_application(client, settings, identify))
    app.add_subapp("/v1/", feed_application(feed, identify, skus_max=settings.feed.skus_max))
    running = asyncio.create_task(feed.run())
    try:
        server = TestServer(app)
        async with server, ClientSession(timeout=ClientTimeout(total=None)) as session:
            yield Site(feed, server, session, decide)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.close()


async def levels_up_to(client: Client, seq: int) -> dict[str, int]:
    """Read until ``seq`` is covered and return what a client then holds, by the versions of the items."""
    while True:
        frames = [frame for frame in client.seen if "items" in frame.data]
        if any(frame.data.get("seq", 0) >= seq for frame in client.seen):
            break
        await client.next("upd", "hb")
    held: dict[str, tuple[int, int]] = {}
    for frame in frames:
        for item in frame.data["items"]:
            held[item["sku"]] = max(held.get(item["sku"], (0, 0)), (item["ver"], item["available"]))
    return {sku: available for sku, (_, available) in held.items()}


def covers_follow(client: Client) -> bool:
    """Whether no frame since the snapshot left a hole: each begins at or before where the last one ended."""
    seq = None
    for frame in client.seen:
        if frame.event == "snap_end":
            seq = frame.data["seq"]
        elif seq is not None and "prev" in frame.data:
            if frame.data["prev"] > seq:
                return False
            seq = max(seq, frame.data["seq"])
    return True


def at_once(store: Store, levels: dict[str, int]) -> None:
    """Change several SKUs so that one read of the stream sees all of them."""
    client = store.client
    with client.pipeline() as pipe:
        store.client = BufferedPipeline(pipe)  # type: ignore[assignment]  # stands in for the client
        for sku, level in levels.items():
            store.change(sku, level)
        pipe.execute()
    store.client = client


class BufferedPipeline:
    """Stands in for a client whose transactions are all part of one."""

    def __init__(self, pipe: object) -> None:
        self._pipe = pipe

    @contextlib.contextmanager
    def pipeline(self) -> Iterator[object]:
        yield Unexecuted(self._pipe)


class Unexecuted:
    def __init__(self, pipe: object) -> None:
        self._pipe = pipe

    def __getattr__(self, name: str) -> object:
        return (lambda: None) if name == "execute" else getattr(self._pipe, name)
