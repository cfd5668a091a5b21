"""A program that follows a merchant's feed through every interruption and checks what it is promised.

It comes back with the position it has reached, keeps the state it was told, and
writes down every broken promise: a change left out, two numbers under one version,
an update before there is a state to update.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.merchants import Merchant

_PAUSE_S: Final = 0.05


class FeedReader:
    """Follows from the moment it is entered until it is left."""

    def __init__(self, url: Callable[[], str], merchant: Merchant) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.position: int | None = None
        """Ledger sequence up to which ``items`` is complete; None before the first snapshot."""
        self.broken: list[str] = []
        self.counts: Counter[str] = Counter()
        """Frames by kind, ways of resumption as ``resume:…``, connections and their failures."""
        self._url = url
        self._merchant = merchant
        self._cursor = ""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def reach(self, seq: int, *, within_s: float = 10) -> None:
        """Return when everything up to a sequence has been told."""
        await eventually(lambda: (self.position or 0) >= seq, within_s=within_s, what=f"the feed's {seq}")

    async def _follow(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, connect=2, sock_read=5)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                try:
                    await self._connect(session)
                except (aiohttp.ClientError, TimeoutError, ValueError) as problem:
                    self.counts[f"lost:{type(problem).__name__}"] += 1
                await asyncio.sleep(_PAUSE_S)

    async def _connect(self, session: aiohttp.ClientSession) -> None:
        headers = {"Authorization": f"Bearer {self._merchant.key}"}
        if self._cursor:
            headers["Last-Event-ID"] = self._cursor
        async with session.get(f"{self._url()}/v1/feed", headers=headers) as answer:
            self.counts[f"status:{answer.status}"] += 1
            if not answer.ok:
                return
            async for event, cursor, data in _events(answer.content):
                self.counts[event] += 1
                self._take(event, data)
                if cursor is not None:
                    self._cursor = cursor

    def _take(self, event: str, data: dict[str, Any]) -> None:
        if event == "hello":
            self._greeted(data)
        elif event == "reset":
            self.items, self.position = {}, None
        elif event == "snap":
            self._keep(data["items"])
        elif event == "snap_end":
            self.position = data["seq"]
        elif event in {"upd", "hb"}:
            self._cover(data)
            self._keep(data.get("items", ()))

    def _greeted(self, data: dict[str, Any]) -> None:
        self.counts[f"resume:{data['resume']}"] += 1
        if data["resume"] == "snapshot" and self._cursor:
            self.broken.append("a snapshot instead of a reset, although a position was given")
        if data["resume"] != "replay":
            self.items, self.position = {}, None

    def _cover(self, data: dict[str, Any]) -> None:
        """Believe a frame that begins at or before the position; what overlaps is known by its version."""
        if self.position is None:
            self.broken.append(f"an update from {data['prev']} before the snapshot has ended")
        elif data["prev"] > self.position:
            self.broken.append(f"an update from {data['prev']} where {self.position} had been reached")
        if data["seq"] < data["prev"]:
            self.broken.append(f"an update back from {data['prev']} to {data['seq']}")
        self.position = max(self.position or 0, data["seq"])

    def _keep(self, items: list[dict[str, Any]]) -> None:
        for item in items:
            known = self.items.get(item["sku"], item)
            if item["ver"] == known["ver"] and item["available"] != known["available"]:
                self.broken.append(f"{item['sku']} has two numbers under version {item['ver']}")
            if item["ver"] >= known["ver"]:
                self.items[item["sku"]] = item


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[tuple[str, str | None, dict[str, Any]]]:
    fields: dict[str, str] = {}
    async for raw in content:
        line = raw.decode().rstrip("\n")
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield fields["event"], fields.get("id"), json.loads(fields["data"])
            fields = {}
