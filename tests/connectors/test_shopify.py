"""Shopify beyond what every connector must do: its two header families, its clock, its points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

import connectors.shopify
from connectors.shopify import normalize, verify
from connectors.shopify.mapping import sku_of
from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.events import (
    Level,
    LevelStatus,
    Scale,
    Tickle,
    Version,
)
from synchub.connector_kit.manifest import Manifest, load_manifest
from synchub.connector_kit.signatures import sign_hmac_sha256_base64
from synchub.errors import (
    DeliveryStale,
    PayloadRefused,
    SignatureRefused,
)

SECRET: Final = "shpss_test_secret"
TRIGGERED_AT: Final = "2026-01-02T08:04:06.123456789Z"
TRIGGERED_MS: Final = 1_767_341_046_123
ITEM: Final = "271878346596884015"
UPDATED_US: Final = 1_767_341_045_000_000


def manifest() -> Manifest:
    return load_manifest(Path(connectors.shopify.__file__).with_name("manifest.toml"))


def level_body(**fields: object) -> bytes:
    body = {
        "inventory_item_id": int(ITEM),
        "location_id": 24826418,
        "available": 7,
        "updated_at": "2026-01-02T03:04:05-05:00",
    }
    return json.dumps(body | fields).encode()


def delivery(
    body: bytes | None = None,
    *,
    topic: str = "inventory_levels/update",
    triggered_at: str = TRIGGERED_AT,
    prefix: str = "x-shopify-",
    **headers: str,
) -> Delivery:
    body = level_body() if body is None else body
    named = {"topic": topic, "triggered-at": triggered_at, "event-id": "e-1", "webhook-id": "w-1"}
    named["hmac-sha256"] = sign_hmac_sha256_base64(body, SECRET)
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    present = {prefix + name: value for name, value in named.items() if value}
    return Delivery(account="shop", headers=present, body=body, arrived_at_us=TRIGGERED_MS * 1000)


# --- who sent it


def test_the_signature_of_the_raw_body_with_its_escaped_slashes_is_accepted() -> None:
    body = (
        rb'{"inventory_item_id":271878346596884015,"location_id":24826418,"available":7,'
        rb'"updated_at":"2026-01-02T03:04:05-05:00","admin_graphql_api_id":'
        rb'"gid:\/\/shopify\/InventoryLevel\/24826418?inventory_item_id=271878346596884015"}'
    )
    signature = "bYQ9478Yw8Ht3foCR5+AvHeZLWzf/qdb3iHRNoP9j/Y="
    sent = Delivery(account="shop", headers={"x-shopify-hmac-sha256": signature}, body=body, arrived_at_us=0)
    verify(sent, [SECRET], now_ms=TRIGGERED_MS)


@pytest.mark.parametrize("prefix", ["x-shopify-", "shopify-"])
def test_both_header_families_are_accepted_with_any_active_secret(prefix: str) -> None:
    verify(delivery(prefix=prefix), ["old", SECRET], now_ms=TRIGGERED_MS)


@pytest.mark.parametrize("signature", ["", "=", "nonsense", "ü", "AAAA"])
def test_a_missing_or_malformed_signature_is_refused(signature: str) -> None:
    with pytest.raises(SignatureRefused):
        verify(delivery(hmac_sha256=signature), [SECRET], now_ms=TRIGGERED_MS)


def test_a_retry_after_five_hours_less_a_minute_is_still_accepted() -> None:
    verify(delivery(), [SECRET], now_ms=TRIGGERED_MS + (5 * 60 - 1) * 60_000)


@pytest.mark.parametrize("late_ms", [5 * 3_600_000 + 1, -10 * 60_000 - 1])
def test_a_rightly_signed_delivery_of_another_time_is_stale(late_ms: int) -> None:
    with pytest.raises(DeliveryStale):
        verify(delivery(), [SECRET], now_ms=TRIGGERED_MS + late_ms)


def test_a_wrongly_signed_delivery_is_never_called_stale() -> None:
    with pytest.raises(SignatureRefused):
        verify(delivery(), ["other"], now_ms=TRIGGERED_MS * 2)


@pytest.mark.parametrize("triggered_at", ["", "yesterday"])
def test_a_delivery_without_a_readable_time_is_accepted(triggered_at: str) -> None:
    verify(delivery(triggered_at=triggered_at), [SECRET], now_ms=TRIGGERED_MS * 2)


# --- which delivery it is


@pytest.mark.parametrize("prefix", ["x-shopify-", "shopify-"])
def test_the_topic_is_read_from_either_header_family(prefix: str) -> None:
    assert manifest().topic_of(delivery(prefix=prefix)) == "inventory_levels/update"


def test_another_subscription_to_the_same_event_is_a_duplicate() -> None:
    first, second = delivery(webhook_id="w-1"), delivery(webhook_id="w-2")
    assert manifest().dedupe_id(first) == manifest().dedupe_id(second)


def test_two_levels_of_one_event_are_two_facts() -> None:
    first, second = delivery(level_body(location_id=1)), delivery(level_body(location_id=2))
    assert manifest().dedupe_id(first) != manifest().dedupe_id(second)


def test_equal_levels_of_two_events_are_two_facts() -> None:
    assert manifest().dedupe_id(delivery(event_id="e-1")) != manifest().dedupe_id(delivery(event_id="e-2"))


def test_without_an_event_id_the_webhook_id_names_the_delivery() -> None:
    first = delivery(event_id="", triggered_at="2026-01-02T08:04:06Z")
    retried, other = delivery(event_id=""), delivery(event_id="", webhook_id="w-2")
    assert manifest().dedupe_id(first) == manifest().dedupe_id(retried)
    assert manifest().dedupe_id(first) != manifest().dedupe_id(other)


# --- what it says


def test_a_finer_time_gives_a_finer_version() -> None:
    (level,) = normalize(
        "inventory_levels/update", delivery(level_body(updated_at="2026-01-02T08:04:05.250Z"))
    )
    assert isinstance(level, Level)
    assert level.version == Version(scale=Scale.TIME, number=UPDATED_US + 250_000, resolution=1_000)


def test_a_disconnection_without_a_time_closes_the_location_without_a_version() -> None:
    body = json.dumps({"inventory_item_id": int(ITEM), "location_id": 24826418}).encode()
    (level,) = normalize("inventory_levels/disconnect", delivery(body, triggered_at=""))
    assert level == Level(item=ITEM, location="24826418", quantity=None, status=LevelStatus.CLOSED)


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("inventory_levels/disconnect", level_body()),
        ("inventory_items/delete", b'{"id": 1, "sku": "A", "tracked": true}'),
        ("products/delete", b'{"id": 1, "title": "A"}'),
    ],
)
def test_a_body_sent_under_a_removing_topic_it_does_not_belong_to_is_refused(topic: str, body: bytes) -> None:
    with pytest.raises(PayloadRefused):
        normalize(topic, delivery(body, topic=topic))


@pytest.mark.parametrize(
    "fields",
    [
        {"available": "7"},
        {"available": 7.5},
        {"available": True},
        {"available": 10**13},
        {"inventory_item_id": 0},
        {"inventory_item_id": 2**64},
        {"inventory_item_id": None},
        {"updated_at": "2026-01-02T03:04:05"},
        {"updated_at": 1_767_341_045},
    ],
)
def test_a_level_that_is_not_of_the_documented_form_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(PayloadRefused):
        normalize("inventory_levels/update", delivery(level_body(**fields)))


@pytest.mark.parametrize("missing", ["inventory_item_id", "location_id", "available", "updated_at"])
def test_a_level_that_lacks_a_field_is_refused(missing: str) -> None:
    body = json.loads(level_body())
    del body[missing]
    with pytest.raises(PayloadRefused, match=missing):
        normalize("inventory_levels/update", delivery(json.dumps(body).encode()))


@pytest.mark.parametrize("written", [None, "", "   "])
def test_an_empty_sku_is_no_sku(written: str | None) -> None:
    assert sku_of(written) is None


def test_spaces_around_a_sku_are_dropped() -> None:
    assert sku_of(" TEE 1\t") == "TEE 1"


def test_an_untracked_item_is_read_again() -> None:
    body = json.dumps({"id": int(ITEM), "sku": "TEE-1", "tracked": False}).encode()
    events = normalize("inventory_items/create", delivery(body, topic="inventory_items/create"))
    assert Tickle(item=ITEM) in events
