"""The forms in which the emulated ShipHero speaks: parts of deliveries and of GraphQL answers.

Deliveries write three of their numbers as text and leave out what is allocated.
"""

from __future__ import annotations

import base64
import time
import uuid
import zlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synchub.connector_kit.emulation import Change

ACCOUNT: Final = 63898
_AS_TEXT: Final = frozenset({"inventory", "backorder_quantity", "on_hand"})


def envelope(webhook_type: str) -> dict[str, Any]:
    """Return what every delivery begins with."""
    return {
        "webhook_type": webhook_type,
        "account_id": ACCOUNT,
        "account_uuid": uuid_of("Account", str(ACCOUNT)),
    }


def numbers(sku: str, available: int) -> dict[str, int]:
    """Return ShipHero's numbers of one warehouse such that on_hand - allocated - reserve is the level."""
    kind = zlib.crc32(sku.encode())
    allocated, reserve, sell_ahead = kind % 4, 5 * (kind % 3 == 0), 10 * (kind % 5 == 0)
    return {
        "inventory": available + sell_ahead,
        "backorder_quantity": 0,
        "on_hand": available + allocated + reserve,
        "allocated": allocated,
        "sell_ahead": sell_ahead,
        "qty_in_totes": 0,
        "reserve": reserve,
        "non_sellable": kind % 2,
    }


def pushed(counted: Mapping[str, int]) -> dict[str, Any]:
    """Return the numbers as a delivery writes them: three as text, and allocated left out."""
    return {
        name: str(number) if name in _AS_TEXT else number
        for name, number in counted.items()
        if name != "allocated"
    }


def inventory_change(change: Change) -> dict[str, Any]:
    """Return the delivery about a movement of one bin, here the only one of its warehouse."""
    before = numbers(change.sku, change.previous)["on_hand"]
    after = numbers(change.sku, change.quantity)["on_hand"]
    return {
        **envelope("Inventory Change"),
        "warehouse_id": int(change.location),
        "warehouse_uuid": uuid_of("Warehouse", change.location),
        "user_id": 1,
        "user_uuid": uuid_of("User", "1"),
        "sku": change.sku,
        "quantity": after,
        "old_quantity": before,
        "previous_on_hand": before,
        "location_name": "A-01",
        "timestamp": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(change.at_us // 1_000_000)),
        "reason": "cycle count",
        "source": "manual",
        "lot_id": None,
        "lot_expiration": None,
    }


def node(sku: str, location: str, available: int) -> dict[str, Any]:
    """Return one row of a GraphQL answer."""
    counted = numbers(sku, available)
    return {
        "sku": sku,
        "on_hand": counted["on_hand"],
        "allocated": counted["allocated"],
        "reserve_inventory": counted["reserve"],
        "warehouse": {"legacy_id": int(location)},
    }


def no_credits(*, wanted: int, left: int, seconds: int) -> dict[str, Any]:
    """Return the error that a GraphQL answer holds when the bucket has run dry."""
    return {
        "message": f"There are not enough credits to perform the requested operation, which requires {wanted}"
        f" credits, but there are only {left} left. In {seconds} seconds you will have enough.",
        "code": 30,
        "operation": "warehouse_products",
        "request_id": uuid.uuid4().hex[:24],
        "required_credits": wanted,
        "remaining_credits": left,
        "time_remaining": f"{seconds} seconds",
    }


def uuid_of(kind: str, number: str) -> str:
    """Return what ShipHero calls a uuid: the kind and the number in base64."""
    return base64.b64encode(f"{kind}:{number}".encode()).decode()
