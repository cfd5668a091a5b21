"""Platforms that fall silent, forget, refuse or lag before real processes: is the hub right in the end?

Each fault comes at a random moment that the hub cannot know. At the end the hub's numbers must be the
platform's, each order told once, no older level a newer one's successor.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from synchub.polling import operations as polling
from synchub.sync_lag.model import SyncState
from tests.support.pair import open_pair
from tests.support.platforms import BY_TIME, BY_TOKEN, PATIENCE_S, SHORT_TIMES, Shop, joined
from tests.support.processes import Deployment
from tests.support.wait import eventually, lasting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

GRACE_S: Final = int(SHORT_TIMES["SYNC__GRACE_MS"]) / 1000
POLLS_MAX: Final = 2
"""After a platform has lost its place, so many whole polls may be needed."""
RETRY_SHARE: Final = 0.1
RETRIES_FREE: Final = 3
"""A share of a handful of calls is less than one call."""
THROTTLED_PER_S: Final = 3.0
"""A platform that asks for a second's patience is asked by polls, by the canary and by the guard."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a fault lasts, and how much changes."""

    fault_s: float
    calm_s: float
    """The fault comes within so long."""
    rate: float
    """Changes a second."""
    skus: int


SHORT: Final = Length(fault_s=1.2, calm_s=0.8, rate=15, skus=8)
LONG: Final = Length(fault_s=20, calm_s=5, rate=40, skus=40)


@dataclass(kw_only=True)
class Play:
    """One fault at one platform as it is played."""

    shop: Shop
    length: Length
    chance: random.Random
    found_after_s: float | None = None
    broken: list[str] = field(default_factory=list)

    def expect(self, is_so: object, otherwise: str) -> None:
        """Note a promise that was not kept."""
        if not is_so:
            self.broken.append(otherwise)

    async def fault_lasts(self) -> None:
        """Let the fault last, for a time that is not told in advance."""
        await lasting(self.length.fault_s * self.chance.uniform(0.7, 1.3))


@dataclass(frozen=True, kw_only=True)
class PlatformFault:
    """What goes wrong at which platform."""

    name: str
    platform: str
    act: Callable[[Play], Awaitable[None]]
    options: tuple[str, ...] = ()
    """Of the emulator."""
    credentials: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PlatformReport:
    """What came out of one fault."""

    fault: str
    seconds: float
    found_after_s: float | None
    """When the hub knew; ``None``: it need not."""
    well_after_s: float
    """When all numbers were right after the last change."""
    calls: int
    broken: tuple[str, ...]


async def try_platform(folder: Path, fault: PlatformFault, length: Length, *, seed: int) -> PlatformReport:
    """Try one fault on a hub of its own."""
    [report] = await try_together(folder, [fault], length, seed=seed)
    return report


async def try_together(
    folder: Path, faults: Sequence[PlatformFault], length: Length, *, seed: int
) -> list[PlatformReport]:
    """Try faults of one kind at the same time, each at a platform and a merchant of its own."""
    async with _hub(folder, faults[0].settings) as hub:
        tries = [_play(hub, fault, length, seed + number) for number, fault in enumerate(faults)]
        return list(await asyncio.gather(*tries))


@contextlib.asynccontextmanager
async def _hub(folder: Path, settings: Mapping[str, str], *, workers: int = 2) -> AsyncIterator[Deployment]:
    hub = Deployment(folder / "hub", workers=workers, settings={**SHORT_TIMES, **settings})
    try:
        await asyncio.to_thread(hub.start)
        yield hub
    except BaseException:
        print(hub.logs())  # noqa: T201 - pytest shows it with a failure
        raise
    finally:
        await asyncio.to_thread(hub.stop)


