"""A reader of the feed over a WebSocket, with the face of the one that reads Server-Sent Events."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType

from tests.support.feed import Client, Frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import ClientSession, ClientWebSocketResponse

    from tests.support.feed import Site


class SocketClient(Client):
    """Reads one connection; what is read has the same form as a frame of the other rendering."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        super().__init__(socket._response)
        self.socket = socket

    async def ask(self, request: Any) -> None:
        """Send one message."""
        await self.socket.send_str(json.dumps(request))

    async def closed(self) -> int | None:
        """Read to the end and return the code of the close."""
        with contextlib.suppress(EOFError):
            while True:
                await self.next()
        return self.socket.close_code

    async def _read(self) -> Frame:
        message = await self.socket.receive()
        if message.type is not WSMsgType.TEXT:
            msg = f"closed: {message.type.name}"
            raise EOFError(msg)
        data: dict[str, Any] = json.loads(message.data)
        return Frame(data.pop("event"), data.pop("id", None), data)


@contextlib.asynccontextmanager
async def socket_to(site: Site, query: str = "", *, key: str = "acme.shopper") -> AsyncIterator[SocketClient]:
    """Follow a served feed."""
    url = str(site.server.make_url(f"/v1/feed/ws{query}"))
    async with open_socket(site.session, url, key) as client:
        yield client


@contextlib.asynccontextmanager
async def open_socket(
    session: ClientSession, url: str, key: str, **about: Any
) -> AsyncIterator[SocketClient]:
    """Follow the feed at an address; without a key the address has to hold a ticket."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    headers |= about.pop("headers", {})
    async with session.ws_connect(url, headers=headers, autoping=False, **about) as socket:
        yield SocketClient(socket)
