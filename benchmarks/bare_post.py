"""The floor of the receiver: an aiohttp server that reads a body and answers 202, and does nothing else.

uvloop, no access log, one process (as many as the hub has for requests). Says ``{"port": N}`` first.
"""

from __future__ import annotations

import asyncio
import signal

import uvloop
from aiohttp import web

from benchmarks.children import say_line


async def take(request: web.Request) -> web.Response:
    """Read the body and accept it."""
    await request.read()
    return web.Response(status=202)


async def main() -> None:
    """Listen on a free port of loopback until asked to stop."""
    app = web.Application()
    app.router.add_post("/hooks/{account}", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    say_line({"port": runner.addresses[0][1]})
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(main())
