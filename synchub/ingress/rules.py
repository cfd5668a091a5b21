"""What a verified delivery means. Pure: equal deliveries give equal results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.events import Heartbeat
from synchub.errors import PayloadRefused
from synchub.ingress.model import Misunderstood, Queued, Understood
from synchub.stock.model import Outcome
from synchub.stock.rules import Circumstances, is_ahead, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.contract import Connector
    from synchub.stock.model import Applied
    from synchub.stock.rules import Row

US_PER_MS = 1000

NOT_UNDERSTOOD = {
    Outcome.SCALE_MIXED: "The source has ordered its reports by another scale before (sequence or time).",
    Outcome.NAMELESS: "An acknowledgement names neither an order nor a reference.",
    Outcome.PARKED_FULL: "Too many unmapped items wait for this merchant; map or remove some, then retry.",
}
"""Outcomes that a person has to look at."""


_ROWS: Final = "synchub-rows"
"""Header of what was polled and put aside; no platform can set it: only manifests' headers are kept."""


def delivery_of_rows(account: str, rows: Sequence[Row], *, arrived_at_us: int) -> Delivery:
    """Write down what a poll has brought so that it can be looked at, and retried, like a delivery."""
    return Delivery(
        account=account, headers={_ROWS: "1"}, body=orjson.dumps(rows), arrived_at_us=arrived_at_us
    )


def understand(
    queued: Queued, connector: Connector, merchant: str, *, future_skew_ms: int
) -> Understood | Misunderstood:
    """Turn a delivery into rows of the apply script.

    A delivery is taken whole or not at all: one row that cannot be believed
    quarantines the others with it, so that a retry repeats all of them.
    """
    delivery = queued.delivery
    if _ROWS in delivery.headers:
        rows = tuple(tuple(row) for row in orjson.loads(delivery.body))
        return Understood(queued=queued, merchant=merchant, rows=rows)
    topic = connector.manifest.topic_of(delivery)
    try:
        events = connector.normalize(topic, delivery)
    except PayloadRefused as refusal:
        return Misunderstood(queued=queued, reason=refusal.detail)
    latest_us = delivery.arrived_at_us + future_skew_ms * US_PER_MS
    if any(is_ahead(event, latest_us) for event in events):
        return Misunderstood(
            queued=queued, reason="It claims a time in the future; is the sender's clock right?"
        )
    repeat_id = connector.manifest.dedupe_id(delivery)
    about = Circumstances(
        account=delivery.account,
        at_ms=delivery.arrived_at_us // US_PER_MS,
        is_read=False,
        op=repeat_id,
        cause=f"delivery:{repeat_id}",
    )
    return Understood(
        queued=queued,
        merchant=merchant,
        rows=rows_of(events, about),
        topic=topic,
        heartbeats=tuple(event for event in events if isinstance(event, Heartbeat)),
    )


def complaint(results: Sequence[Applied]) -> str:
    """Return why a person has to look at an applied delivery; empty when nobody has to."""
    return next(
        (NOT_UNDERSTOOD[result.outcome] for result in results if result.outcome in NOT_UNDERSTOOD), ""
    )
