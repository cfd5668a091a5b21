"""The demo's agent: follows ``/v1/feed`` over HTTP as any agent would, and resumes where it was cut off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from synchub.demo.model import Heard
from synchub.kit.backoff import full_jitter_s

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SILENT_S: Final = 5.0
"""The hub gives a sign of life several times a second; a connection silent for so long is dead."""

HEARD_MAX: Final = 100_000
"""Numbers kept for whoever measures, until they are taken."""

_OK: Final = 200
_PAUSE_BASE_S: Final = 0.1
_PAUSE_MAX_S: Final = 1.0
_FRAME_MAX: Final = 16_777_216


class Gap(Exception):
    """The feed did not continue where it stood."""


class Agent:
    """Knows a number for each SKU and how it came to know it."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str) -> None:
        self.known: dict[str, int] = {}
        self.delivered = 0
        self.gaps = 0
        self.seq = 0
        """Ledger sequence up to which it knows everything."""
        self.is_up_to_date = asyncio.Event()
        """Set once the first snapshot is complete."""
        self.heard: deque[Heard] = deque(maxlen=HEARD_MAX)
        self._http = http
        self._url = f"{url}/v1/feed"
        self._key = key
        self._cursor = ""
        self._shadow: dict[str, int] = {}

    async def follow(self) -> None:
        """Follow until cancelled, over any number of connections."""
        failures = 0
        while True:
            try:
                async for event, cursor, data in self._frames():
                    failures = 0
                    self._take(event, data)
                    self._cursor = self._cursor if cursor is None else cursor
            except (aiohttp.ClientError, TimeoutError, OSError):
                failures += 1
            except Gap:
                self.gaps += 1
            await asyncio.sleep(full_jitter_s(failures, base_s=_PAUSE_BASE_S, max_s=_PAUSE_MAX_S))

    async def _frames(self) -> AsyncIterator[tuple[str, str | None, dict[str, Any]]]:
        headers = {"Authorization": f"Bearer {self._key}"}
        if self._cursor:
            headers["Last-Event-ID"] = self._cursor
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENT_S, sock_read=SILENT_S)
        async with self._http.get(self._url, headers=headers, timeout=timeout) as answer:
            if answer.status != _OK:
                await asyncio.sleep(_PAUSE_BASE_S)
                return
            rest = b""
            async for part in answer.content.iter_any():
                *frames, rest = (rest + part).split(b"\n\n")
                for frame in frames:
                    yield _parsed(frame.decode())
                if len(rest) > _FRAME_MAX:
                    raise Gap

    def _take(self, event: str, data: dict[str, Any]) -> None:
        if event == "snap":
            self._shadow.update(_numbers(data))
        elif event == "snap_end":
            self._swap(data["seq"])
        elif event in {"upd", "hb"}:
            self._advance(data)
        elif event in {"hello", "reset"}:
            self._shadow = {}

    def _swap(self, seq: int) -> None:
        self.known, self._shadow, self.seq = self._shadow, {}, seq
        self._note(self.known)
        self.is_up_to_date.set()

    def _advance(self, data: dict[str, Any]) -> None:
        if data["prev"] > self.seq:
            raise Gap
        numbers = _numbers(data)
        self.known.update(numbers)
        self.seq = max(self.seq, data["seq"])
        self.delivered += len(numbers)
        self._note(numbers)

    def _note(self, numbers: dict[str, int]) -> None:
        now_us = time.time_ns() // 1000
        self.heard.extend(Heard(sku=sku, available=number, at_us=now_us) for sku, number in numbers.items())


def _parsed(frame: str) -> tuple[str, str | None, dict[str, Any]]:
    """Return event, position (None where the frame has no id) and data."""
    fields: dict[str, str] = {}
    for line in frame.split("\n"):
        name, _, value = line.partition(":")
        fields[name] = value.removeprefix(" ")
    data: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        data = json.loads(fields.get("data", ""))
    return fields.get("event", ""), fields.get("id"), data


def _numbers(data: dict[str, Any]) -> dict[str, int]:
    return {item["sku"]: item["available"] for item in data.get("items", ())}
