"""The store's clock steps by two minutes, either way: no hold ends early, and none lives on.

The clock is falsified by libfaketime, which `make witness` installs through Debian.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from synchub.safety import clock_skew_s
from tests.support.buyers import Shop, left, line
from tests.support.hub import running_hub
from tests.support.valkey import Valkey
from tests.support.wait import eventually, lasting
from workers.reaper import Reaper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.buyers import Buyer
    from tests.support.hub import Site

TTL_MS: Final = 4_000
LATE_S: Final = 1.0
LIBRARY: Final = "faketime/libfaketime.so.1"


class FalseClock:
    """What the server takes for the time: the true one and an offset."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "offset"
        self.step(0)

    def step(self, seconds: int) -> None:
        """Let it be so much ahead, or behind."""
        draft = self._file.with_suffix(".new")
        draft.write_text(f"{seconds:+d}\n", encoding="ascii")
        draft.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a server believe it."""
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def _library() -> Path:
    if shutil.which("faketime") is None:
        pytest.skip("run by `make witness`")
    return next(path for path in Path("/usr/lib").glob(f"*/{LIBRARY}"))


@pytest.fixture
def clock(tmp_path: Path) -> FalseClock:
    """The clock of the store."""
    return FalseClock(tmp_path)


@pytest.fixture
def store(tmp_path: Path, clock: FalseClock) -> Iterator[Valkey]:
    """A server that reads it."""
    if os.environ.get("WITNESS_SERVER"):
        pytest.skip("another server's allocator does not bear a false clock")
    server = Valkey(tmp_path / "valkey")
    server.environment = clock.environment
    with server:
        yield server


@pytest.mark.parametrize("step_s", [120, -120])
async def test_a_step_of_the_stores_clock_ends_no_hold_early_and_keeps_none_alive(
    store: Valkey, clock: FalseClock, step_s: int
) -> None:
    async with running_hub(store.url) as site, _reaping(site):
        shop = Shop(site=site)
        await shop.has(10)
        buyer = await shop.buyer()
        asked_s = time.monotonic()
        await buyer.hold(line(4), ttl_ms=TTL_MS)
        granted_s = time.monotonic()
        clock.step(step_s)
        with store.client() as client:
            ahead_s = client.time()[0] - time.time()
            assert abs(ahead_s - step_s) < 2, "the clock was not falsified"
        # Rates are counted by that clock: the first request after a step back may have to wait.
        await eventually(lambda: _is_answered(buyer), what="an answer after the step")
        while time.monotonic() < asked_s + TTL_MS / 1000 - LATE_S:
            assert await left(buyer) == 6
            await lasting(0.1)
        await eventually(lambda: _is_back(buyer), what="the end of the hold")
        late_s = time.monotonic() - granted_s - TTL_MS / 1000
        assert late_s < LATE_S, f"the hold lived {late_s:.1f} s longer than it should"
        assert abs(await clock_skew_s(site.hub.client) - step_s) < 2, "nobody is told of it"


@contextlib.asynccontextmanager
async def _reaping(site: Site) -> AsyncIterator[None]:
    task = asyncio.create_task(Reaper(site.hub).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _is_answered(buyer: Buyer) -> bool:
    heard = await buyer.site.ask("GET", "/v1/stock/TEE", headers=buyer.headers)
    return heard.status == 200


async def _is_back(buyer: Buyer) -> bool:
    return await left(buyer) == 10
