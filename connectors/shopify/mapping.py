"""What a webhook says, in the hub's words.

The surprising fact: a level names neither SKU nor version. The SKU comes from the
``inventory_items`` topics, and the only order between two levels is ``updated_at``,
which stops at the second and carries the shop's own offset. ``orders.py`` reads orders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connectors.shopify.orders import lines_of
from connectors.shopify.payloads import (
    DisconnectBody,
    EditBody,
    ItemBody,
    LevelBody,
    RefundBody,
    RemovedBody,
)
from connectors.shopify.signature import triggered_at_us
from synchub.connector_kit.events import (
    Catalogue,
    CatalogueStatus,
    Heartbeat,
    Level,
    LevelStatus,
    Scale,
    Tickle,
    Version,
)
from synchub.connector_kit.payloads import (
    identifier,
    parse,
    quantity,
    read_json,
    resolution_us,
    time_us,
)
from synchub.errors import PayloadRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from synchub.connector_kit.delivery import Delivery
    from synchub.connector_kit.events import StockEvent

SECOND_US: Final = 1_000_000

CANARY_SKU: Final = "SYNCHUB-CANARY"
"""The product that is there only to be touched, so that the platform sends something."""


def normalize(topic: str, delivery: Delivery) -> tuple[StockEvent, ...]:
    """Return the events of one verified delivery.

    Raises:
        PayloadRefused: a topic that is not handled, or a body that is not of its form.
    """
    reading = READINGS.get(topic)
    if reading is None:
        msg = "The topic is not one that this connector reads."
        raise PayloadRefused(msg)
    return reading(read_json(delivery.body), delivery)


def version_of(written: str) -> Version:
    """Return the version that a time of change stands for, as coarse as it is written."""
    return Version(
        scale=Scale.TIME,
        number=time_us(written, "updated_at"),
        resolution=resolution_us(written),
    )


def sku_of(written: str | None) -> str | None:
    """Return the merchant's SKU without the spaces around it; an empty one is none.

    Raises:
        PayloadRefused: too long, or with characters that cannot be shown.
    """
    text = (written or "").strip()
    return identifier(text, "sku") if text else None


def is_canary(sku: str | None) -> bool:
    """Whether this SKU is that of the product which only proves that deliveries arrive."""
    return (sku or "").strip() == CANARY_SKU


def group_of(product: str) -> str:
    """Return the name under which all items of a product are known."""
    return f"product/{product}"


def _level(content: Mapping[str, object], _delivery: Delivery) -> tuple[StockEvent, ...]:
    body = parse(LevelBody, content)
    known = body.available is not None
    version = version_of(body.updated_at)
    return (
        Level(
            item=str(body.inventory_item_id),
            location=str(body.location_id),
            quantity=quantity(body.available, "available") if known else None,
            status=LevelStatus.KNOWN if known else LevelStatus.UNKNOWN,
            version=version,
            source_time_us=version.number,
        ),
    )


def _closed(content: Mapping[str, object], delivery: Delivery) -> tuple[StockEvent, ...]:
    # The topic is not signed: the body of a level must not close its location.
    _refuse_field(content, "available")
    body = parse(DisconnectBody, content)
    version = _version_of_triggering(delivery)
    return (
        Level(
            item=str(body.inventory_item_id),
            location=str(body.location_id),
            quantity=None,
            status=LevelStatus.CLOSED,
            version=version,
            source_time_us=version.number if version else None,
        ),
    )


def _version_of_triggering(delivery: Delivery) -> Version | None:
    # Cut to the second: a reconnection within the same second is then a tie and not
    # older than the disconnection.
    triggered_us = triggered_at_us(delivery)
    if triggered_us is None:
        return None
    return Version(
        scale=Scale.TIME,
        number=triggered_us - triggered_us % SECOND_US,
        resolution=SECOND_US,
    )


def _created(content: Mapping[str, object], _delivery: Delivery) -> tuple[StockEvent, ...]:
    # The levels of a tracked item follow as deliveries of their own; an untracked one has none.
    body = parse(ItemBody, content)
    if is_canary(body.sku):
        return ()
    return (_item(body),) if body.tracked else (_item(body), Tickle(item=str(body.id)))


def _updated(content: Mapping[str, object], _delivery: Delivery) -> tuple[StockEvent, ...]:
    # The body does not say what changed. When tracking was switched on or off, no
    # level known so far means what it meant, so the levels are always read again.
    body = parse(ItemBody, content)
    if is_canary(body.sku):
        return (Heartbeat(),)
    return (_item(body), Tickle(item=str(body.id)))


def _item(body: ItemBody) -> Catalogue:
    return Catalogue(item=str(body.id), sku=sku_of(body.sku), status=CatalogueStatus.ACTIVE)


def _item_removed(content: Mapping[str, object], _delivery: Delivery) -> tuple[StockEvent, ...]:
    _refuse_field(content, "sku")
    body = parse(RemovedBody, content)
    return (Catalogue(item=str(body.id), status=CatalogueStatus.REMOVED),)


def _product_removed(content: Mapping[str, object], _delivery: Delivery) -> tuple[StockEvent, ...]:
    _refuse_field(content, "title")
    body = parse(RemovedBody, content)
    return (Catalogue(item=None, group=group_of(str(body.id)), status=CatalogueStatus.REMOVED),)


def _order(content: Mapping[str, object], _delivery: Delivery) -> tuple[StockEvent, ...]:
    return lines_of(content, version_of)


def _edited(content: Mapping[str, object], _delivery: Delivery) -> tuple[StockEvent, ...]:
    # Differences of lines without a version: orders/updated states the outcome.
    parse(EditBody, content)
    return ()


def _refunded(content: Mapping[str, object], _delivery: Delivery) -> tuple[StockEvent, ...]:
    # One refund does not say what is open after all of them: orders/updated does.
    parse(RefundBody, content)
    return ()


def _refuse_field(content: Mapping[str, object], name: str) -> None:
    if name in content:
        msg = "The body belongs to another topic than the one it was sent under."
        raise PayloadRefused(msg)


READINGS: Final[Mapping[str, Callable[[Mapping[str, object], Delivery], tuple[StockEvent, ...]]]] = {
    "inventory_levels/update": _level,
    "inventory_levels/connect": _level,
    "inventory_levels/disconnect": _closed,
    "inventory_items/create": _created,
    "inventory_items/update": _updated,
    "inventory_items/delete": _item_removed,
    "products/delete": _product_removed,
    "orders/create": _order,
    "orders/updated": _order,
    "orders/cancelled": _order,
    "orders/edited": _edited,
    "refunds/create": _refunded,
}
