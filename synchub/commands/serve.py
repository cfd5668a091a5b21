"""``synchub serve``: one api process."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import uvloop

from synchub.commands.common import add_common, settings_of
from synchub.hub import check_start, open_hub
from synchub.kit.memory import spare_the_collector
from synchub.kit.tasks import end
from synchub.logs import get_logger, set_up_logs
from synchub.pipeline import follow_feed
from synchub.web.app import build_app
from synchub.web.serving import serving

if TYPE_CHECKING:
    import argparse

    from synchub.settings import Settings

_log = get_logger()


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_common(parser)
    parser.add_argument("--host", help="address to listen on (default: server.host)")
    parser.add_argument("--port", type=int, help="port to listen on (default: server.port)")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; 0 after an orderly end."""
    server = {name: value for name in ("host", "port") if (value := getattr(args, name)) is not None}
    settings = settings_of(args, server=server)
    set_up_logs(settings.log)
    uvloop.run(serve(settings))
    return 0


async def serve(settings: Settings) -> None:
    """Run the api process until it is told to stop.

    Raises:
        Misconfigured, UnsafeStore: it will not start like this.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_hub(settings) as hub:
        await check_start(hub)
        follower = asyncio.create_task(follow_feed(hub), name="follow-feed")
        async with serving(build_app(hub), settings.server) as port:
            spare_the_collector()
            _log.info("serving", host=settings.server.host, port=port)
            waiting = asyncio.create_task(stop.wait(), name="wait-for-stop")
            await asyncio.wait([waiting, follower], return_when=asyncio.FIRST_COMPLETED)
            if follower.done():
                await follower  # a fault of ours: end with its trace, and let the supervisor start anew
            _log.info("draining")
            await hub.feed.drain(settings.server.drain_ms)
        await end(follower, waiting)
