"""Who sent a delivery: an HMAC of the raw body with the app's client secret.

The surprising fact: nothing but the body is signed. The topic, the event id and
the time of triggering are headers outside the MAC, so whoever holds one genuine
delivery can repeat its bytes under another time or id. The age check therefore
keeps out only honest lateness, deliveries from a queue that was stuck or a proxy
that replays; a forger would leave the header out. What stands against a repeated
body is its own ``updated_at``: an older level never replaces a newer one.

Deliveries come in two families of headers that differ in their prefix only:
``x-shopify-*`` for webhooks, ``shopify-*`` for the platform's newer events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.connector_kit.payloads import time_us
from synchub.connector_kit.signatures import verify_hmac_sha256_base64
from synchub.errors import DeliveryStale, PayloadRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from synchub.connector_kit.delivery import Delivery

SIGNATURE_HEADERS: Final = ("x-shopify-hmac-sha256", "shopify-hmac-sha256")
TRIGGERED_AT_HEADERS: Final = ("x-shopify-triggered-at", "shopify-triggered-at")

MAX_AGE_MS: Final = 5 * 3600 * 1000
"""Shopify retries for four hours with the original time; one hour of slack on top."""

MAX_AHEAD_MS: Final = 10 * 60 * 1000
"""How far the platform's clock may run before ours."""


def verify(delivery: Delivery, secrets: Sequence[str], *, now_ms: int) -> None:
    """Return when one of the secrets signed the body and it was not triggered too long ago.

    A delivery without a readable time of triggering is not stale: the header is
    optional, and it is not signed (see the module).

    Raises:
        SignatureRefused: missing, malformed or foreign signature.
        DeliveryStale: rightly signed, triggered over five hours ago or in the future.
    """
    verify_hmac_sha256_base64(delivery.body, _first(delivery.headers, SIGNATURE_HEADERS), secrets)
    triggered_us = triggered_at_us(delivery)
    if triggered_us is None:
        return
    age_ms = now_ms - triggered_us // 1000
    if age_ms > MAX_AGE_MS:
        msg = "The delivery was triggered longer ago than the platform goes on retrying."
        raise DeliveryStale(msg)
    if age_ms < -MAX_AHEAD_MS:
        msg = "The delivery says that it was triggered in the future."
        raise DeliveryStale(msg)


def triggered_at_us(delivery: Delivery) -> int | None:
    """Return when the platform says it triggered the delivery, if it says so readably."""
    written = _first(delivery.headers, TRIGGERED_AT_HEADERS)
    if not written:
        return None
    try:
        return time_us(written, "the time of triggering")
    except PayloadRefused:
        return None


def _first(headers: Mapping[str, str], names: Sequence[str]) -> str:
    return next((value for name in names if (value := headers.get(name, ""))), "")
