"""A disk without room: the store ends rather than forget, the hub says 503, and all heals with the room."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from tests.faults.conftest import SHORT_WAITS
from tests.faults.full_disk import DISK, can_mount, filled, small_disk
from tests.faults.trial import SHORT, try_out
from tests.support.audit import audit, drained
from tests.support.load import Load, unavailable
from tests.support.merchants import Merchant
from tests.support.processes import Deployment
from tests.support.reader import FeedReader
from tests.support.source import ROOT
from tests.support.up import Up
from tests.support.wait import eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.fault,
    pytest.mark.xdist_group("disk"),
    pytest.mark.skipif(not can_mount(), reason="only root can mount a small disk to fill"),
]


@dataclass(frozen=True)
class Embedded:
    """The store of a hub that was started with ``up``."""

    url: str

    def client(self) -> Redis:
        """A new client whose answers are text."""
        return Redis.from_url(self.url, decode_responses=True)


async def test_a_full_disk_loses_nothing_that_was_accepted(tmp_path: Path, seed: int) -> None:
    with small_disk(tmp_path / "disk") as disk:
        hub = Deployment(tmp_path / "hub", workers=1, settings=SHORT_WAITS)
        hub.move_store(disk)
        with hub:
            report = await try_out(hub, DISK, SHORT, seed=seed)
            assert report.broken == [], (report, hub.logs())


@pytest.mark.slow
async def test_a_hub_started_with_up_heals_by_itself_when_there_is_room_again(
    tmp_path: Path, seed: int
) -> None:
    with small_disk(tmp_path / "disk") as disk, Up(disk / "run", "--port", "0") as up:
        told = up.hub()
        store, merchant = Embedded(told["redis"]), add_by_command(up)
        async with (
            Load(lambda: told["url"], merchant, seed=seed) as load,
            FeedReader(lambda: told["url"], merchant) as reader,
        ):
            await load.prepare()
            over = asyncio.Event()
            sending = asyncio.create_task(load.run_until(over.is_set))
            async with filled(disk):
                await eventually(lambda: any(map(unavailable, load.sent)), what="a delivery answered 503")
            first = len(load.sent)
            await eventually(
                lambda: any(sent.is_accepted for sent in load.sent[first:]), what="an accepted delivery"
            )
            over.set()
            await sending
            await drained(store)
            assert await audit(store, load, reader) == [], up.errors()
            await load.resend()
            await drained(store)
            assert await audit(store, load, reader) == [], up.errors()


def add_by_command(up: Up) -> Merchant:
    """Add a merchant as a person does."""
    added = command(up, "account", "add", "standard", "--merchant", "acme")
    issued = command(up, "agent", "add", "--merchant", "acme")
    return Merchant(name="acme", account=added["account"], secret=added["secret"], key=issued["key"])


def command(up: Up, *words: str) -> dict[str, str]:
    """Run one command on the running hub and read its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "synchub", *words, "--json", "--data", str(up.data)],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found
