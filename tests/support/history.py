"""Processes that share a store which is put back to an earlier state, as a lost end or a fail-over does."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Final

from synchub.agents.model import Rate
from synchub.history.operations import Historian
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import now_ms
from synchub.policies.model import Terms
from synchub.redis import CoalescingRedis
from synchub.reservations import restoring
from synchub.reservations import store as reservations
from synchub.reservations.model import Asker, Change, Mode, Verb, Wanted, WantedLine
from synchub.reservations.rules import reservation_of, token_of
from synchub.settings import ArchiveSettings, RedisSettings, ReservationSettings, Settings
from synchub.stock import store as stock
from tests.support.rows import ITEM, read
from tests.support.wait import eventually_true

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from synchub.reservations.model import Reservation, Restored
    from synchub.stock.model import Answer
    from tests.support.rows import Row
    from tests.support.valkey import Valkey

KEYS: Final = MerchantKeys("acme")
MAC_KEY: Final = b"k" * 32
_RATE: Final = Rate(interval_us=1, burst=1_000_000)
_LIVES_MS: Final = 900_000


def keep(server: Valkey, folder: Path) -> Path:
    """Copy what the server has on disk now."""
    return shutil.copytree(server.data / "appendonlydir", folder)


def put_back(server: Valkey, kept: Path) -> None:
    """Crash the server and start it with what it had when that was kept."""
    server.kill()
    shutil.rmtree(server.data / "appendonlydir")
    shutil.copytree(kept, server.data / "appendonlydir")
    start(server)


def restart(server: Valkey) -> None:
    """Crash the server and start it with all that it had."""
    server.kill()
    start(server)


def start(server: Valkey) -> None:
    """Start it and return when it has read its log."""
    server.start()
    with server.client() as client:
        eventually_true(lambda: not client.info("persistence")["loading"], what="the end of loading")


class Party:
    """One process of the hub, as far as histories are concerned."""

    def __init__(self, url: str, archive: Path, *, window_ms: int) -> None:
        # Neither a file nor the environment is looked at.
        self.settings = Settings.model_construct(
            redis=RedisSettings(url=url),
            reservations=ReservationSettings(regrant_window_ms=window_ms),
            archive=ArchiveSettings(folder=archive, wait_ms=0),
        )
        self.redis = CoalescingRedis(self.settings.redis)
        self.historian = Historian(self.redis, self.settings)

    async def head(self) -> dict[str, str]:
        """Everything in the merchant's head."""
        flat = await self.redis.execute("HGETALL", KEYS.head)
        texts = [part.decode() for part in flat]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    async def epoch(self) -> str:
        return (await self.head())["epoch"]

    async def tell(self, *rows: Row) -> list[str]:
        applied = await stock.apply_rows(self.redis, KEYS, rows, now_ms=now_ms(), settings=self.settings)
        return [one.outcome.value for one in applied]

    async def stock_up(self, units: int = 10) -> None:
        """Have an authority that can be fetched say how many there are."""
        await self.redis.execute("HSET", f"{KEYS.tag}roles", "wms", "A|1|900000|s|m|1|1|0|0")
        await self.tell(read(units, at=now_ms()))

    async def answer(self, sku: str = ITEM) -> Answer:
        return (await stock.read_answers(self.redis, KEYS, [sku])).answers[0]

    async def let_time_pass(self) -> None:
        while (await stock.lapse(self.redis, KEYS, now_ms=now_ms(), settings=self.settings)).left:
            pass

    async def grant(
        self, units: int = 1, *, agent: str = "bot", ttl_ms: int = _LIVES_MS
    ) -> str | Reservation:
        """Hold units; what was done where nothing is held."""
        asker = Asker(keys=KEYS, agent=agent, tier="", channel="", buyer="", session="")
        lines = (WantedLine(sku=ITEM, quantity=units, terms=Terms(version=0)),)
        wanted = Wanted(
            asker=asker, lines=lines, mode=Mode.CART, ttl_ms=ttl_ms, expected_seq=None, replaces=""
        )
        request = reservations.Request(wanted=wanted, once="", fingerprint="", policy=0, rate=_RATE)
        [answer] = await reservations.grant(
            self.redis, KEYS, [request], now_ms=now_ms(), settings=self.settings
        )
        return reservation_of(answer.first) if answer.did == "held" else answer.did

    async def held(self, units: int = 1, *, agent: str = "bot", ttl_ms: int = _LIVES_MS) -> Reservation:
        found = await self.grant(units, agent=agent, ttl_ms=ttl_ms)
        assert not isinstance(found, str), found
        return found

    async def change(
        self, verb: Verb, hold: str, *, agent: str = "bot", order: str = ""
    ) -> str | Reservation:
        wanted = Change(verb=verb, hold=hold, ttl_ms=_LIVES_MS, order=order)
        request = reservations.ChangeRequest(change=wanted, agent=agent, once="", fingerprint="", rate=_RATE)
        answer = await reservations.change(self.redis, KEYS, request, now_ms=now_ms(), settings=self.settings)
        return reservation_of(answer.first) if answer.did == "done" else answer.did

    async def bought(self, hold: str, *, order: str = "") -> Reservation:
        found = await self.change(Verb.COMMIT, hold, order=order)
        assert not isinstance(found, str), found
        return found

    async def restore(
        self, *tokens: str, agent: str = "bot", merchant: str = KEYS.merchant
    ) -> list[Restored]:
        return await restoring.restore(
            self.redis,
            MerchantKeys(merchant),
            tokens,
            owner=restoring.Owner(agent=agent, tier=""),
            key=MAC_KEY,
            terms_of=lambda _sku, _channel: Terms(version=0),
            settings=self.settings,
        )


def token(reservation: Reservation) -> str:
    """What the agent was given with it."""
    return token_of(MAC_KEY, KEYS.merchant, reservation)


@contextlib.asynccontextmanager
async def parties(
    server: Valkey, archive: Path, count: int = 1, *, window_ms: int = 60_000
) -> AsyncIterator[Sequence[Party]]:
    """Processes that know of each other only by the store."""
    opened = [Party(server.url, archive, window_ms=window_ms) for _ in range(count)]
    try:
        yield opened
    finally:
        for party in opened:
            await party.redis.close()
