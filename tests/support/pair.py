"""Two servers, one the other's replica over a slow line, and doors through which processes reach one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from tests.support.fault_proxy import FaultProxy
from tests.support.valkey import Valkey
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

LAG_S: Final = 0.03

_PATIENCE_MS: Final = 2000
"""How long a server that hands over waits for the other to catch up; writes wait meanwhile."""
_OPTIONS: Final = {"repl-diskless-sync-delay": "0", "repl-timeout": "60"}


class Pair:
    """The servers, the line between them, and the doors; all lead to the first server at the beginning."""

    def __init__(self, first: Valkey, second: Valkey, line: FaultProxy, doors: list[FaultProxy]) -> None:
        self.first, self.second, self.line, self.doors = first, second, line, doors

    @property
    def door(self) -> FaultProxy:
        """The first of them."""
        return self.doors[0]

    def promote(self) -> None:
        """Make the second server a primary with whatever has reached it."""
        with self.second.client() as client:
            client.replicaof("NO", "ONE")

    def demote(self) -> None:
        """Make the first server a replica of the second: what only it had is gone."""
        with self.first.client() as client:
            client.replicaof("127.0.0.1", str(self.second.port))

    async def hand_over(self) -> None:
        """Let the first server hand over to the second as an operator does, losing nothing."""
        await eventually(self._hands_over, within_s=20, what="the hand-over")

    async def caught_up(self) -> None:
        """Return when the second server has what the first one has."""
        await eventually(self._is_caught_up, what="the replica")

    async def demoted(self) -> None:
        """Return when the first server has all from the second."""

        def is_in_step() -> bool:
            with self.first.client() as client:
                told = client.info("replication")
            return bool(told["role"] == "slave" and told["master_link_status"] == "up")

        await eventually(is_in_step, what="the deposed server in step")

    def _hands_over(self) -> bool:
        """Ask for it, again where it was given up, and say whether it is done."""
        with contextlib.suppress(RedisError), self.first.client() as one, self.second.client() as other:
            if other.info("replication")["role"] == "master":
                return True
            told = one.info("replication")
            if told["role"] == "master" and told["master_failover_state"] == "no-failover":
                port = str(self.second.port)
                one.execute_command("FAILOVER", "TO", "127.0.0.1", port, "TIMEOUT", str(_PATIENCE_MS))
        return False

    def _is_caught_up(self) -> bool:
        with contextlib.suppress(RedisError), self.first.client() as one, self.second.client() as other:
            replica = other.info("replication")
            at = one.info("replication")["master_repl_offset"]
            return bool(replica["master_link_status"] == "up" and replica["slave_repl_offset"] >= at)
        return False


@contextlib.asynccontextmanager
async def open_pair(
    folder: Path, *, doors: int = 1, options: Mapping[str, str] | None = None
) -> AsyncIterator[Pair]:
    """Start both and return when the replica is in step."""
    chosen = {**_OPTIONS, **(options or {})}
    first, second = Valkey(folder / "first", options=chosen), Valkey(folder / "second", options=_OPTIONS)
    await asyncio.gather(asyncio.to_thread(first.start), asyncio.to_thread(second.start))
    try:
        async with contextlib.AsyncExitStack() as opened:
            line = await opened.enter_async_context(FaultProxy(first.port))
            entered = [await opened.enter_async_context(FaultProxy(first.port)) for _ in range(doors)]
            with second.client() as client:
                client.replicaof("127.0.0.1", str(line.port))
            line.replies.latency_s = line.requests.latency_s = LAG_S
            pair = Pair(first, second, line, entered)
            await pair.caught_up()
            yield pair
    finally:
        first.kill()
        second.kill()
