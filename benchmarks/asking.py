"""The agents of a run, a process of its own: they hold one hot SKU, or ask about it, as fast as answers come.

Requests are made ready before the run, each hold with a key of its own. A run in which anything but the
expected status came is worth nothing and says so.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal
from urllib.parse import urlsplit

import orjson
import uvloop

from benchmarks.children import hear_line, say_line
from benchmarks.http1 import connect
from benchmarks.load import Plan, run_closed
from benchmarks.loops import ClosedLoop

Kind = Literal["hold", "ask"]
"""What the requests do: grant a hold of one unit, or ask for the present answer."""

WARM_UP = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """``count`` requests over ``connections``; ``run`` keeps keys of separate runs apart."""

    url: str
    key: str
    kind: Kind
    sku: str
    run: str
    count: int
    connections: int
    mode: str = "hold"
    ttl_ms: int = 60_000


def prepare(asking: Asking, count: int, *, part: str) -> list[bytes]:
    """Return complete requests; those of another ``part`` have other keys."""
    if asking.kind == "ask":
        return [_head(asking, "GET", f"/v1/stock/{asking.sku}") + b"\r\n"] * count
    body = orjson.dumps(
        {
            "lines": [{"sku": asking.sku, "quantity": 1}],
            "ttl_ms": asking.ttl_ms,
            "mode": asking.mode,
            "session": "bench",
        }
    )
    head = _head(asking, "POST", "/v1/reservations")
    about = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n".encode()
    return [
        b"%sIdempotency-Key: %s-%s-%d\r\n%s\r\n%s"
        % (head, asking.run.encode(), part.encode(), number, about, body)
        for number in range(count)
    ]


def expected(kind: Kind) -> frozenset[int]:
    """The statuses of a request that did what was asked; the bare server accepts what it does not do."""
    return frozenset({200}) if kind == "ask" else frozenset({201, 202})


async def warm_up(asking: Asking) -> None:
    """Ask a little first.

    Raises:
        SystemExit: something else was answered: the run would measure refusals.
    """
    loop = ClosedLoop(prepare(asking, WARM_UP, part="w"))
    host, port = _address(asking)
    connections = await connect(host, port, asking.connections, loop.answered)
    await loop.run(connections)
    for connection in connections:
        connection.close()
    unexpected = unexpected_of(asking.kind, loop.statuses)
    if unexpected:
        msg = f"the warm-up was answered {unexpected}"
        raise SystemExit(msg)


def unexpected_of(kind: Kind, statuses: Sequence[int]) -> list[int]:
    """Return each other status once."""
    return sorted(set(statuses) - expected(kind))


def _address(asking: Asking) -> tuple[str, int]:
    parts = urlsplit(asking.url)
    return parts.hostname or "127.0.0.1", parts.port or 80


def _head(asking: Asking, method: str, path: str) -> bytes:
    host, port = _address(asking)
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: benchmarks\r\n"
        f"Authorization: Bearer {asking.key}\r\n"
    ).encode()


async def main() -> None:
    """Serve one plan."""
    asking = Asking(**await hear_line())
    await warm_up(asking)
    requests = prepare(asking, asking.count, part="r")
    say_line({"ready": True})
    await hear_line()
    # A collection stops the process for milliseconds; a run is short and its garbage is small.
    gc.collect()
    gc.disable()
    plan = Plan(
        url=asking.url,
        secret="",
        run=asking.run,
        skus=1,
        first=0,
        last=asking.count,
        rate=0,
        connections=asking.connections,
        warm_up=0,
    )
    say_line(asdict(await run_closed(plan, requests)))


if __name__ == "__main__":
    uvloop.run(main())
