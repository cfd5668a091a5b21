"""A merchant's ledger written by hand, and an archive of it in a folder of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from synchub.archive import operations as archive
from synchub.archive import store
from synchub.archive.model import Extent, Log, Turn
from synchub.archive.operations import Archivist
from synchub.keyspace import MerchantKeys
from synchub.settings import ArchiveSettings, RedisSettings, Settings, StockSettings

if TYPE_CHECKING:
    from pathlib import Path

    from synchub.archive.model import Finding, Note
    from synchub.lua import Executes
    from synchub.redis import CoalescingRedis, Part


def effect(seq: int, **changes: str) -> dict[str, str]:
    """The fields of one entry as the apply script writes them."""
    fields = {
        "sku": f"TEE-{seq % 3}",
        "loc": "WH1",
        "acc": "wms",
        "item": f"item-{seq % 3}",
        "field": "level",
        "from": f"K{seq - 1}",
        "to": f"K{seq}",
        "v": f"{seq:020d}",
        "cause": f"delivery:{seq}",
        "at": str(1_795_255_200_000 + seq),
        "ats": str(seq),
    }
    return fields | changes


@dataclass(kw_only=True)
class Ledger:
    """The ledger of one merchant on a real store, and its archive."""

    redis: CoalescingRedis
    folder: Path
    merchant: str = "acme"
    settings: dict[str, Any] = field(default_factory=dict)
    ledger_max: int = 1_000_000
    head: int = 0

    @property
    def keys(self) -> MerchantKeys:
        """Where it lies."""
        return MerchantKeys(self.merchant)

    async def write(self, count: int, *, epoch: str | None = None, **changes: str) -> None:
        """Let so many things happen."""
        if epoch is not None or not self.head:
            await self.redis.execute("HSET", self.keys.head, "epoch", epoch or "first")
        for _ in range(count):
            self.head += 1
            flat = [part for pair in effect(self.head, **changes).items() for part in pair]
            await self.redis.execute("XADD", self.keys.ledger, f"{self.head}-0", *flat)
        await self.redis.execute("HSET", self.keys.head, "seq", self.head)

    async def lose_end(self, upto: int, *, epoch: str) -> None:
        """Come back without everything after a sequence, under a new name."""
        found = await self.redis.execute("XRANGE", self.keys.ledger, "-", f"{upto}-0")
        await self.redis.execute("DEL", self.keys.ledger)
        for entry_id, flat in found:
            await self.redis.execute("XADD", self.keys.ledger, entry_id, *flat)
        self.head = upto
        await self.redis.execute("HSET", self.keys.head, "epoch", epoch, "seq", upto)

    async def kept(self) -> list[int]:
        """Which entries the store still has."""
        found = await self.redis.execute("XRANGE", self.keys.ledger, "-", "+")
        return [int(entry_id.split(b"-")[0]) for entry_id, _ in found]

    def archivist(self, redis: Executes | None = None) -> Archivist:
        """Another process that archives."""
        chosen = Settings.model_construct(
            redis=RedisSettings(),
            stock=StockSettings.model_construct(ledger_max=self.ledger_max),
            archive=ArchiveSettings.model_construct(
                **{"folder": self.folder, "wait_ms": 0, "segment_max": 10, **self.settings}
            ),
        )
        return Archivist(redis or self.redis, chosen)

    async def extent(self, log: Log = Log.LEDGER) -> Extent:
        """How far it has come."""
        return (await store.read_extents(self.redis, self.keys))[log]

    async def turn(self, archivist: Archivist | None = None, log: Log = Log.LEDGER) -> Turn:
        """Let somebody take one turn."""
        return await (archivist or self.archivist()).turn(self.merchant, log, await self.extent(log))

    async def archive_all(self, archivist: Archivist | None = None) -> int:
        """Take turns until nothing waits; returns how many entries went into the archive."""
        total = 0
        archivist = archivist or self.archivist()
        while (turn := await self.turn(archivist)).entries:
            total += turn.entries
        return total

    async def note(self) -> Note | None:
        """What the store knows of the archive."""
        return (await self.extent()).note

    async def verify(self, *, with_note: bool = True) -> Finding:
        """What a walk over the ledger's archive shows."""
        notes = await archive.read_notes(self.redis, self.merchant) if with_note else {}
        return (await archive.verify(self.folder, self.merchant, notes))[0]

    def segments(self) -> list[Path]:
        """The files of the ledger's archive."""
        return sorted((self.folder / self.merchant / "ledger").glob("*.jsonl"))


class Watched:
    """A client that tells of each command before it is sent, and may fail instead."""

    def __init__(self, redis: Executes, tell: Any) -> None:
        self._redis = redis
        self._tell = tell

    async def execute(self, *command: Part) -> Any:
        """Tell, then send."""
        self._tell(command)
        return await self._redis.execute(*command)
