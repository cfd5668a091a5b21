"""Everybody who takes part in the demo, put in their places and taken off again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final, Self

from synchub.demo.agent import Agent
from synchub.demo.counters import Counters
from synchub.demo.emulators import Platform
from synchub.demo.merchant import Merchant
from synchub.demo.model import CAST, MERCHANT
from synchub.demo.orders import OrderDesk
from synchub.demo.shopper import Shopper
from synchub.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aiohttp

    from synchub.demo.model import PlannedFault, Truth
    from synchub.demo.screen import Screen
    from synchub.local_hub import LocalHub

CALL_S: Final = 5.0
"""How long an emulator or the hub's numbers may take to answer."""

PARK_S: Final = 3.0
"""How long to look on while first deliveries come to wait for their mapping; it is only for show."""

FIRST_SNAPSHOT_S: Final = 20.0
_PAUSE_S: Final = 0.05


class Stage:
    """Platforms, merchant, agent and the hub's counters; ``start`` begins the play."""

    def __init__(self, hub: LocalHub, screen: Screen, http: aiohttp.ClientSession) -> None:
        self.merchant = Merchant(hub)
        self.platforms = [Platform(cast, http, hub.data, screen.say) for cast in CAST]
        self.counters = Counters(http, [hub.url, hub.worker_url])
        self.agent = Agent(http, hub.url, "")
        channels = [one for one in self.platforms if one.cast.sells]
        [warehouse] = [one for one in self.platforms if not one.cast.sells]
        self.desk = OrderDesk(channels, warehouse)
        self.shopper = Shopper(http, hub.url, "", self.agent, self.desk)
        self.started_s = 0.0
        """Monotonic time of the emulators' start, from which faults are counted."""
        self.started_us = 0
        """The same by the wall clock."""
        self.first_seq = 0
        self._hub = hub
        self._screen = screen
        self._http = http
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        hurry = asyncio.Event()
        await asyncio.gather(*(platform.stop(hurry) for platform in self.platforms))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.merchant.close()

    async def start(self, faults: Sequence[PlannedFault]) -> None:
        """Bring everybody in and let the platforms tell what they have.

        Raises:
            Misconfigured: an account is in the way, or somebody does not start.
        """
        await self._connect(faults)
        await self._admit_agent()
        settled = await self.merchant.settle_sales()
        if settled:
            self._screen.step(f"{settled} sales that the last run had left open are settled")
        self.first_seq = await self.merchant.ledger_seq()
        await self._each("announce")
        for platform in self.platforms:
            await self._map(platform)

    async def play(self) -> None:
        """Let the platforms change things at random, the channels sell, and the agent buy."""
        self._tasks += [
            asyncio.create_task(self.desk.run(), name="demo-orders"),
            asyncio.create_task(self.shopper.run(), name="demo-shopper"),
        ]
        await self._each("resume")

    async def pause(self) -> None:
        """Let them fall silent; what is sold or held is brought to its end."""
        self.shopper.stop()
        await self._each("pause")

    async def truths(self) -> list[Truth]:
        """Return what each platform has at this moment."""
        return list(await asyncio.gather(*(platform.truth() for platform in self.platforms)))

    async def _connect(self, faults: Sequence[PlannedFault]) -> None:
        credentials = {one.cast.account: await self.merchant.secrets_of(one.cast) for one in self.platforms}
        await asyncio.gather(
            *(
                one.start(self.merchant.hook_url(one.cast), credentials[one.cast.account], faults)
                for one in self.platforms
            )
        )
        # They count from the moment they listen, which is now, give or take a few milliseconds.
        self.started_s, self.started_us = time.monotonic(), time.time_ns() // 1000
        for one in self.platforms:
            is_new = await self.merchant.connect(one.cast, credentials[one.cast.account], one.address)
            how = "added" if is_new else "known from the last run"
            self._screen.step(f"account {one.cast.account} ({one.cast.platform}) is {how}")
        [warehouse] = [one for one in self.platforms if not one.cast.sells]
        await self.merchant.trust_reads(warehouse.cast)

    async def _admit_agent(self) -> None:
        key = await self.merchant.admit_agent()
        self.agent = Agent(self._http, self._hub.url, key)
        self.shopper = Shopper(self._http, self._hub.url, key, self.agent, self.desk)
        self._tasks.append(asyncio.create_task(self.agent.follow(), name="demo-agent"))
        try:
            await asyncio.wait_for(self.agent.is_up_to_date.wait(), FIRST_SNAPSHOT_S)
        except TimeoutError:
            msg = "The demo's agent got no snapshot from the feed."
            raise Misconfigured(msg) from None
        self._screen.step(f"an agent of {MERCHANT} follows {self._hub.url}/v1/feed")

    async def _map(self, platform: Platform) -> None:
        """Let the first deliveries wait for a while, as they would for a merchant who has mapped nothing."""
        cast = platform.cast
        truth = await platform.truth()
        [location] = truth.locations
        if not cast.ours or await self.merchant.is_mapped(cast, location):
            return
        waiting = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PARK_S):
                # Other processes set no event of ours.
                while (waiting := await self.merchant.parked(cast)) < len(truth.levels):  # noqa: ASYNC110 - see above
                    await asyncio.sleep(_PAUSE_S)
        await self.merchant.map_location(cast, location)
        self._screen.step(
            f"{waiting} items of {cast.account} waited until location {location} was mapped to {cast.ours}"
        )

    async def _each(self, what: str) -> None:
        await asyncio.gather(*(platform.do(what) for platform in self.platforms))
