"""The fields that are read, of the webhook bodies and of the GraphQL answers.

Ids are 64-bit numbers in webhooks (larger than a double holds exactly) and global
ids such as ``gid://shopify/InventoryItem/42`` in GraphQL; inside the hub they are text.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, TypeAlias

from pydantic import Field

from synchub.connector_kit.events import MAX_QUANTITY
from synchub.connector_kit.payloads import Payload, Rows

PlatformId: TypeAlias = Annotated[int, Field(gt=0, lt=2**64)]
Units: TypeAlias = Annotated[int, Field(ge=0, le=MAX_QUANTITY)]


class LevelBody(Payload):
    """``inventory_levels/update`` and ``/connect``; ``available`` is null when it is not known."""

    inventory_item_id: PlatformId
    location_id: PlatformId
    available: int | None
    updated_at: str


class DisconnectBody(Payload):
    """``inventory_levels/disconnect``: two ids and no time."""

    inventory_item_id: PlatformId
    location_id: PlatformId


class ItemBody(Payload):
    """``inventory_items/create`` and ``/update``."""

    id: PlatformId
    sku: str | None = None
    tracked: bool


class RemovedBody(Payload):
    """``inventory_items/delete`` and ``products/delete``: an id and nothing else."""

    id: PlatformId


class RefundedLine(Payload):
    """Units of one line that were refunded, and what became of them."""

    line_item_id: PlatformId
    quantity: Units
    restock_type: str | None = None
    """``cancel``: they never left; ``return``: they came back; ``no_restock``: only money went back."""


class Refund(Payload):
    """One refund of an order; removing units in the order editor makes one too."""

    refund_line_items: Rows[RefundedLine] = ()


class ShippedLine(Payload):
    """Units of one line in one shipment; ``id`` is the line's."""

    id: PlatformId
    quantity: Units


class Fulfillment(Payload):
    """One shipment of an order."""

    status: str | None = None
    line_items: Rows[ShippedLine] = ()


class LineItem(Payload):
    """One line of an order. A tip or an item typed in by hand has no variant."""

    id: PlatformId
    variant_id: PlatformId | None = None
    quantity: Units
    """As ordered; it never falls."""
    properties: object = None


class OrderBody(Payload):
    """An order as it is now: ``orders/create``, ``orders/updated`` and ``orders/cancelled``."""

    id: PlatformId
    test: bool | None = None
    created_at: str
    updated_at: str
    processed_at: str | None = None
    """When it was placed; earlier than ``created_at`` when the order was brought from elsewhere."""
    cancelled_at: str | None = None
    source_name: str | None = None
    location_id: PlatformId | None = None
    tags: str | None = None
    note_attributes: object = None
    line_items: Rows[LineItem]
    refunds: Rows[Refund] = ()
    fulfillments: Rows[Fulfillment] = ()


class EditedOrder(Payload):
    """The order of an edit. Of the lines only differences are told."""

    order_id: PlatformId


class EditBody(Payload):
    """``orders/edited``: what was added and removed, without the order."""

    order_edit: EditedOrder


class RefundBody(Payload):
    """``refunds/create``: one refund, without the order's other refunds."""

    id: PlatformId
    order_id: PlatformId


class NodeId(Payload):
    """Anything of which only the global id is read."""

    id: str


class Variant(Payload):
    """One variant that is sold from an inventory item."""

    id: str
    product: NodeId


class Variants(Payload):
    """The variants of an item; today one, several once they may share an item."""

    nodes: Rows[Variant]


class NamedQuantity(Payload):
    """One quantity of a level."""

    name: str
    quantity: int


class LevelFacts(Payload):
    """What is true of one item at one location."""

    is_active: bool = Field(alias="isActive")
    updated_at: str = Field(alias="updatedAt")
    quantities: Rows[NamedQuantity]


class LevelNode(LevelFacts):
    """A level as its item shows it."""

    location: NodeId


class PageInfo(Payload):
    """Where the next page begins, if there is one."""

    has_next_page: bool = Field(alias="hasNextPage")
    end_cursor: str | None = Field(alias="endCursor")


class LevelConnection(Payload):
    """A page of an item's levels."""

    nodes: Rows[LevelNode]
    page_info: PageInfo = Field(alias="pageInfo")


class ItemHead(Payload):
    """An inventory item and what is sold from it."""

    id: str
    sku: str | None
    tracked: bool
    variants: Variants | None


class ItemNode(ItemHead):
    """An inventory item with the first page of its levels."""

    levels: LevelConnection = Field(alias="inventoryLevels")


class ItemNodes(Payload):
    """The answer to the levels query; null stands for an id the shop does not have."""

    nodes: Rows[ItemNode | None]


class VariantNode(Variant):
    """A variant as orders name it."""

    sku: str | None


class VariantNodes(Payload):
    """The answer to the variants query; null stands for an id the shop does not have."""

    nodes: Rows[VariantNode | None]


class ThrottleStatus(Payload):
    """The state of the app's point bucket in this shop."""

    currently_available: int | Decimal = Field(alias="currentlyAvailable")
    restore_rate: int | Decimal = Field(alias="restoreRate", gt=0)


class Cost(Payload):
    """What the query was estimated to cost."""

    requested: int | Decimal = Field(alias="requestedQueryCost")
    throttle: ThrottleStatus = Field(alias="throttleStatus")
