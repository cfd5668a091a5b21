"""The floor of receiver, holds and answers: an aiohttp server that does nothing but read and answer.

A POST is read and answered 202, a GET gets a fixed body as long as an answer about stock. uvloop, no access
log, one process (as many as the hub has for requests). Says ``{"port": N}`` first.
"""

from __future__ import annotations

import asyncio
import signal

import uvloop
from aiohttp import web

from benchmarks.children import say_line

ANSWER = (
    b'{"sku":"BENCH-00000","state":"IN_STOCK","available":10000001,' + b'"filling":"' + b"x" * 360 + b'"}'
)


async def take(request: web.Request) -> web.Response:
    """Read the body and accept it."""
    await request.read()
    return web.Response(status=202)


async def show(_: web.Request) -> web.Response:
    """Answer what it always answers."""
    return web.Response(body=ANSWER, content_type="application/json", headers={"Cache-Control": "no-store"})


async def main() -> None:
    """Listen on a free port of loopback until asked to stop."""
    app = web.Application()
    app.router.add_post("/hooks/{account}", take)
    app.router.add_post("/v1/reservations", take)
    app.router.add_get("/v1/stock/{sku:.+}", show)
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
