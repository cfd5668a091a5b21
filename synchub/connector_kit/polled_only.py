"""``verify`` and ``normalize`` of a platform that posts nothing: whatever arrives is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.errors import PayloadRefused, SignatureRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.delivery import Delivery
    from synchub.connector_kit.events import StockEvent


def verify(delivery: Delivery, secrets: Sequence[str], *, now_ms: int) -> None:
    """Refuse the delivery.

    Raises:
        SignatureRefused: always.
    """
    del delivery, secrets, now_ms
    msg = "This platform is polled; nobody posts for it."
    raise SignatureRefused(msg)


def normalize(topic: str, delivery: Delivery) -> tuple[StockEvent, ...]:
    """Refuse the delivery.

    Raises:
        PayloadRefused: always.
    """
    del topic, delivery
    msg = "This platform is polled; it has no deliveries."
    raise PayloadRefused(msg)
