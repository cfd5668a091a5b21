"""The fields that are read of ShipHero's deliveries and answers; all others are ignored.

The same quantity is text in a delivery ("13") and a number in a GraphQL answer
(13), and either may be null.
"""

from __future__ import annotations

from pydantic import Field

from synchub.connector_kit.payloads import Payload, Rows


class UpdatedWarehouse(Payload):
    """The numbers of the warehouse where the movement happened."""

    warehouse_id: object
    inventory: object
    """on_hand - allocated + sell_ahead - reserve."""
    sell_ahead: object
    """Units that may be sold before they arrive."""


class InventoryRow(Payload):
    """One SKU of an Inventory Update. The totals beside ``updated_warehouse`` are the account's."""

    sku: object
    updated_warehouse: UpdatedWarehouse


class InventoryUpdate(Payload):
    """An Inventory Update: absolute numbers after a change."""

    inventory: Rows[InventoryRow]


class InventoryChange(Payload):
    """An Inventory Change: units moved in or out of one bin."""

    sku: object
    warehouse_id: object


class AllocatedLine(Payload):
    """Units of one line of an order that a warehouse has set aside."""

    id: object
    partner_line_item_id: object = None
    sku: object
    quantity: object


class OrderAllocated(Payload):
    """An Order Allocated: what one warehouse set aside for an order, under one reference."""

    allocation_reference: object
    warehouse_id: object
    order_id: object
    partner_order_id: object = None
    line_items: Rows[AllocatedLine]


class OrderDeallocated(Payload):
    """An Order Deallocated: an allocation that no longer holds; it names no lines."""

    allocation_reference: object
    order_id: object
    partner_order_id: object = None


class OrderCanceled(Payload):
    """An Order Canceled: ShipHero will not ship the order; it names no lines."""

    order_id: object
    partner_order_id: object = None


class Shipped(Payload):
    """A shipment."""

    shipment_id: object


class ShipmentUpdate(Payload):
    """A Shipment Update: units that were set aside have left."""

    fulfillment: Shipped


class Warehouse(Payload):
    """A warehouse in GraphQL; ``legacy_id`` is what a delivery calls ``warehouse_id``."""

    legacy_id: object


class WarehouseProduct(Payload):
    """One SKU in one warehouse, as GraphQL reports it."""

    sku: object
    account_id: object = None
    """The merchant, where one token sees several."""
    on_hand: object
    allocated: object
    reserve_inventory: object
    updated_at: object = None
    warehouse: Warehouse


class Hook(Payload):
    """A registered webhook; its secret is shown by ``webhook_create`` only."""

    id: str
    name: str | None = None
    shop_name: str | None = None
    url: str | None = None
    enabled: bool | None = None
    health: str | None = None
    shared_signature_secret: str | None = Field(default=None, repr=False)


class Edge(Payload):
    """GraphQL's wrapping of one row, which is read by itself: one bad row spoils no others."""

    node: object


class PageInfo(Payload):
    """Whether rows are left, and after which one they begin."""

    has_next_page: bool = Field(alias="hasNextPage")
    end_cursor: str | None = Field(default=None, alias="endCursor")


class Page(Payload):
    """Some rows of a listing."""

    page_info: PageInfo = Field(alias="pageInfo")
    edges: Rows[Edge]


class Listing(Payload):
    """The answer to one ``warehouse_products`` or ``webhooks``."""

    request_id: str = ""
    data: Page


class HookChanged(Payload):
    """The answer to ``webhook_create`` and ``webhook_enable``."""

    webhook: Hook


class Renewed(Payload):
    """The answer to ``/auth/refresh``."""

    access_token: str = Field(min_length=1, repr=False)


class UserQuota(Payload):
    """The credits of the account, which all its integrations share."""

    credits_remaining: int
    max_available: int | None = None
    increment_rate: int | None = None


class Extensions(Payload):
    """Where GraphQL servers may put what they add to a problem."""

    code: object = None
    time_remaining: object = None
    remaining_credits: object = None


class Problem(Extensions):
    """One entry of GraphQL's ``errors``; ShipHero adds its own fields beside the message."""

    message: str = ""
    field: object = None
    extensions: Extensions | None = None


class Answer(Payload):
    """A whole GraphQL answer, by the alias of each field; one that failed is null."""

    data: dict[str, object] | None = None
    errors: Rows[Problem] = ()
