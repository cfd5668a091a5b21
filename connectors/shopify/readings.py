"""What GraphQL's answers about items and levels say, in the hub's words.

A level and an order are told in the very words of their webhooks, so that whoever hears of them
twice counts once.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from connectors.shopify.addresses import number_of
from connectors.shopify.mapping import group_of, is_canary, sku_of, version_of
from connectors.shopify.orders import lines_of, variant_item
from synchub.connector_kit.contract import Record
from synchub.connector_kit.events import Catalogue, CatalogueStatus, Level, LevelStatus, Tickle
from synchub.connector_kit.payloads import quantity, time_us
from synchub.errors import PayloadRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from connectors.shopify.answers import ChangedItem, ChangedLevel
    from connectors.shopify.payloads import ItemHead, LevelFacts, LevelNode, Variant, VariantNode
    from synchub.connector_kit.events import StockEvent

LEVEL_TOPIC: Final = "inventory_levels/update"
ORDER_TOPIC: Final = "orders/updated"


def item_events(node: ItemHead, levels: Sequence[LevelNode] = ()) -> list[StockEvent]:
    """Return what an item is and has; nothing of the canary, which is no stock."""
    if is_canary(node.sku):
        return []
    item = number_of(node.id)
    known = [
        level_event(item, number_of(level.location.id), level, is_tracked=node.tracked) for level in levels
    ]
    return [_catalogue(node), *(_variant(variant, node.sku) for variant in _variants(node)), *known]


def variant_events(node: VariantNode) -> list[StockEvent]:
    """Return which SKU a variant is."""
    return [] if is_canary(node.sku) else [_variant(node, node.sku)]


def level_event(item: str, location: str, level: LevelFacts, *, is_tracked: bool) -> Level:
    """Return an item's level at a location."""
    status = _status(level, is_tracked=is_tracked)
    version = version_of(level.updated_at)
    return Level(
        item=item,
        location=location,
        quantity=_available(level) if status is LevelStatus.KNOWN else None,
        status=status,
        version=version,
        source_time_us=version.number,
    )


def item_record(node: ChangedItem) -> Record | None:
    """Return the record of a changed item; ``None``: it is the canary.

    It has no topic: whether a delivery tells every change that moves an item's time is not
    documented, so that a delivery is not to be missed. An item that is not counted (any more) has
    its levels read again, which need not have changed by themselves.
    """
    if is_canary(node.sku):
        return None
    item = number_of(node.id)
    fetched = () if node.tracked else (Tickle(item=item),)
    return _record(f"item/{item}", (*item_events(node), *fetched), node.updated_at, "")


def level_record(level: ChangedLevel, location: str) -> Record | None:
    """Return the record of a changed level; ``None``: it is the canary's."""
    if is_canary(level.item.sku):
        return None
    item = number_of(level.item.id)
    event = level_event(item, location, level, is_tracked=level.item.tracked)
    return _record(f"level/{item}/{location}", (event,), level.updated_at, LEVEL_TOPIC)


def order_record(content: Mapping[str, object]) -> Record | None:
    """Return the record of an order that is written as its webhooks write it; ``None``: it takes nothing."""
    events = lines_of(content, version_of)
    if not events:
        return None
    return _record(f"order/{content['id']}", events, str(content["updated_at"]), ORDER_TOPIC)


def _record(name: str, events: tuple[StockEvent, ...], changed_at: str, topic: str) -> Record:
    # Two changes within one second have the same time, so what they say tells them apart.
    said = hashlib.sha256(repr(events).encode()).hexdigest()[:16]
    changed_us = time_us(changed_at, "updatedAt")
    return Record(key=f"{name}/{changed_us}/{said}", events=events, changed_at_us=changed_us, topic=topic)


def _variants(node: ItemHead) -> Sequence[Variant]:
    return node.variants.nodes if node.variants else ()


def _variant(node: Variant, sku: str | None) -> Catalogue:
    # No status: whether the SKU is sold is said of the inventory item behind it.
    return Catalogue(
        item=variant_item(number_of(node.id)),
        group=group_of(number_of(node.product.id)),
        sku=_readable_sku(sku),
    )


def _catalogue(node: ItemHead) -> Catalogue:
    products = {variant.product.id for variant in _variants(node)}
    return Catalogue(
        item=number_of(node.id),
        # An item that several products share must not go when one of them goes.
        group=group_of(number_of(min(products))) if len(products) == 1 else None,
        sku=_readable_sku(node.sku),
        status=CatalogueStatus.ACTIVE,
    )


def _readable_sku(written: str | None) -> str | None:
    # One odd SKU must not keep the levels of all the others from being read.
    try:
        return sku_of(written)
    except PayloadRefused:
        return None


def _status(level: LevelFacts, *, is_tracked: bool) -> LevelStatus:
    if not level.is_active:
        return LevelStatus.CLOSED
    return LevelStatus.KNOWN if is_tracked else LevelStatus.UNTRACKED


def _available(level: LevelFacts) -> int:
    for named in level.quantities:
        if named.name == "available":
            return quantity(named.quantity, "available")
    msg = "A level has no available quantity."
    raise PayloadRefused(msg)
