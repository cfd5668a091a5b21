"""``python -m tests.support.polled_worker``: a worker whose ``standard`` platform can be polled, over HTTP.

Where, stands in the file ``platform-url`` of the folder that it runs in. Its leases are short, so that a
test need not wait long for another worker to take a dead one's turn over.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import orjson

from synchub.connector_kit.contract import Page, Record
from synchub.connector_kit.discovery import discover
from synchub.connector_kit.events import Delta, Level, OrderLine, OrderStatus
from synchub.connector_kit.manifest import LimitsOffer, PollingOffer
from workers.__main__ import main

if TYPE_CHECKING:
    from synchub.connector_kit.contract import Access, Connector
    from synchub.connector_kit.events import StockEvent

URL_FILE: Final = "platform-url"
LEASE_MS: Final = 800


class Client:
    """Reads the journal; a cursor is the number of facts that were read."""

    def __init__(self, access: Access) -> None:
        self._http = access.http
        self._url = Path(URL_FILE).read_text(encoding="utf-8")

    def cursor_at(self, _time_ms: int) -> str:
        """It cannot begin at a time."""
        return ""

    async def fetch_page(self, cursor: str) -> Page:
        """Ask for the facts that follow."""
        answer = await self._http.send("GET", f"{self._url}/page?cursor={cursor}")
        told = orjson.loads(answer.body)
        records = tuple(Record(key=fact["key"], events=(_event(fact),)) for fact in told["facts"])
        return Page(records=records, cursor=told["cursor"], is_last=told["is_last"])


def _event(fact: dict[str, Any]) -> StockEvent:
    item, amount = fact["item"], fact["amount"]
    if fact["kind"] == "level":
        return Level(item=item, location="WH1", quantity=amount)
    if fact["kind"] == "delta":
        return Delta(item=item, location="WH1", amount=amount, reason="moved")
    return OrderLine(order=fact["key"], line="1", item=item, quantity=amount, status=OrderStatus.PLACED)


def discovered() -> dict[str, Connector]:
    """The shipped connectors, of which one can be polled."""
    found = discover()
    changes = {
        "polling": PollingOffer(cursor="event_id", page_max=100),
        "limits": LimitsOffer(capacity=10_000, restored_per_s=10_000),
    }
    standard = found["standard"]
    manifest = standard.manifest.model_copy(update=changes)
    return {**found, "standard": replace(standard, client=Client, manifest=manifest)}


if __name__ == "__main__":
    with (
        mock.patch("synchub.hub.discover", discovered),
        mock.patch("synchub.polling.leases.LEASE_MS", LEASE_MS),
    ):
        sys.exit(main())
