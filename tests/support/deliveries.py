"""Really signed deliveries of the ``standard`` platform, with a default for everything that may vary."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from synchub.connector_kit.signatures import sign_standard_webhooks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.merchants import Merchant


def level(sku: str, quantity: object, *, location: str = "WH1", **more: object) -> dict[str, object]:
    """One row that says how many there are."""
    row = {"sku": sku, "location_id": location, "mode": "absolute", "quantity": quantity}
    return {**row, "state": "sellable", **more}


def delta(sku: str, amount: object, *, location: str = "WH1", **more: object) -> dict[str, object]:
    """One row that says how many more there are."""
    row = {"sku": sku, "location_id": location, "mode": "delta", "quantity": amount}
    return {**row, "state": "sellable", **more}


def body_of(*rows: Mapping[str, object], sequence: object = None, **more: object) -> bytes:
    """A body with these changes."""
    data: dict[str, Any] = {"changes": list(rows), **more}
    if sequence is not None:
        data["sequence"] = sequence
    return json.dumps({"type": "stock.changed", "data": data}).encode()


def signed(merchant: Merchant, body: bytes, *, message_id: str = "msg_1", age_s: float = 0) -> dict[str, str]:
    """The headers of a delivery signed ``age_s`` seconds ago."""
    headers = sign_standard_webhooks(
        body, merchant.secret, message_id=message_id, timestamp_s=int(time.time() - age_s)
    )
    return {"Content-Type": "application/json", **headers}