async def _play(hub: Deployment, fault: PlatformFault, length: Length, seed: int) -> PlatformReport:
    chance, began_s = random.Random(seed), time.monotonic()
    extent = ("--rate", str(length.rate), "--skus", str(length.skus), "--seed", str(seed % 1000))
    options = (*extent, *fault.options)
    async with joined(hub, fault.platform, *options, credentials=fault.credentials) as shop:
        play = Play(shop=shop, length=length, chance=chance)
        await shop.post("announce")
        await shop.agree()
        await shop.post("resume")
        await lasting(length.calm_s * chance.uniform(0.2, 1))
        _log.warning("%s begins after %.1f s", fault.name, time.monotonic() - began_s)
        ended_s = time.monotonic()
        try:
            await fault.act(play)
            await shop.post("pause")
            ended_s = time.monotonic()
            await shop.agree()
        except AssertionError as problem:
            # The others that are tried at the same time go on.
            play.broken.append(f"{problem} {await shop.told()}")
        well_s = time.monotonic()
        play.broken += await _kept_badly(shop)
        calls = (await shop.calls())["total"]
    return PlatformReport(
        fault=fault.name,
        seconds=time.monotonic() - began_s,
        found_after_s=play.found_after_s,
        well_after_s=well_s - ended_s,
        calls=calls,
        broken=tuple(play.broken),
    )


async def _kept_badly(shop: Shop) -> list[str]:
    """Return what the ledger has twice, has not, or has in the wrong order."""
    wrong: list[str] = []
    with contextlib.suppress(AssertionError):
        # Sales may be told a moment later than the levels that contain them.
        await eventually(lambda: _orders_are_told(shop), within_s=PATIENCE_S, what="the orders")
    entries = shop.ledger()
    if [int(one["seq"]) for one in entries] != list(range(1, len(entries) + 1)):
        wrong.append("The ledger has a hole or a repeat.")
    if shop.platform == "shopify":
        wrong += _wrong_orders(entries, (await shop.truth()).orders)
    return wrong + _regressions(entries)


async def _orders_are_told(shop: Shop) -> bool:
    return shop.platform != "shopify" or not _wrong_orders(shop.ledger(), (await shop.truth()).orders)


def _wrong_orders(entries: Sequence[Mapping[str, str]], orders: Mapping[str, int]) -> list[str]:
    """Compare the open units of each order, and look whether each effect begins where the last one ended."""
    units: defaultdict[str, int] = defaultdict(int)
    wrong: list[str] = []
    for one in entries:
        if one["field"] != "sale":
            continue
        order = one["ref"].split("\x1f")[2]
        if int(one["from"]) != units[order]:
            wrong.append(f"Order {order} is told from {one['from']} units although it had {units[order]}.")
        units[order] = int(one["to"])
    wrong += [
        f"Order {order} has {units[order]} open units and not {truth}."
        for order, truth in orders.items()
        if units[order] != truth
    ]
    return wrong + [f"Order {order} does not exist." for order in units.keys() - orders.keys()]


def _regressions(entries: Sequence[Mapping[str, str]]) -> list[str]:
    """Return levels that replaced newer ones."""
    levels: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for one in entries:
        if one["field"] == "level" and one["v"]:
            levels[one["item"], one["loc"]].append(one["v"])
    return [
        f"{item}: version {before} was replaced by {after}."
        for (item, _), versions in levels.items()
        for before, after in itertools.pairwise(versions)
        if int(after) < int(before)
    ]


# Webhooks do not come.


async def fall_silent(play: Play) -> None:
    """Have all deliveries stop: polling takes their place, and ends once they are back."""
    shop = play.shop
    await shop.shows("stall", is_on=True)
    await _is_found(play)
    # While nothing is delivered: what the hub has now it has read.
    await play.fault_lasts()
    await shop.post("pause")
    await shop.agree()
    await shop.post("resume")
    await shop.shows("stall", is_on=False)
    await shop.is_in(SyncState.HEALTHY)


async def miss_signs_of_life(play: Play) -> None:
    """Have a platform fall silent that can only send: it is found, and the next announcement heals."""
    shop = play.shop
    await shop.shows("stall", is_on=True)
    await _is_found(play)
    await shop.shows("stall", is_on=False)
    await shop.post("announce")
    await shop.is_in(SyncState.RECOVERING, SyncState.HEALTHY)


async def _is_found(play: Play) -> None:
    began_s = time.monotonic()
    await play.shop.is_in(SyncState.STALLED)
    play.found_after_s = time.monotonic() - began_s


async def lose_some(play: Play) -> None:
    """Have every third delivery be lost for as long as there are any: safety polls find what they said."""
    shop = play.shop
    await shop.shows("lose", is_on=True)
    began_s = time.monotonic()

    async def is_noticed() -> bool:
        known = await shop.sync()
        return known is not None and known.unseen > 0

    await eventually(is_noticed, within_s=PATIENCE_S, what="a coverage below one")
    play.found_after_s = time.monotonic() - began_s
    await play.fault_lasts()
    play.expect((await shop.truth()).counts["withheld"], "Nothing was lost.")


