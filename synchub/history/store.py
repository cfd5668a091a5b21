"""One script and one reading, and nothing decided here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub import lua
from synchub.history.model import Finding, Head, Proof, Standing
from synchub.redis import RUN
from synchub.steps import saw, step_args

if TYPE_CHECKING:
    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.settings import Settings

PROVE = lua.load("prove")
_NOTHING = Head(epoch="", seq=0)


async def prove(
    redis: Executes,
    keys: MerchantKeys,
    *,
    seen: Head | None,
    written: Head | None = None,
    takes_on: bool = False,
    now_ms: int,
    settings: Settings,
) -> Proof:
    """Compare the history with what was seen of it, and rename it when something is missing.

    ``seen`` was seen under an earlier run of the server, ``written`` is what the archive has. With
    ``takes_on`` the present run is accepted from now on, if nothing is missing.
    """
    seen, written = seen or _NOTHING, written or _NOTHING
    finding, epoch, seq, feed_seq = await PROVE(
        redis,
        keys={"head": keys.head},
        args={
            **step_args(keys, now_ms=now_ms, settings=settings),
            # This script is what others wait for: it does not wait itself.
            "run": "",
            "server": RUN,
            "seen_epoch": seen.epoch,
            "seen_seq": seen.seq,
            "seen_ms": seen.at_ms,
            "written_epoch": written.epoch,
            "written_seq": written.seq,
            "window_ms": settings.reservations.regrant_window_ms,
            "takes_on": int(takes_on),
        },
    )
    saw(redis, keys, epoch, seq)
    return Proof(
        finding=Finding(finding.decode()), epoch=epoch.decode(), seq=int(seq), feed_seq=int(feed_seq)
    )


async def read_standing(redis: Executes, keys: MerchantKeys) -> Standing:
    """Return the head as it is; unlike a script's reading it waits for nobody's proof."""
    found = await redis.execute("HMGET", keys.head, "epoch", "seq", "feed_seq", "clock", "frozen")
    epoch, *numbers = found
    seq, feed_seq, clock_ms, frozen_until_ms = (int(number or 0) for number in numbers)
    return Standing(
        epoch=(epoch or b"").decode(),
        seq=seq,
        feed_seq=feed_seq,
        clock_ms=clock_ms,
        frozen_until_ms=frozen_until_ms,
    )
