"""``synchub feed watch``: what an agent sees, one line for each change.

It keeps nothing but its position: it shows what happens, and nobody should decide by it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from synchub.errors import InvalidRequest
from synchub.local_hub import DEFAULT_DATA, read_hub_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

    from aiohttp import ClientResponse, StreamReader

DEFAULT_URL: Final = "http://127.0.0.1:8080"
RETRY_MS: Final = 1000
PAUSE_MAX_MS: Final = 10_000
SILENCE_S: Final = 10.0
"""A feed that says nothing for so long is dead: heartbeats come every third of a second."""
_COLOURS: Final = {"IN_STOCK": 32, "LOW_STOCK": 33, "BACKORDERED": 33, "RESERVED": 33}
_RED: Final = 31
_SECONDS_FROM_MS: Final = 10_000


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    watch = actions.add_parser("watch", help="print every change until Ctrl-C")
    watch.add_argument("--url", help=f"the hub (default: the one running in --data, else {DEFAULT_URL})")
    watch.add_argument("--data", type=Path, default=DEFAULT_DATA, metavar="DIR", help="data folder of `up`")
    watch.add_argument(
        "--key", required=True, metavar="KEY", help="an agent's key: itself, @FILE, or - for stdin"
    )
    chosen = watch.add_mutually_exclusive_group()
    chosen.add_argument("--sku", action="append", default=[], help="only this SKU (repeatable)")
    chosen.add_argument("--prefix", default="", help="only SKUs that start so")
    watch.add_argument("--json", action="store_true", help="one JSON object per frame, without heartbeats")


def run(args: argparse.Namespace) -> int:
    """Print changes until interrupted; 0 then, 1 when the hub refuses the request for good."""
    running = read_hub_file(args.data)
    url = args.url or (running["url"] if running else DEFAULT_URL)
    query = [("sku", sku) for sku in args.sku] + ([("prefix", args.prefix)] if args.prefix else [])
    show = Printer(as_json=args.json, in_colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    try:
        asyncio.run(watch(url.rstrip("/") + "/v1/feed", _key(args.key), query, show))
    except KeyboardInterrupt:
        return 0
    return 1


async def watch(url: str, key: str, query: list[tuple[str, str]], show: Printer) -> None:
    """Follow, and come back after every end; return when coming back is of no use."""
    timeout = ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S)
    async with ClientSession(timeout=timeout) as session:
        following = Following(session, url, key, query)
        while following.pause_ms is not None:
            try:
                async for event, data in following.frames():
                    show.frame(event, data)
            except Refused as refusal:
                show.note(refusal.detail)
            except (ClientError, OSError) as problem:
                show.note(f"The connection is lost ({type(problem).__name__}); coming back.")
            await asyncio.sleep((following.pause_ms or 0) / 1000)


class Refused(Exception):
    """The hub answered, but not with a feed."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Following:
    """One reader over many connections; all it keeps is its position."""

    def __init__(self, session: ClientSession, url: str, key: str, query: list[tuple[str, str]]) -> None:
        self._session = session
        self._url = url
        self._key = key
        self._query = query
        self._position = ""
        self._failures = 0
        self.pause_ms: int | None = 0
        """How long to wait before the next connection; None when there is to be none."""

    async def frames(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Connect once and yield its frames until the connection ends."""
        self.pause_ms = self._next_pause_ms()
        self._failures += 1
        headers = {"Authorization": f"Bearer {self._key}"}
        if self._position:
            headers["Last-Event-ID"] = self._position
        async with self._session.get(self._url, params=self._query, headers=headers) as response:
            if response.status != HTTPStatus.OK:
                await self._refuse(response)
            async for event, position, data in read_events(response.content):
                self._failures = 0
                self.pause_ms = _jittered(RETRY_MS)
                self._position = self._position if position is None else position
                if event == "bye":
                    self.pause_ms = data["retry_ms"] if data["reconnect"] else None
                yield event, data

    async def _refuse(self, response: ClientResponse) -> None:
        is_final = response.status < HTTPStatus.INTERNAL_SERVER_ERROR
        if is_final and response.status != HTTPStatus.TOO_MANY_REQUESTS:
            self.pause_ms = None
        try:
            detail = str((await response.json(content_type=None))["detail"])
        except (ValueError, KeyError, TypeError):
            detail = "Is this the address of a hub?"
        msg = f"The hub answered {response.status}. {detail}"
        raise Refused(msg)

    def _next_pause_ms(self) -> int:
        return _jittered(min(PAUSE_MAX_MS, RETRY_MS * 2 ** min(self._failures, 10)))


async def read_events(content: StreamReader) -> AsyncIterator[tuple[str, str | None, dict[str, Any]]]:
    """Yield name, id and data of each event of a Server-Sent Events stream."""
    fields: dict[str, str] = {}
    buffer = b""
    async for part in content.iter_any():
        *lines, buffer = (buffer + part).split(b"\n")
        for line in lines:
            if line:
                name, _, value = line.decode().partition(":")
                fields[name] = value.removeprefix(" ")
            elif "data" in fields:
                yield fields.get("event", "message"), fields.get("id"), json.loads(fields["data"])
                fields = {}


class Printer:
    """Shows frames: a line for a person, or JSON for a program."""

    def __init__(self, *, as_json: bool, in_colour: bool) -> None:
        self._as_json = as_json
        self._in_colour = in_colour

    def frame(self, event: str, data: dict[str, Any]) -> None:
        """Show one frame; heartbeats are not shown."""
        if event == "hb":
            return
        if self._as_json:
            print(json.dumps({"event": event, **data}, ensure_ascii=False), flush=True)
            return
        for item in data.get("items", ()):
            print(self._line(item))
        if event in {"hello", "snap_end", "reset", "bye"}:
            self.note(_sentence(event, data))
        if event == "source" and data["status"] != "fresh":
            self.note(f"Of account {data['account']} nothing is heard ({data['status']}).")
        sys.stdout.flush()

    def note(self, sentence: str) -> None:
        """Say something that is no change, on standard error."""
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()

    def _line(self, item: dict[str, Any]) -> str:
        state = f"{item['state']:<13}"
        if self._in_colour:
            state = f"\x1b[{_COLOURS.get(item['state'], _RED)}m{state}\x1b[0m"
        now = datetime.now(UTC)
        mark = "  degraded" if item["degraded"] else ""
        return (
            f"{now:%H:%M:%S}.{now.microsecond // 1000:03d}  {item['sku']:<24} {state} {item['available']:>8}"
            f"  v{item['ver']:<6} {_age(item['as_of'], now):>9} old  {item['source'] or '-'}{mark}"
        )


def _sentence(event: str, data: dict[str, Any]) -> str:
    if event == "hello":
        return f"Connected ({data['resume']}); the head is {data['head']} of history {data['epoch']}."
    if event == "snap_end":
        return f"Complete up to {data['seq']}; changes follow."
    if event == "reset":
        return f"Everything is told anew ({data['reason']})."
    return f"The hub ends this connection ({data['reason']})."


def _age(as_of: str | None, now: datetime) -> str:
    if as_of is None:
        return "?"
    age_ms = max(0, round((now - datetime.fromisoformat(as_of)).total_seconds() * 1000))
    return f"{age_ms} ms" if age_ms < _SECONDS_FROM_MS else f"{age_ms / 1000:.0f} s"


def _key(text: str) -> str:
    if text == "-":
        return sys.stdin.readline().strip()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_text(encoding="utf-8").strip()
        except OSError as problem:
            msg = f"The key file cannot be read: {problem.strerror}."
            raise InvalidRequest(msg) from problem
    return text


def _jittered(pause_ms: int) -> int:
    return int(random.uniform(pause_ms / 2, pause_ms))  # noqa: S311 - spreads reconnects, hides nothing
