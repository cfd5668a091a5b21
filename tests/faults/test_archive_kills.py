"""A process that archives is killed again and again: the chain is whole whenever somebody looks."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Final, TypeVar

import pytest

from synchub.redis import CoalescingRedis
from synchub.settings import RedisSettings
from tests.support.archive import Ledger
from tests.support.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

KILLS: Final = 12
ENTRIES: Final = 600
SEGMENT: Final = 5
_Told = TypeVar("_Told")

PROGRAM: Final = textwrap.dedent(
    """
    import asyncio, pathlib, sys
    from synchub.redis import CoalescingRedis
    from synchub.settings import RedisSettings
    from tests.support.archive import Ledger

    async def main() -> None:
        redis = CoalescingRedis(RedisSettings(url=sys.argv[1]))
        chosen = {"segment_max": 5, "checkpoint_every": 3}
        ledger = Ledger(redis=redis, folder=pathlib.Path(sys.argv[2]), settings=chosen, ledger_max=50)
        archivist = ledger.archivist()
        print("archiving", flush=True)
        while True:
            await ledger.turn(archivist)
            await archivist.write_checkpoint(ledger.merchant)

    asyncio.run(main())
    """
)


class Desk:
    """Somebody who looks at store and folder between two kills."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder

    def ask(self, act: Callable[[Ledger], Awaitable[_Told]]) -> _Told:
        """Do something with the ledger."""

        async def do() -> _Told:
            redis = CoalescingRedis(RedisSettings(url=self.url))
            try:
                return await act(Ledger(redis=redis, folder=self.folder, settings={"segment_max": SEGMENT}))
            finally:
                await redis.close()

        return asyncio.run(do())

    def kill_one_in_the_middle(self, segments: int) -> None:
        """Start an archivist and kill it as soon as it has written so many more segments."""
        command = [sys.executable, "-c", PROGRAM, self.url, str(self.folder)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            aim = min(self.count() + segments, ENTRIES // SEGMENT)
            while self.count() < aim and process.poll() is None:
                pass
            process.send_signal(signal.SIGKILL)

    def count(self) -> int:
        """How many segments there are."""
        return len(list((self.folder / "acme/ledger").glob("*.jsonl")))


@pytest.mark.fault
def test_killed_archivists_leave_a_chain_without_hole_or_repeat(redis_url: str, tmp_path: Path) -> None:
    chance = random.Random(7)
    desk = Desk(redis_url, tmp_path / "archive")
    desk.ask(lambda ledger: ledger.write(ENTRIES))
    for _ in range(KILLS):
        desk.kill_one_in_the_middle(chance.randrange(1, 9))
        # The lease of the dead ends by itself; here it need not be waited for.
        desk.ask(lambda ledger: ledger.redis.execute("DEL", ledger.keys.archive_lease))
        finding = desk.ask(lambda ledger: ledger.verify())
        assert (finding.broken, finding.missing) == ("", 0)
        [first_kept, *_] = desk.ask(lambda ledger: ledger.kept())
        assert first_kept <= finding.seq, "the store has trimmed what is not archived"
    desk.ask(lambda ledger: ledger.archive_all())
    finding = desk.ask(lambda ledger: ledger.verify())
    assert (finding.broken, finding.entries, finding.seq, finding.missing) == ("", ENTRIES, ENTRIES, 0)
