"""An agent's tool loop on top of the feed: drop it in, and connect ``TOOLS`` and ``call`` to your model.

    python agent.py https://hub.example.com sak_... TEE-RED-M MUG-1

The model never sees a number that might be too old: where the client cannot vouch for
one, the tool says so in words, and the model can tell its user the truth.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from synchub_client import FeedClient, HubRefused, NotServed

if TYPE_CHECKING:
    from collections.abc import Mapping

TOOLS = [
    {
        "name": "check_stock",
        "description": "How many units of a SKU can be promised right now.",
        "input_schema": {
            "type": "object",
            "properties": {"sku": {"type": "string"}, "quantity": {"type": "integer", "minimum": 1}},
            "required": ["sku", "quantity"],
        },
    }
]


async def call(feed: FeedClient, name: str, arguments: Mapping[str, Any]) -> str:
    """Carry out one call that the model has asked for, and return what it is told."""
    if name != "check_stock":
        return json.dumps({"error": f"there is no tool {name}"})
    sku, quantity = str(arguments["sku"]), int(arguments["quantity"])
    try:
        item = await feed.read(sku)
    except NotServed:
        return json.dumps({"sku": sku, "answer": "unknown at the moment; promise nothing"})
    return json.dumps(
        {
            "sku": sku,
            "state": item.state,
            "can_promise": item.is_orderable and item.available is not None and item.available >= quantity,
            "available": item.available,
            "rests_on_old_reports": item.degraded,
        }
    )


async def watch(feed: FeedClient, offered: dict[str, int]) -> None:
    """Notice when something that was offered to a buyer is no longer there."""
    async for change in feed:
        item = change.item
        wanted = offered.get(change.sku)
        if wanted is not None and (item is None or not item.is_orderable or (item.available or 0) < wanted):
            print(f"{change.sku}: tell the buyer before they pay", flush=True)


async def main(url: str, key: str, skus: list[str]) -> None:
    """Follow, and answer calls that stand line by line on standard input as JSON."""
    offered: dict[str, int] = {}
    async with FeedClient(url, key, skus=skus, bound_ms=1000) as feed:
        await feed.ready()
        watching = asyncio.create_task(watch(feed, offered))
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            answer = await call(feed, asked["name"], asked["arguments"])
            if json.loads(answer).get("can_promise"):
                offered[asked["arguments"]["sku"]] = int(asked["arguments"]["quantity"])
            print(answer, flush=True)
        watching.cancel()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
    except HubRefused as refusal:
        sys.exit(f"the hub refuses: {refusal}")
