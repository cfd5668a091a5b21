"""Webhooks made ready before the run: signed Standard Webhooks requests as bytes.

The receiver tolerates five minutes between a signature and its arrival, so a run's requests are signed
just before it and the generator only writes; each has its own id, so none is a duplicate.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from benchmarks.coverage import Pattern

_BODY = (
    '{{"type":"stock.changed","timestamp":"{time}","data":{{"source_event_id":"{id}","sequence":{sequence},'
    '"changes":[{{"sku":"{sku}","location_id":"WH1","mode":"absolute","quantity":"{quantity}",'
    '"state":"sellable","as_of":"{time}"}}]}}}}'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where deliveries go. ``url`` is the account's hook; ``run`` keeps ids of separate runs apart."""

    url: str
    secret: str
    run: str

    @property
    def host(self) -> str:
        """Host name of the hook."""
        return urlsplit(self.url).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        """Port of the hook."""
        return urlsplit(self.url).port or 80


def prepare(target: Target, pattern: Pattern, first: int, last: int, *, now_s: int) -> list[bytes]:
    """Return the complete requests of changes ``first`` to ``last`` (exclusive), signed for ``now_s``."""
    key = base64.b64decode(target.secret.removeprefix("whsec_"))
    moment = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    head = _head(target)
    return [_request(head, key, target.run, pattern, index, now_s, moment) for index in range(first, last)]


def signature(key: bytes, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Standard Webhooks ``v1``: HMAC-SHA256 over ``id.timestamp.body``."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def headers_of(secret: str, message_id: str, body: bytes) -> dict[str, str]:
    """The headers of one delivery, signed now."""
    key, now_s = base64.b64decode(secret.removeprefix("whsec_")), int(time.time())
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(now_s),
        "webhook-signature": signature(key, message_id, now_s, body),
    }


def _head(target: Target) -> str:
    path = urlsplit(target.url).path or "/"
    return (
        f"POST {path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
        "Content-Type: application/json\r\nUser-Agent: benchmarks\r\n"
    )


def _request(head: str, key: bytes, run: str, pattern: Pattern, index: int, now_s: int, moment: str) -> bytes:
    message_id = f"msg_{run}_{index}"
    body = _BODY.format(
        time=moment,
        id=message_id,
        sequence=index + 1,
        sku=pattern.sku(index),
        quantity=pattern.quantity(index),
    ).encode()
    return (
        f"{head}Content-Length: {len(body)}\r\nwebhook-id: {message_id}\r\nwebhook-timestamp: {now_s}\r\n"
        f"webhook-signature: {signature(key, message_id, now_s, body)}\r\n\r\n"
    ).encode() + body
