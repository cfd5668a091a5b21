"""The demo's platforms: emulators that run as processes of their own and know only the hub's address."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from synchub.demo.model import Order, Told, Truth
from synchub.errors import Misconfigured
from synchub.kit.processes import Child, Command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import aiohttp

    from synchub.demo.model import Cast, PlannedFault

TRIES: Final = 40
"""A platform keeps trying for much longer; the demo is over by then."""

_STOP_S: Final = 3.0
_START_S: Final = 30.0


class Platform:
    """One emulated account."""

    def __init__(
        self, cast: Cast, http: aiohttp.ClientSession, data: Path, say: Callable[[str], None]
    ) -> None:
        self.cast = cast
        self.address = ""
        self._http = http
        self._data = data
        self._say = say
        self._child: Child | None = None
        self._read_to = 0
        self._orders_to = 0

    async def start(
        self, hook_url: str, credentials: Mapping[str, str], faults: Sequence[PlannedFault]
    ) -> None:
        """Start it, silent until ``announce`` and ``resume``.

        Raises:
            Misconfigured: it did not start.
        """
        module = f"connectors.{self.cast.platform}.emulator"
        argv = [sys.executable, "-m", module, "--hook-url", hook_url, "--locations", self.cast.place]
        argv += ["--paused", "--tries", str(TRIES), "--seed", str(self.cast.seed)]
        argv += ["--rate", str(self.cast.rate), "--orders", str(self.cast.orders)]
        argv += ["--ships-elsewhere"] if self.cast.sells else []
        argv += ["--heartbeat", self.cast.heartbeat] if self.cast.heartbeat else []
        argv += [text for pair in credentials.items() for text in ("--credential", "=".join(pair))]
        argv += [
            text
            for fault in faults
            if fault.account == self.cast.account
            for text in ("--fault", f"{fault.kind}@{fault.from_s}s-{fault.to_s}s")
        ]
        log = self._data / f"{self.cast.account}.log"
        name = f"emulator of {self.cast.account}"
        command = Command(name=name, argv=tuple(argv), log=log, stop_s=_STOP_S, reads_output=True)
        self._child = Child(command, self._say)
        await self._child.start()
        async with asyncio.timeout(_START_S):
            line = await self._child.first_line()
        if not line:
            msg = f"The {name} did not start.\n{self._child.last_words()}"
            raise Misconfigured(msg)
        self.address = f"http://127.0.0.1:{json.loads(line)['port']}"

    async def stop(self, hurry: asyncio.Event) -> None:
        """End it."""
        if self._child is not None:
            await self._child.stop(hurry)

    async def do(self, what: str) -> None:
        """``announce`` everything, ``pause`` or ``resume`` the random changes."""
        async with self._http.post(f"{self.address}/_emulator/{what}"):
            pass

    async def truth(self) -> Truth:
        """Return what it has, by SKU, and what became of its deliveries."""
        told = await self._get("truth")
        levels = {told["skus"][item]: sum(places.values()) for item, places in told["levels"].items()}
        locations = sorted({place for places in told["levels"].values() for place in places})
        counts = {name: value for name, value in told.items() if isinstance(value, int)}
        return Truth(account=self.cast.account, levels=levels, locations=tuple(locations), counts=counts)

    async def told(self) -> tuple[int, list[Told]]:
        """Return the changes since the last call, and up to which moment they are complete."""
        answer = await self._get(f"told?after={self._read_to}")
        changes = answer["changes"]
        if changes:
            self._read_to = changes[-1]["number"]
        return answer["now_us"], [self._told(change) for change in changes]

    async def changed_orders(self) -> list[Order]:
        """Return the orders that were placed or cancelled since the last call."""
        answer = await self._get(f"orders?after={self._orders_to}")
        self._orders_to = answer["upto"]
        return [
            Order(
                name=name,
                sku=one["sku"],
                ordered=one["ordered"],
                units=one["quantity"],
                reference=one["reference"],
                at_us=one["at_us"],
            )
            for name, one in answer["orders"].items()
        ]

    async def order(self, sku: str, units: int, reference: str) -> None:
        """Have it ship an order that another system has taken."""
        wish = {"sku": sku, "location": self.cast.place, "quantity": units, "reference": reference}
        async with self._http.post(f"{self.address}/_emulator/order", json=wish) as answer:
            answer.raise_for_status()

    async def cancel(self, name: str, units: int) -> None:
        """Have it ship less of an order."""
        wish = {"order": name, "quantity": units}
        async with self._http.post(f"{self.address}/_emulator/cancel", json=wish) as answer:
            answer.raise_for_status()

    def _told(self, change: Mapping[str, Any]) -> Told:
        names = ("sku", "location", "previous", "quantity", "at_us", "sent", "by_order")
        return Told(account=self.cast.account, **{name: change[name] for name in names})

    async def _get(self, what: str) -> dict[str, Any]:
        async with self._http.get(f"{self.address}/_emulator/{what}") as answer:
            found: dict[str, Any] = await answer.json()
        return found
