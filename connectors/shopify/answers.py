"""The fields that are read of GraphQL's answers about changes, orders and subscriptions."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import Field

from connectors.shopify.payloads import ItemHead, LevelFacts, NodeId, PageInfo, Units
from synchub.connector_kit.payloads import Payload, Rows

NodeT = TypeVar("NodeT", bound=Payload)


class Connection(Payload, Generic[NodeT]):
    """A page of something."""

    nodes: Rows[NodeT]
    page_info: PageInfo = Field(alias="pageInfo")

    def following(self, asked_after: str | None) -> str | None:
        """Return where the next page begins, if there is one that is not this one again."""
        end = self.page_info.end_cursor if self.page_info.has_next_page else None
        # Without permission for older orders the platform has named one and the same end for ever.
        return None if end == asked_after else end


class Whole(Payload, Generic[NodeT]):
    """What has parts."""

    parts: Connection[NodeT]


class PartsOf(Payload, Generic[NodeT]):
    """The answer about the parts of one thing; null when it has been deleted meanwhile."""

    node: Whole[NodeT] | None


class ChangedItem(ItemHead):
    """An item as a search for changes shows it."""

    updated_at: str = Field(alias="updatedAt")


class ChangedItems(Payload):
    """The answer to the search for changed items."""

    items: Connection[ChangedItem] = Field(alias="inventoryItems")


class ItemOfLevel(Payload):
    """What a level needs to know of its item."""

    id: str
    sku: str | None
    tracked: bool


class ChangedLevel(LevelFacts):
    """A level as its location shows it."""

    item: ItemOfLevel


class Place(Payload):
    """A location with some of its changed levels."""

    id: str
    levels: Connection[ChangedLevel] = Field(alias="inventoryLevels")


class ChangedLevels(Payload):
    """The answer to the search for changed levels at the next locations."""

    locations: Connection[Place]


class FurtherLevels(Payload):
    """The answer about one location; null when it has been deleted meanwhile."""

    location: Place | None


class Attribute(Payload):
    """What a buyer or a shop has noted."""

    key: str
    value: str | None


class OrderedLine(Payload):
    """One line of an order."""

    id: str
    quantity: Units
    variant: NodeId | None
    attributes: Rows[Attribute] = Field(alias="customAttributes")


class RefundedUnits(Payload):
    """Units of one line in one refund."""

    quantity: Units
    restock_type: str = Field(alias="restockType")
    line: NodeId = Field(alias="lineItem")


class ShippedUnits(Payload):
    """Units of one line in one shipment."""

    quantity: Units
    line: NodeId = Field(alias="lineItem")


class ShownRefund(Payload):
    """A refund with its first lines."""

    lines: Connection[RefundedUnits] = Field(alias="refundLineItems")


class ChangedOrder(Payload):
    """An order with its first lines and refunds."""

    id: str
    test: bool
    created_at: str = Field(alias="createdAt")
    updated_at: str = Field(alias="updatedAt")
    processed_at: str | None = Field(alias="processedAt")
    cancelled_at: str | None = Field(alias="cancelledAt")
    source_name: str | None = Field(alias="sourceName")
    tags: Rows[str]
    retail_location: NodeId | None = Field(alias="retailLocation")
    attributes: Rows[Attribute] = Field(alias="customAttributes")
    lines: Connection[OrderedLine] = Field(alias="lineItems")
    refunds: Rows[ShownRefund]


class ChangedOrders(Payload):
    """The answer to the search for changed orders."""

    orders: Connection[ChangedOrder]


class Shipment(Payload):
    """A shipment of an order, without its lines."""

    id: str
    status: str


class OrderParts(Payload):
    """Which refunds and shipments an order has."""

    refunds: Rows[NodeId]
    fulfillments: Rows[Shipment]


class PartsOfOrder(Payload):
    """The answer about one order's refunds and shipments; null when it has been deleted meanwhile."""

    node: OrderParts | None


class Hook(Payload):
    """One subscription that the app made in this shop through the API."""

    id: str
    topic: str
    uri: str
    format: str
    filter: str | None = None
    include_fields: Rows[str] = Field(default=(), alias="includeFields")


class Hooks(Payload):
    """The answer to which subscriptions there are."""

    hooks: Connection[Hook] = Field(alias="webhookSubscriptions")


class CanaryItem(Payload):
    """An item that may be the canary."""

    id: str
    sku: str | None


class CanaryItems(Payload):
    """Items with the canary's SKU."""

    nodes: Rows[CanaryItem]


class FoundCanary(Payload):
    """The answer to the search for the canary."""

    items: CanaryItems = Field(alias="inventoryItems")


class UserError(Payload):
    """Why a change was not made, in the platform's words."""

    message: str


class Change(Payload):
    """What became of a change."""

    user_errors: Rows[UserError] = Field(alias="userErrors")


class Outcome(Payload):
    """The answer to a mutation; null when it was refused as a whole."""

    outcome: Change | None
