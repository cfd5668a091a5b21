"""Signatures after the Standard Webhooks specification: a list of them, any of which suffices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.connector_kit.signatures import verify_standard_webhooks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.delivery import Delivery


def verify(delivery: Delivery, secrets: Sequence[str], *, now_ms: int) -> None:
    """Return when one of the active secrets signed id, timestamp and body, five minutes ago at most.

    Raises:
        SignatureRefused: missing, malformed or foreign signature.
        DeliveryStale: rightly signed, at another time.
    """
    verify_standard_webhooks(delivery, secrets, now_ms=now_ms)
