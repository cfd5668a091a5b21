"""A store on a disk so small that it can be filled, which only root can make."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import subprocess
from typing import TYPE_CHECKING, Final

from tests.faults.acts import Fault
from tests.support.wait import eventually, lasting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path
    from random import Random

    from tests.support.processes import Deployment

_SIZE: Final = "64m"
_PIECE: Final = bytes(65_536)


def can_mount() -> bool:
    """Whether this user may mount a disk of its own."""
    if os.geteuid() != 0:
        return False
    refused = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode
    return not refused


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk that lives in memory and goes away with the block."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def fill_disk(hub: Deployment, chance: Random, lasts_s: float) -> None:
    """Fill the store's disk, wait until the store has ended of it, make room, and start it again."""
    del chance
    async with filled(hub.valkey.data.parent):
        await eventually(lambda: not hub.valkey.runs, what="the end of a store that cannot write")
        await lasting(lasts_s)
    await asyncio.to_thread(hub.valkey.start)


@contextlib.asynccontextmanager
async def filled(disk: Path) -> AsyncIterator[None]:
    """Leave not a byte free on the disk, until the block ends."""
    ballast = disk / "ballast"
    await asyncio.to_thread(_fill, ballast)
    try:
        yield
    finally:
        ballast.unlink()


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for piece in (_PIECE, b"\0"):
            with contextlib.suppress(OSError):
                while True:
                    file.write(piece)
    assert os.statvfs(ballast.parent).f_bavail == 0, os.strerror(errno.ENOSPC)


DISK: Final = Fault(name="disk-full", act=fill_disk, is_store_away=True)
