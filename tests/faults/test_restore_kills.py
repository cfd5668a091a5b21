"""``synchub audit restore`` is killed again and again: what is done is done, and nothing is done twice."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from synchub.kit.clock import now_ms
from synchub.redis import CoalescingRedis
from synchub.settings import RedisSettings
from tests.support.archive import Ledger
from tests.support.reference_holds import Wish
from tests.support.rows import ITEM, order, push
from tests.support.sales_driver import SalesDriver
from tests.support.sales_examples import connected
from tests.support.source import ROOT
from tests.support.wait import eventually_true

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartValkey
    from tests.support.valkey import Valkey

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.xdist_group("restore-kills")]

SALES: Final = 1200
KILLS: Final = 3
MERCHANT: Final = "acme"


@pytest.fixture
def server(own_valkey: StartValkey) -> Valkey:
    return own_valkey()


def test_a_restore_that_is_killed_again_and_again_ends_with_the_same_numbers(
    server: Valkey, tmp_path: Path
) -> None:
    with server.client() as client:
        driver = connected(SalesDriver(client, MERCHANT))
        assert isinstance(driver, SalesDriver)
        _sell(driver)
        before = (driver.answer(ITEM).ats, driver.open(ITEM))
        _archive(server.url, tmp_path / "archive")
        client.flushall()
        connected(driver)
        for kill in range(1, KILLS + 1):
            least = _sales(client) + SALES // (2 * KILLS)
            with _restoring(server.url, tmp_path) as process:
                eventually_true(partial(_is_time, client, least, process), what=f"the moment of kill {kill}")
                process.kill()
            assert driver.answer(ITEM).ats <= before[0]
        with _restoring(server.url, tmp_path) as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        told = json.loads(out)["restored"]
        assert told["differing"] == []
        assert told["sales"] + told["sales_known"] == SALES
        assert (driver.answer(ITEM).ats, driver.open(ITEM)) == before


def _sell(driver: SalesDriver) -> None:
    now = now_ms() - 3_600_000
    driver.apply([push(2 * SALES, version=1, at=now)], now)
    for number in range(0, SALES, 2):
        held = driver.grant([Wish(ITEM, 1)], now + number)
        driver.commit(held.hold, now + number, order=f"A{number}")
        driver.apply([order(1, at=now + number, name=f"B{number}", version=1)], now + number)


def _archive(url: str, folder: Path) -> None:
    async def do() -> None:
        redis = CoalescingRedis(RedisSettings(url=url))
        try:
            ledger = Ledger(redis=redis, folder=folder, merchant=MERCHANT, settings={"segment_max": 500})
            await ledger.archive_all()
        finally:
            await redis.close()

    asyncio.run(do())


def _sales(client: Any) -> int:
    count: int = client.hlen(f"{{{MERCHANT}}}:lines")
    return count


def _is_time(client: Any, least: int, process: subprocess.Popen[str]) -> bool:
    return _sales(client) >= least or process.poll() is not None


def _restoring(url: str, folder: Path) -> subprocess.Popen[str]:
    words = ["audit", "restore", "--merchant", MERCHANT, "--apply", "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "synchub", *words, "--redis", url, "--folder", str(folder / "archive")],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