# The platform loses its place.


async def begin_anew(play: Play) -> None:
    """End the platform and start it with other stock, other pages and no memory of cursors."""
    shop = play.shop
    await shop.close()
    await play.fault_lasts()
    await shop.open("--seed", str(play.chance.randint(1001, 9999)))
    play.expect(await shop.differences(), "It has the same stock as before.")
    await _is_right_after_two_polls(play)


async def leave_out_a_page(play: Play) -> None:
    """Have the platform show no changes where there are some."""
    shop = play.shop
    await shop.shows("gap", is_on=True)
    await play.fault_lasts()
    await shop.post("pause")
    play.expect(await shop.differences(), "Nothing was left out.")
    await shop.shows("gap", is_on=False)
    await _is_right_after_two_polls(play)


async def _is_right_after_two_polls(play: Play) -> None:
    """Watch whole polls that begin from now on: after so many of them all numbers are right."""
    shop = play.shop
    before = await shop.polls()
    last_ms, turns = before.last_ms if before else 0, -1  # one may have begun before

    async def is_right() -> bool:
        nonlocal last_ms, turns
        state = await shop.polls()
        if state is not None and state.last_ms != last_ms and not state.failures:
            last_ms, turns = state.last_ms, turns + 1
        return not await shop.differences() or turns > POLLS_MAX

    await eventually(is_right, within_s=PATIENCE_S, what="the platform's numbers")
    play.expect(turns <= POLLS_MAX, f"The numbers are wrong after {turns} whole polls.")


# Nothing is wrong, or nearly.


async def be_late(play: Play) -> None:
    """Have deliveries come later than a poll may find them, now more, now less."""
    shop = play.shop
    until_s = time.monotonic() + play.length.fault_s
    while time.monotonic() < until_s:
        shop.to_hub.requests.latency_s = play.chance.uniform(0, 3 * GRACE_S)
        await lasting(0.2)
    shop.to_hub.requests.latency_s = 0
    await shop.is_in(SyncState.HEALTHY)
    counts = await shop.calls()
    play.expect(not counts["throttled"], f"The platform bore fewer calls than were made: {counts}")


async def answer_late(play: Play) -> None:
    """Hold an answer back until deliveries have told newer levels: it must not undo them."""
    shop = play.shop
    await shop.post("pause")
    for number in range(max(1, int(play.length.fault_s / 2))):
        await shop.agree()
        shop.to_api.replies.passes.clear()
        before = (await shop.calls())["total"]
        await polling.poll_soon(shop.redis, shop.merchant.name, shop.merchant.account)
        await eventually(partial(_is_called, shop, before), within_s=PATIENCE_S, what="a call")
        # Times of change stop at the second.
        await lasting(1.1)
        quantity = 500 + number
        await shop.post("change", sku="TEE-0001", location="WH1", quantity=quantity)
        await shop.agree()
        shop.to_api.replies.passes.set()
        asked = await shop.polls()
        asked_ms = asked.last_ms if asked else 0
        await eventually(partial(_has_polled, shop, asked_ms), within_s=PATIENCE_S, what="the poll's end")
        told = [one["to"] for one in shop.ledger() if one["field"] == "level" and one["sku"] == "TEE-0001"]
        is_kept = told[-1].partition("i")[0] == f"K{quantity}"
        play.expect(is_kept, f"After {quantity} an older answer set {told[-1]}.")
    await shop.post("resume")


async def _is_called(shop: Shop, before: int) -> bool:
    return (await shop.calls())["total"] > before


async def _has_polled(shop: Shop, after_ms: int) -> bool:
    state = await shop.polls()
    return state is not None and state.last_ms > after_ms


# Calls go wrong.


