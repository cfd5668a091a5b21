"""A small double of a platform, run as a process of its own: for the demo and for tests.

It keeps stock, posts really signed webhooks to the hub, answers the few API calls
that the connector's client makes, and misbehaves when told to. A platform's
``emulator.py`` subclasses :class:`Emulator` and ends with ``run(ItsEmulator)``.
Control routes begin with ``/_emulator/``; faults never touch them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Final, cast

from aiohttp import web

from synchub.connector_kit.emulated_faults import FaultKind, FaultWindow, is_open, parse_fault
from synchub.connector_kit.emulated_orders import Order, OrderBook
from synchub.connector_kit.emulated_pages import Bucket, CallCounts, Tokens, name_call, page_of
from synchub.connector_kit.emulated_sender import COUNTED, TRIES, WITHHELD, HookSender, Outgoing
from synchub.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from typing import NoReturn

    from aiohttp.typedefs import Handler

__all__ = [
    "Bucket",
    "Change",
    "Emulator",
    "Options",
    "Order",
    "Outgoing",
    "Tokens",
    "demo_sku",
    "name_call",
    "page_of",
    "run",
]

RETRY_AFTER_S: Final = 1
SLOW_S: Final = 3.0
"""How long the fault ``slow`` keeps each call waiting."""

TOLD_MAX: Final = 5_000
"""Latest changes kept for whoever measures how soon they arrive elsewhere."""

FORGED_EXTRA: Final = 1_000
"""A forged level claims this many more units, so that believing one shows at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How one emulator runs."""

    hook_url: str
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    skus: int = 50
    locations: tuple[str, ...] = ("WH1",)
    rate: float = 5.0
    """Random changes a second."""
    orders: float = 0.0
    """The share of them that are orders and cancellations instead."""
    ships_elsewhere: bool = False
    """Its random orders leave from another system's shelf: they name no place, and it acknowledges none."""
    seed: int = 1
    faults: tuple[FaultWindow, ...] = ()
    tries: int = TRIES
    """How often a delivery is sent until it is accepted, half a second apart."""
    heartbeat_s: float = 0.0
    """How often the platform gives a sign of life, if it does that by itself; 0: never."""
    disable_after: int = 0
    """After so many failed deliveries in a row the platform ends the subscription; 0: never."""
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One level as the platform reports it after a change."""

    item: str
    sku: str
    location: str
    quantity: int
    previous: int
    number: int
    """Counts up over all changes of this emulator."""
    at_us: int
    by_order: bool = False
    """An order took the units or gave them back; nothing was moved."""


class Emulator(ABC):
    """Stock, webhooks, control routes and faults; the subclass adds what is its platform's own."""

    platform: ClassVar[str]
    credentials_needed: ClassVar[tuple[str, ...]]
    is_only_polled: ClassVar[bool] = False
    """It posts nothing, so it needs no address to post to."""

    def __init__(self, options: Options) -> None:
        """Fill the shelves by the seed."""
        self.options = options
        self.chance = random.Random(options.seed)
        self.locations = [self.location_id(name) for name in options.locations]
        self.skus = {self.item_id(index): demo_sku(index) for index in range(1, options.skus + 1)}
        self.levels = {item: dict.fromkeys(self.locations, 0) for item in self.skus}
        for item in self.skus:
            self.levels[item] = {location: self.chance.randint(0, 60) for location in self.locations}
        self.sender = HookSender(
            options.hook_url,
            is_open=self.shows,
            seed=options.seed,
            tries=options.tries,
            disable_after=options.disable_after,
            heard=self.heard,
            wanted=self.is_wanted,
        )
        self.calls = CallCounts()
        self.orders = OrderBook(self, ships_itself=not options.ships_elsewhere)
        self._number = 0
        self._told: deque[dict[str, object]] = deque(maxlen=TOLD_MAX)
        self._started_s = time.monotonic()
        self._shown: set[FaultKind] = set()
        """Faults that somebody has switched on."""
        self._runs = asyncio.Event()

    # What a platform's own emulator gives.

    def item_id(self, index: int) -> str:
        """Return the platform's id of an item; the SKU where it has none of its own."""
        return demo_sku(index)

    def location_id(self, name: str) -> str:
        """Return the platform's id of a location named on the command line."""
        return name

    def catalogue_deliveries(self, item: str) -> list[Outgoing]:
        """Return the signed webhooks that tell what this item is; none where items are SKUs."""
        del item
        return []

    @abstractmethod
    def level_deliveries(self, change: Change) -> list[Outgoing]:
        """Return the signed webhooks that report this change; must not touch the levels."""

    def order_id(self, order: Order) -> str:
        """Return the platform's id of an order."""
        return f"O{order.number}"

    def placed_deliveries(self, order: Order) -> list[Outgoing]:
        """Return the signed webhooks that tell a new order; none where orders are not told."""
        del order
        return []

    def cancelled_deliveries(self, order: Order) -> list[Outgoing]:
        """Return the signed webhooks that tell the latest cancellation of an order."""
        del order
        return []

    def heartbeat_deliveries(self) -> list[Outgoing]:
        """Return the signed webhooks that are a sign of life; none where the platform gives none."""
        return []

    def add_routes(self, app: web.Application) -> None:
        """Add the platform's API; a platform that only posts has none."""
        del app

    def heard(self, status: int, body: bytes) -> int:
        """Return the status that the platform takes the hub's answer for; some read the body too."""
        del body
        return status

    def is_wanted(self, outgoing: Outgoing) -> bool:
        """Whether somebody is subscribed to such a delivery; some platforms subscribe topic by topic."""
        del outgoing
        return True

    def throttled(self) -> web.Response:
        """Return the platform's answer to one call too many."""
        return web.Response(status=429, headers={"Retry-After": str(RETRY_AFTER_S)})

    # What a subclass may call.

    def shows(self, kind: FaultKind) -> bool:
        """Whether this fault is on now."""
        elapsed_s = time.monotonic() - self._started_s
        return kind in self._shown or is_open(self.options.faults, kind, elapsed_s)

    def restore_subscription(self) -> None:
        """Send webhooks again after the platform had disabled them."""
        self.sender.is_subscribed = True

    def next_number(self) -> int:
        """Count up, over the changes of levels and whatever else the platform numbers with them."""
        self._number += 1
        return self._number

    def find(self, sku: str, location: str) -> tuple[str, str] | None:
        """Return item and location by a SKU and a location's name or id; ``None``: not here."""
        item = next((item for item, known in self.skus.items() if known == sku), None)
        place = location if location in self.locations else self.location_id(location)
        return None if item is None or place not in self.locations else (item, place)

    def send(self, outgoing: Outgoing) -> asyncio.Future[int]:
        """Post one webhook; the future becomes the hub's answer."""
        return self.sender.send(outgoing)

    def set_level(
        self, item: str, location: str, quantity: int, *, by_order: bool = False
    ) -> list[asyncio.Future[int]]:
        """Change one level and send the webhooks that say so."""
        previous = self.levels[item][location]
        self.levels[item][location] = quantity
        change = replace(self._change(item, location, previous), by_order=by_order)
        if self.shows(FaultKind.FORGE) and not self.is_only_polled:
            for forged in self._forge(change):
                self.sender.send(forged)
        answers = [self.sender.send(outgoing) for outgoing in self.level_deliveries(change)]
        # A delivery that will never be sent is answered at once.
        self._told.append({**asdict(change), "sent": not any(answer.done() for answer in answers)})
        return answers

    def announce(self) -> None:
        """Send the whole catalogue and every level."""
        for item in self.skus:
            for outgoing in self.catalogue_deliveries(item):
                self.sender.send(outgoing)
        for item, held in self.levels.items():
            for location, quantity in held.items():
                self.set_level(item, location, quantity)

    def app(self) -> web.Application:
        """Return the emulator as an application; it lives as long as the application runs."""
        app = web.Application(middlewares=[self._misbehave])
        app.router.add_get("/_emulator/truth", self._truth)
        app.router.add_get("/_emulator/told", self._told_since)
        app.router.add_get("/_emulator/calls", self._told_calls)
        app.router.add_post("/_emulator/change", self._change_on_demand)
        app.router.add_post("/_emulator/fault", self._misbehave_on_demand)
        self.orders.add_routes(app)
        for name, act in (
            ("pause", self._runs.clear),
            ("resume", self._runs.set),
            ("announce", self.announce),
        ):
            app.router.add_post(f"/_emulator/{name}", _doing(act))
        self.add_routes(app)
        app.cleanup_ctx.append(self._live)
        return app

    async def _live(self, _app: web.Application) -> AsyncIterator[None]:
        self._started_s = time.monotonic()
        await self.sender.start()
        doing = (self._change_at_random(), self._disable(), self._beat())
        ticking = [asyncio.create_task(one) for one in doing]
        if not self.options.paused:
            self.announce()
            self._runs.set()
        yield
        for task in ticking:
            task.cancel()
        await asyncio.gather(*ticking, return_exceptions=True)
        await self.sender.stop()

    async def _change_at_random(self) -> None:
        items = list(self.skus)
        while self.options.rate > 0:
            await asyncio.sleep(1 / self.options.rate)
            await self._runs.wait()
            if self.options.orders and self.chance.random() < self.options.orders:
                self.orders.change_at_random()
                continue
            item, location = self.chance.choice(items), self.chance.choice(self.locations)
            step = self.chance.choice((-3, -2, -1, -1, -1, 1, 2, 5))
            self.set_level(item, location, max(0, self.levels[item][location] + step))

    async def _beat(self) -> None:
        while self.options.heartbeat_s > 0:
            for outgoing in self.heartbeat_deliveries():
                self.send(outgoing)
            await asyncio.sleep(self.options.heartbeat_s)

    async def _disable(self) -> None:
        starts = sorted(fault.from_s for fault in self.options.faults if fault.kind is FaultKind.DISABLE)
        for from_s in starts:
            await asyncio.sleep(max(0.0, self._started_s + from_s - time.monotonic()))
            self.sender.is_subscribed = False

    def _change(self, item: str, location: str, previous: int) -> Change:
        return Change(
            item=item,
            sku=self.skus[item],
            location=location,
            quantity=self.levels[item][location],
            previous=previous,
            number=self.next_number(),
            at_us=time.time_ns() // 1000,
        )

    def _forge(self, change: Change) -> list[Outgoing]:
        claimed = self.level_deliveries(replace(change, quantity=change.quantity + FORGED_EXTRA))
        # One space more than was signed: still the platform's form, no longer its signature.
        return [replace(outgoing, body=outgoing.body + b" ", forged=True) for outgoing in claimed]

    @web.middleware
    async def _misbehave(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/_emulator/"):
            return await handler(request)
        status = 0
        try:
            answer = await self._answer_or_fault(request, handler)
            status = answer.status
        except web.HTTPException as answered:
            status = answered.status
            raise
        finally:
            is_cut = request.transport is None or request.transport.is_closing()
            self.calls.note(request, 0 if is_cut else status)
        return answer

    async def _answer_or_fault(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self.shows(FaultKind.DOWN):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)
        if self.shows(FaultKind.THROTTLE):
            return self.throttled()
        if self.shows(FaultKind.SLOW):
            await asyncio.sleep(SLOW_S)
        if self.shows(FaultKind.HTML):
            return web.Response(text="<html><body>We are busy.</body></html>", content_type="text/html")
        answer = await handler(request)
        if self.shows(FaultKind.HALF) and isinstance(answer, web.Response):
            whole = bytes(answer.body) if isinstance(answer.body, bytes) else b""
            answer.body = whole[: len(whole) // 2]
        return answer

    async def _told_calls(self, _request: web.Request) -> web.Response:
        return web.json_response(self.calls.told())

    async def _truth(self, _request: web.Request) -> web.Response:
        counts = {name: self.sender.counts[name] for name in COUNTED}
        orders = self.orders.truth()
        return web.json_response({"levels": self.levels, "skus": self.skus, "orders": orders, **counts})

    async def _told_since(self, request: web.Request) -> web.Response:
        after = int(request.query.get("after", "0"))
        changes = [change for change in self._told if cast("int", change["number"]) > after]
        return web.json_response({"now_us": time.time_ns() // 1000, "changes": changes})

    async def _misbehave_on_demand(self, request: web.Request) -> web.Response:
        wish = await request.json()
        switch = self._shown.add if wish["is_on"] else self._shown.discard
        switch(FaultKind(wish["kind"]))
        return web.json_response({})

    async def _change_on_demand(self, request: web.Request) -> web.Response:
        wish = await request.json()
        found = self.find(wish["sku"], wish["location"])
        if found is None:
            return web.json_response({"error": "no such SKU or location here"}, status=404)
        statuses = await asyncio.gather(*self.set_level(*found, int(wish["quantity"])))
        return web.json_response({"status": max(statuses, default=WITHHELD)})


def demo_sku(index: int) -> str:
    """Return the name of the index-th demo SKU, counted from 1: equal in all emulators."""
    return f"TEE-{index:04d}"


def run(emulator: type[Emulator], arguments: Sequence[str] | None = None) -> NoReturn:
    """Run an emulator until SIGTERM or SIGINT; the first line on stdout is ``{"port": N}``."""
    port, options = _read_arguments(emulator, arguments)
    asyncio.run(_serve(emulator(options), port))
    sys.exit(0)


async def _serve(emulator: Emulator, port: int) -> None:
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    runner = web.AppRunner(emulator.app(), access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    sys.stdout.write(json.dumps({"port": runner.addresses[0][1]}) + "\n")
    sys.stdout.flush()
    await stopped.wait()
    await runner.cleanup()


def _doing(act: Callable[[], None]) -> Handler:
    async def handle(_request: web.Request) -> web.StreamResponse:
        act()
        return web.json_response({})

    return handle


def _read_arguments(emulator: type[Emulator], arguments: Sequence[str] | None) -> tuple[int, Options]:
    parser = argparse.ArgumentParser(prog=f"python -m connectors.{emulator.platform}.emulator")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--hook-url", required=not emulator.is_only_polled, default="")
    parser.add_argument("--credential", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--skus", type=int, default=50)
    parser.add_argument("--locations", default="WH1", metavar="WH1[,WH2]")
    parser.add_argument("--rate", type=float, default=5.0)
    parser.add_argument("--orders", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--ships-elsewhere", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", action="append", default=[], metavar="KIND@FROM-TO")
    parser.add_argument("--tries", type=int, default=TRIES)
    parser.add_argument("--heartbeat", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--disable-after", type=int, default=0, metavar="FAILURES")
    parser.add_argument("--paused", action="store_true")
    given = parser.parse_args(arguments)
    credentials = dict(text.split("=", 1) for text in given.credential if "=" in text)
    missing = set(emulator.credentials_needed) - set(credentials)
    if missing:
        parser.error(f"--credential is needed for {', '.join(sorted(missing))}")
    try:
        faults = tuple(parse_fault(text) for text in given.fault)
    except InvalidRequest as problem:
        parser.error(problem.detail)
    return given.port, Options(
        hook_url=given.hook_url,
        credentials=credentials,
        skus=given.skus,
        locations=tuple(given.locations.split(",")),
        rate=given.rate,
        orders=given.orders,
        ships_elsewhere=given.ships_elsewhere,
        seed=given.seed,
        faults=faults,
        tries=given.tries,
        heartbeat_s=given.heartbeat,
        disable_after=given.disable_after,
        paused=given.paused,
    )
