"""A system that posts signed JSON: every level at the start, then one for every change, and signs of life.

It acknowledges its own orders: its levels contain them, and nothing but an acknowledgement
says so where the hub is told of orders and levels by the same account.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import count
from typing import ClassVar

import orjson

from synchub.connector_kit.emulation import Change, Emulator, Options, Order, Outgoing, run
from synchub.connector_kit.signatures import sign_standard_webhooks


class StandardEmulator(Emulator):
    """Items and locations go by the merchant's own names, so there is no API to ask."""

    platform: ClassVar[str] = "standard"
    credentials_needed: ClassVar[tuple[str, ...]] = ("signing_secret",)

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._messages = count(1)
        # A sequence must grow over restarts too.
        self._first_number = time.time_ns() // 1000

    def level_deliveries(self, change: Change) -> list[Outgoing]:
        """Report the level, with a sequence that counts up."""
        row = {
            "sku": change.sku,
            "location_id": change.location,
            "mode": "absolute",
            "quantity": str(change.quantity),
            "state": "sellable",
            "as_of": _rfc3339(change.at_us),
        }
        data = {"sequence": self._first_number + change.number, "changes": [row]}
        return [self._deliver(change.item, data, change.at_us)]

    def placed_deliveries(self, order: Order) -> list[Outgoing]:
        """Tell the order, and that the levels to come contain it."""
        return [self._tell_order(order, order.ordered, "placed")]

    def cancelled_deliveries(self, order: Order) -> list[Outgoing]:
        """Tell what is left of the order, and that the levels to come have the other units back."""
        units, _ = order.cancellations[-1]
        return [self._tell_order(order, -units, f"cancelled-{len(order.cancellations)}")]

    def _tell_order(self, order: Order, taken: int, fact: str) -> Outgoing:
        line: dict[str, object] = {"order_id": self.order_id(order), "line": "1", "sku": order.sku}
        state = {
            **line,
            "quantity": str(order.quantity),
            "status": "placed" if order.quantity else "cancelled",
            "ordered_at": _rfc3339(order.placed_at_us),
            "happened_at": _rfc3339(order.changed_at_us),
        }
        if order.is_located:
            state["location_id"] = order.location
        if order.reference:
            state["reference"] = order.reference
        ack = {**line, "quantity": str(taken), "location_id": order.location}
        ack["key"] = f"{self.order_id(order)}-{fact}"
        acks = [] if self.options.ships_elsewhere else [ack]
        data = {"sequence": self._first_number + self.next_number(), "orders": [state], "acks": acks}
        return self._deliver(order.item, data, order.changed_at_us)

    def heartbeat_deliveries(self) -> list[Outgoing]:
        """Say that it is there, and when it will say so again."""
        every_s = self.options.heartbeat_s
        data: dict[str, object] = {"every_s": int(every_s) if every_s.is_integer() else every_s}
        return [self._deliver("", data, time.time_ns() // 1000, kind="stock.heartbeat")]

    def _deliver(
        self, item: str, data: dict[str, object], at_us: int, *, kind: str = "stock.changed"
    ) -> Outgoing:
        body = orjson.dumps({"type": kind, "timestamp": _rfc3339(at_us), "data": data})
        headers = sign_standard_webhooks(
            body,
            self.options.credentials["signing_secret"],
            message_id=f"msg_{self._first_number}_{next(self._messages)}",
            timestamp_s=at_us // 1_000_000,
        )
        return Outgoing(item=item, headers={"content-type": "application/json", **headers}, body=body)


def _rfc3339(at_us: int) -> str:
    seconds, micros = divmod(at_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{micros:06d}Z"


if __name__ == "__main__":
    run(StandardEmulator)
