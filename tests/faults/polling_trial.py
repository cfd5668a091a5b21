"""Several workers poll one platform and are killed in the middle of pages: is each fact counted once?"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.test_utils import TestServer

from synchub import sync_keys
from tests.support.merchants import add_merchant
from tests.support.polled_worker import URL_FILE
from tests.support.processes import Deployment
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.merchants import Merchant

SKUS: Final = 4
SHORT_KILLS: Final = 1
LONG_KILLS: Final = 20
POLLING: Final = "poller-killed"
"""What the campaign calls it."""
PAGE: Final = 40
SETTINGS: Final = {
    "POLLING__LOOK_EVERY_MS": "50",
    "POLLING__SAFETY_EVERY_MS": "500",
    "UPSTREAM__PRIVATE_TARGETS": "127.0.0.0/8",
    "INGRESS__BATCH_MAX": "4",
}
_log = logging.getLogger(__name__)


@dataclass
class Journal:
    """A platform of which every fact is a movement: one lost or counted twice is a wrong number for ever."""

    facts: list[dict[str, Any]] = field(default_factory=list)
    truth: Counter[str] = field(default_factory=Counter)
    moves: int = 0
    calls: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, kind: str, item: str, amount: int) -> None:
        """Have one more fact."""
        self.facts.append({"key": f"f-{len(self.facts)}", "kind": kind, "item": item, "amount": amount})
        self.truth[item] += -amount if kind == "order" else amount
        self.moves += kind != "level"

    async def page(self, request: web.Request) -> web.Response:
        """Answer one call."""
        start = int(request.query["cursor"] or 0)
        end = min(start + PAGE, len(self.facts))
        self.calls += 1
        self.asked.set()
        told = {"facts": self.facts[start:end], "cursor": str(end), "is_last": end == len(self.facts)}
        return web.json_response(told)


@contextlib.asynccontextmanager
async def _a_platform(folder: Path) -> AsyncIterator[Journal]:
    journal = Journal()
    app = web.Application()
    app.router.add_get("/page", journal.page)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        await asyncio.to_thread(folder.mkdir)
        await asyncio.to_thread((folder / URL_FILE).write_text, url)
        yield journal


@dataclass(frozen=True, kw_only=True)
class PollReport:
    """What came out of one trial."""

    kills: int
    facts: int
    calls: int
    seconds: float
    broken: tuple[str, ...]


async def try_polling(folder: Path, *, kills: int, seed: int) -> PollReport:
    """Have three workers poll, kill one after the other in the middle of pages, and look at every number."""
    chance, started = random.Random(seed), time.monotonic()
    async with _a_platform(folder) as journal:
        for number in range(SKUS):
            journal.tell("level", f"TEE-{number}", 100_000)
        worker = ("tests.support.polled_worker",)
        with Deployment(folder, workers=3, settings=SETTINGS, worker=worker) as hub:
            merchant = await add_merchant(hub.valkey.url)
            await eventually(lambda: _numbers(hub, merchant) == journal.truth, within_s=30, what="the levels")
            for _ in range(kills):
                _trade(journal, chance, 6 * PAGE)
                await _kill_in_a_page(hub, journal, merchant, chance)
            # All that was read and is to be read; a number that is wrong stays wrong.
            await eventually(
                lambda: _cursor(hub, merchant) == str(len(journal.facts)), within_s=60, what="the end"
            )
            broken = _broken(hub, journal, merchant)
    seconds = time.monotonic() - started
    return PollReport(
        kills=kills, facts=len(journal.facts), calls=journal.calls, seconds=seconds, broken=broken
    )


def _broken(hub: Deployment, journal: Journal, merchant: Merchant) -> tuple[str, ...]:
    numbers, counted = _numbers(hub, merchant), _counted(hub, merchant)
    wrong = [
        f"{sku} is {numbers.get(sku)} and not {n}"
        for sku, n in journal.truth.items()
        if numbers.get(sku) != n
    ]
    if counted != journal.moves:
        wrong.append(f"{journal.moves} movements have {counted} entries in the ledger")
    return tuple(wrong)


def _trade(journal: Journal, chance: random.Random, count: int) -> None:
    for _ in range(count):
        kind = chance.choice(["delta", "order"])
        amount = chance.randint(1, 9) if kind == "order" else chance.choice([-3, -2, -1, 1, 2, 3])
        journal.tell(kind, f"TEE-{chance.randrange(SKUS)}", amount)


async def _kill_in_a_page(
    hub: Deployment, journal: Journal, merchant: Merchant, chance: random.Random
) -> None:
    """End a worker while a page is being applied; before the last one ends all are started again."""
    journal.asked.clear()
    await asyncio.wait_for(journal.asked.wait(), 20)
    # Somewhere within the steps that the page takes.
    before, wanted = _entries(hub, merchant), chance.randint(1, PAGE)
    await eventually(lambda: _entries(hub, merchant) >= before + wanted, within_s=20, what="half a page")
    victim = chance.choice([worker for worker in hub.workers if worker.runs])
    victim.kill()
    _log.warning("killed %s", victim.name)
    if sum(worker.runs for worker in hub.workers) == 1:
        await asyncio.to_thread(hub.restore)


def _numbers(hub: Deployment, merchant: Merchant) -> dict[str, int]:
    with hub.valkey.client() as client:
        found = [
            (f"TEE-{number}", client.hget(merchant.keys.sku(f"TEE-{number}"), "answer"))
            for number in range(SKUS)
        ]
    return {sku: int(answer.split("|")[2]) for sku, answer in found if answer}


def _entries(hub: Deployment, merchant: Merchant) -> int:
    with hub.valkey.client() as client:
        return int(client.xlen(merchant.keys.ledger))


def _counted(hub: Deployment, merchant: Merchant) -> int:
    with hub.valkey.client() as client:
        entries = client.xrange(merchant.keys.ledger)
    return sum(fields["field"] in {"delta", "sale"} for _, fields in entries)


def _cursor(hub: Deployment, merchant: Merchant) -> str:
    with hub.valkey.client() as client:
        stored = client.hget(sync_keys.cursors(merchant.name), merchant.account)
    return str(stored).rpartition("|")[2]