def fail_calls(kind: str) -> Callable[[Play], Awaitable[None]]:
    """Have every call go wrong in one way: the breaker opens, and little is asked meanwhile."""

    async def act(play: Play) -> None:
        shop, began_s = play.shop, time.monotonic()
        before = (await shop.calls())["total"]
        trips = f'synchub_upstream_breaker_trips_total{{account="{shop.merchant.account}"'
        await shop.shows(kind, is_on=True)
        if kind != "throttle":
            await eventually(lambda: _has(shop, trips), within_s=PATIENCE_S, what="an open breaker")
            play.found_after_s = time.monotonic() - began_s
        await play.fault_lasts()
        lasted_s = time.monotonic() - began_s
        counts = await shop.calls()
        made = counts["total"] - before
        await shop.shows(kind, is_on=False)
        if kind == "throttle":
            bound = RETRIES_FREE + THROTTLED_PER_S * lasted_s
            play.expect(
                counts["throttled"] <= bound, f"{counts['throttled']} of {made} calls in {lasted_s} s"
            )
        else:
            play.expect(not counts["throttled"], f"The platform bore fewer calls than were made: {counts}")
        retries, calls = await asyncio.to_thread(_retries, shop)
        play.expect(
            retries <= RETRIES_FREE + RETRY_SHARE * calls, f"{retries} of {calls} calls were made again"
        )

    return act


async def _has(shop: Shop, name: str) -> bool:
    return await asyncio.to_thread(shop.metric, name) > 0


def _retries(shop: Shop) -> tuple[float, float]:
    connector = f'connector="{shop.platform}"'
    return (
        shop.metric(f'synchub_upstream_retries_total{{{connector},outcome="made"'),
        shop.metric(f"synchub_upstream_calls_total{{{connector}"),
    )


# Processes end in the middle.


