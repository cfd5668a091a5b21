"""The faults: each does harm to a running hub and undoes it, as its surroundings would.

An act returns when everything it took away is back. How long it lasts is told in
seconds; everything random comes from the dice it is given.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from redis.exceptions import ResponseError

from synchub.ingress.store import GROUP
from synchub.keyspace import ingest_stream
from tests.support.processes import free_port
from tests.support.wait import eventually, lasting

if TYPE_CHECKING:
    from random import Random

    from tests.support.processes import Deployment, Process


_FILLING: Final = 5000
_SYNC_S: Final = 0.1
"""What one write to a very slow disk takes."""


class Act(Protocol):
    """One kind of harm."""

    async def __call__(self, hub: Deployment, chance: Random, lasts_s: float) -> None:
        """Do it and undo it."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """An act, and what callers of the hub may notice of it."""

    name: str
    act: Act
    is_store_away: bool = False
    """Deliveries are refused meanwhile, so some must have been answered 503 with Retry-After."""


async def kill_api(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Crash the api; a supervisor starts it again."""
    del chance, lasts_s
    hub.api.kill()
    await asyncio.to_thread(hub.restore)


async def kill_worker(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Crash one worker in the middle of whatever it does."""
    del lasts_s
    chance.choice(hub.workers).kill()
    await asyncio.to_thread(hub.restore)


async def kill_store(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Crash the store and start it again at once."""
    del chance, lasts_s
    await asyncio.to_thread(hub.valkey.restart)


async def kill_everything(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Crash all processes in random order, as a machine that loses power."""
    del lasts_s
    crashes = [hub.valkey.kill, *(process.kill for process in hub.processes.values())]
    chance.shuffle(crashes)
    for crash in crashes:
        crash()
    await asyncio.to_thread(hub.restore)


async def restart_in_turn(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """End every process in good order and start it again, one after the other, as an upgrade does."""
    del chance, lasts_s
    for process in hub.processes.values():
        status = await asyncio.to_thread(process.stop)
        assert status == 0, f"{process.name} ended with {status}"
        await asyncio.to_thread(hub.restore)


async def take_store_away(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """End the store in good order and bring it back later."""
    del chance
    await asyncio.to_thread(hub.valkey.stop)
    await lasting(lasts_s)
    await asyncio.to_thread(hub.valkey.start)


async def freeze_store(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Let the store hang: connections stay open and nothing is answered."""
    del chance
    hub.valkey.freeze()
    await lasting(lasts_s)
    hub.valkey.thaw()


async def slow_store(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Let the store stand still for a tenth of a second again and again, as on a disk that is so slow."""
    loop = asyncio.get_running_loop()
    until = loop.time() + lasts_s
    while loop.time() < until:
        hub.valkey.freeze()
        await lasting(_SYNC_S)
        hub.valkey.thaw()
        await lasting(chance.uniform(0.005, 0.02))


async def fill_memory(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Allow the store less memory than it uses: it refuses whatever needs more."""
    del chance
    with hub.valkey.client() as client:
        before = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
        await lasting(lasts_s)
        client.config_set("maxmemory", before)


async def kill_all_workers(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Crash every worker at once; deliveries wait until one is back."""
    del chance
    for worker in hub.workers:
        worker.kill()
    await lasting(lasts_s)
    await asyncio.to_thread(hub.restore)


async def freeze_api(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Stop the api for a while."""
    del chance
    await _freeze(hub.api, lasts_s)


async def freeze_worker(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Stop a worker for so long that another takes over what it has in hand; then it goes on."""
    await _freeze(chance.choice(hub.workers), lasts_s)


async def forget_scripts(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Make the store forget the hub's scripts, again and again."""
    loop = asyncio.get_running_loop()
    until = loop.time() + lasts_s
    with hub.valkey.client() as client:
        while loop.time() < until:
            client.script_flush()
            await lasting(chance.uniform(0.01, 0.2))


async def destroy_group(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Take the consumer group away, and what it knows of who has which delivery."""
    del chance, lasts_s
    with hub.valkey.client() as client:
        client.xgroup_destroy(ingest_stream(), GROUP)
        await eventually(lambda: bool(client.xinfo_groups(ingest_stream())), what="the group's return")


async def demote_store(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Make the store a replica of nobody, so that every write is answered READONLY."""
    del chance
    with hub.valkey.client() as client:
        client.replicaof("127.0.0.1", str(free_port()))
        await lasting(lasts_s)
        client.replicaof("NO", "ONE")


async def fail_snapshots(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Make the store's snapshots fail, so that it answers every write with MISCONF."""
    del chance
    in_the_way = hub.valkey.data / "dump.rdb"
    in_the_way.mkdir()
    with hub.valkey.client() as client:
        client.config_set("save", "3600 1")
        await _fail_a_snapshot(client)
        await lasting(lasts_s)
        in_the_way.rmdir()
        client.save()
        client.config_set("save", "")
    in_the_way.unlink()


async def load_slowly(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Crash the store and let it read its log slowly: it answers LOADING meanwhile."""
    del chance
    with hub.valkey.client() as client, client.pipeline(transaction=False) as pipe:
        # It looks up from reading once in 1024 commands, so a short log would be read in one go.
        for number in range(_FILLING):
            pipe.set("filling", number)
        pipe.delete("filling").execute()
    hub.valkey.kill()
    logs = (path.read_bytes() for path in hub.valkey.data.glob("appendonlydir/*.aof"))
    commands = max(1, sum(log.count(b"\n*") for log in logs))
    hub.valkey.options["key-load-delay"] = str(int(lasts_s * 1e6 / commands))
    try:
        await asyncio.to_thread(hub.valkey.start)
    finally:
        del hub.valkey.options["key-load-delay"]
    with hub.valkey.client() as client:
        await eventually(
            lambda: not client.info("persistence")["loading"],
            within_s=10 + 3 * lasts_s,
            what="the end of loading",
        )


FAULTS: Final = (
    Fault(name="api-killed", act=kill_api),
    Fault(name="worker-killed", act=kill_worker),
    Fault(name="store-killed", act=kill_store),
    Fault(name="everything-killed", act=kill_everything),
    Fault(name="restarted-in-turn", act=restart_in_turn),
    Fault(name="store-away", act=take_store_away, is_store_away=True),
    Fault(name="workers-gone", act=kill_all_workers),
    Fault(name="store-frozen", act=freeze_store, is_store_away=True),
    Fault(name="store-slow", act=slow_store),
    Fault(name="store-full", act=fill_memory, is_store_away=True),
    Fault(name="api-frozen", act=freeze_api),
    Fault(name="worker-frozen", act=freeze_worker),
    Fault(name="scripts-forgotten", act=forget_scripts),
    Fault(name="group-destroyed", act=destroy_group),
    Fault(name="store-read-only", act=demote_store, is_store_away=True),
    Fault(name="store-misconfigured", act=fail_snapshots, is_store_away=True),
    Fault(name="store-loading", act=load_slowly, is_store_away=True),
)


def fault(name: str) -> Fault:
    """The fault of that name."""
    return next(fault for fault in FAULTS if fault.name == name)


async def _freeze(process: Process, lasts_s: float) -> None:
    process.freeze()
    try:
        await lasting(lasts_s)
    finally:
        process.thaw()


async def _fail_a_snapshot(client: Any) -> None:
    def has_failed() -> bool:
        with contextlib.suppress(ResponseError):  # one is still being written
            client.bgsave()
        return bool(client.info("persistence")["rdb_last_bgsave_status"] == "err")

    await eventually(has_failed, what="a snapshot that fails")
