"""More than the hub can handle at once: callers that never finish, and a backlog that nobody works off."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.audit import audit, drained
from tests.support.load import Load
from tests.support.merchants import add_merchant
from tests.support.processes import Deployment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("floods")]

SETTINGS: Final = {
    "INGRESS__CLAIM_IDLE_MS": "500",
    "INGRESS__CLAIM_EVERY_MS": "100",
    "SERVER__HEADER_TIMEOUT_MS": "1000",
}
SLOW_CALLERS: Final = 800
BACKLOG_RATE: Final = 1200
MEMORY_MAX_KB: Final = 250_000


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A hub that is quickly out of patience."""
    with Deployment(tmp_path_factory.mktemp("hub"), workers=2, settings=SETTINGS) as started:
        yield started


async def test_callers_that_never_finish_their_head_keep_nobody_else_out(hub: Deployment, seed: int) -> None:
    merchant = await add_merchant(hub.valkey.url)
    async with Load(lambda: hub.url, merchant, seed=seed, rate=150) as load, _half_heads(hub) as callers:
        await load.prepare()
        await load.run(1.5)
        assert load.accepted == len(load.sent), load.answers
        ends = await asyncio.wait_for(asyncio.gather(*(reader.read() for reader, _ in callers)), 20)
        assert set(ends) == {b""}
        await drained(hub.valkey)
        assert await audit(hub.valkey, load) == []


async def test_a_backlog_is_worked_off_within_bounded_memory(hub: Deployment, seed: int) -> None:
    merchant = await add_merchant(hub.valkey.url)
    async with Load(lambda: hub.url, merchant, seed=seed, rate=BACKLOG_RATE) as load:
        await load.prepare()
        for worker in hub.workers:
            worker.kill()
        await load.run(2)
        assert load.accepted == len(load.sent), load.answers
        await asyncio.to_thread(hub.restore)
        await drained(hub.valkey)
        assert await audit(hub.valkey, load) == []
    assert all(_peak_kb(worker.pid) < MEMORY_MAX_KB for worker in hub.workers)


@contextlib.asynccontextmanager
async def _half_heads(
    hub: Deployment,
) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """Many callers that have sent half a request head and say no more."""
    callers = [await asyncio.open_connection("127.0.0.1", hub.api.port) for _ in range(SLOW_CALLERS)]
    for _, writer in callers:
        writer.write(b"POST /hooks/nobody HTTP/1.1\r\nHost: hub\r\nX-Slow: ")
    try:
        yield callers
    finally:
        for _, writer in callers:
            writer.close()


def _peak_kb(pid: int) -> int:
    told = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in told.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1])