async def try_kills(folder: Path, *, kills: int, changes: int, seed: int) -> PlatformReport:
    """Kill workers while they poll two silent platforms of which much has changed."""
    chance, began_s = random.Random(seed), time.monotonic()
    options = ("--skus", str(max(8, changes // 10)), "--rate", "400", "--seed", str(seed % 1000))
    async with (
        _hub(folder, {}, workers=3) as hub,
        joined(hub, "shopify", *options, "--orders", "0.2", *_MANY_POINTS) as shop,
        joined(hub, "http_json", *options, credentials=BY_TOKEN) as endpoint,
    ):
        shops = (shop, endpoint)
        for one in shops:
            await one.post("announce")
            await one.agree()
        await shop.shows("stall", is_on=True)
        for _ in range(kills):
            await _trade(shops, changes // kills)
            await _kill_while_called(hub, chance.choice(shops), chance)
        ended_s = time.monotonic()
        broken: list[str] = []
        for one in shops:
            try:
                await one.agree(2 * PATIENCE_S)
            except AssertionError as problem:
                broken.append(str(problem))
            broken += await _kept_badly(one)
        calls = sum([(await one.calls())["total"] for one in shops])
    return PlatformReport(
        fault=KILLS,
        seconds=time.monotonic() - began_s,
        found_after_s=None,
        well_after_s=time.monotonic() - ended_s,
        calls=calls,
        broken=tuple(broken),
    )


async def _trade(shops: Sequence[Shop], changes: int) -> None:
    """Have so many changes at each of them."""
    wanted = [(one, await one.changes() + changes) for one in shops]
    for one in shops:
        await one.post("resume")
    for one, count in wanted:
        await eventually(_has_changed(one, count), within_s=PATIENCE_S, what=f"{changes} changes")
        await one.post("pause")


def _has_changed(shop: Shop, count: int) -> Callable[[], Awaitable[bool]]:
    async def has() -> bool:
        return await shop.changes() >= count

    return has


async def _kill_while_called(hub: Deployment, shop: Shop, chance: random.Random) -> None:
    before = (await shop.calls())["total"]
    await eventually(partial(_is_called, shop, before), within_s=PATIENCE_S, what="a call")
    await lasting(chance.uniform(0, 0.05))
    victim = chance.choice([worker for worker in hub.workers if worker.runs])
    victim.kill()
    _log.warning("killed %s", victim.name)
    await asyncio.to_thread(hub.restore)


async def try_fail_over(folder: Path, length: Length, *, seed: int) -> PlatformReport:
    """Lose what a replica did not have yet, deliveries that were accepted among it: polls begin earlier."""
    chance, began_s = random.Random(seed), time.monotonic()
    options = ("--rate", str(length.rate), "--skus", str(length.skus), *_ORDERS)
    async with open_pair(folder / "store") as pair:
        settings = {"REDIS__URL": pair.door.url}
        async with (
            _hub(folder, settings) as hub,
            joined(hub, "shopify", *options, store=pair.first, door_url=pair.door.url) as shop,
        ):
            await shop.post("announce")
            await shop.agree()
            await shop.post("resume")
            await lasting(length.calm_s * chance.uniform(0.2, 1))
            pair.line.hole()
            await lasting(length.fault_s * chance.uniform(0.5, 1))
            await shop.post("pause")
            await shop.agree()  # so that nobody will tell it again
            pair.first.kill()
            pair.promote()
            pair.door.turn_to(pair.second.port)
            shop.store = pair.second
            ended_s = time.monotonic()
            lost = await shop.differences()
            broken: list[str] = [] if lost else ["Nothing was lost."]
            rewinds = 'synchub_poll_rewinds_total{connector="shopify",reason="loss"'
            await eventually(
                lambda: _has(shop, rewinds), within_s=PATIENCE_S, what="a poll that begins earlier"
            )
            await shop.agree()
            well_s = time.monotonic()
            broken += await _kept_badly(shop)
            calls = (await shop.calls())["total"]
    return PlatformReport(
        fault=FAIL_OVER,
        seconds=time.monotonic() - began_s,
        found_after_s=None,
        well_after_s=well_s - ended_s,
        calls=calls,
        broken=tuple(broken),
    )


KILLS: Final = "polled-and-killed"
FAIL_OVER: Final = "polled-fail-over"
_MANY_POINTS: Final = ("--credential", "points_a_second=20000")
_ORDERS: Final = ("--orders", "0.3", "--credential", "points_a_second=2000")
_NO_ORDERS: Final = ("--credential", "points_a_second=2000")
"""A platform that has forgotten everything has forgotten orders that the hub knows."""
_RARE: Final = {"POLLING__SAFETY_EVERY_MS": "60000"}
"""So that what is found is found by signs of life."""
_SELDOM: Final = {"POLLING__SAFETY_EVERY_MS": "3500"}
"""A change that a poll finds within two seconds may still be on its way, and proves nothing."""
_FAILING: Final = {
    "UPSTREAM__DEADLINE_MS": "1000",
    "UPSTREAM__BREAKER_WINDOW_MS": "5000",
    "UPSTREAM__BREAKER_CALLS_MIN": "3",
    "UPSTREAM__BREAKER_OPEN_MS": "300",
    "UPSTREAM__BREAKER_OPEN_MAX_MS": "1000",
}

SILENT: Final = (
    PlatformFault(name="silent-canary", platform="shopify", act=fall_silent, options=_ORDERS, settings=_RARE),
    PlatformFault(
        name="silent-heartbeat",
        platform="standard",
        act=miss_signs_of_life,
        options=("--heartbeat", "0.5"),
        settings=_RARE,
    ),
)
CHANGES_LOST: Final = (
    PlatformFault(name="silent-polled", platform="shiphero", act=fall_silent, settings=_SELDOM),
    PlatformFault(name="some-lost", platform="shopify", act=lose_some, options=_ORDERS, settings=_SELDOM),
    PlatformFault(
        name="tokens-forgotten",
        platform="http_json",
        act=begin_anew,
        credentials=BY_TOKEN,
        settings=_SELDOM,
    ),
    PlatformFault(
        name="page-left-out",
        platform="http_json",
        act=leave_out_a_page,
        credentials=BY_TIME,
        settings=_SELDOM,
    ),
)
NEARLY_WELL: Final = (
    PlatformFault(name="shop-begins-anew", platform="shopify", act=begin_anew, options=_NO_ORDERS),
    PlatformFault(name="deliveries-late", platform="shopify", act=be_late, options=_ORDERS),
    PlatformFault(name="answers-late", platform="shopify", act=answer_late, options=_ORDERS),
)
CALLS_FAIL: Final = tuple(
    PlatformFault(
        name=f"calls-{kind}",
        platform="shopify",
        act=fail_calls(kind),
        options=(*_ORDERS, "--credential", "throttle=429"),
        settings=_FAILING,
    )
    for kind in ("throttle", "slow", "half", "html", "down")
)
PLATFORM_FAULTS: Final = (*SILENT, *CHANGES_LOST, *NEARLY_WELL, *CALLS_FAIL)
