"""The bodies: ``stock.changed`` with four kinds of optional rows, and ``stock.heartbeat``."""

from __future__ import annotations

from typing import Literal

from synchub.connector_kit.payloads import Payload, Rows


class Change(Payload):
    """One SKU at one location: a level (``absolute``) or a change of it (``delta``)."""

    sku: object
    location_id: object
    mode: Literal["absolute", "delta"]
    quantity: object
    state: str = "sellable"
    as_of: str | None = None
    reason: str = ""


class Order(Payload):
    """The present state of one line of an order."""

    order_id: object
    line: object
    sku: object
    location_id: object = None
    quantity: object
    status: Literal["placed", "cancelled"]
    ordered_at: str | None = None
    happened_at: str | None = None
    reference: object = None
    references: Rows[object] = ()


class Acknowledged(Payload):
    """Says that the source's level now includes a sale, or that units were given back to it."""

    sku: object = None
    location_id: object = None
    quantity: object
    order_id: object = None
    line: object = None
    reference: object = None
    version: object = None
    key: object = None


class Backorder(Payload):
    """Whether the SKU may be sold when there is none."""

    allowed: bool


class Arrival(Payload):
    """Stock on its way."""

    quantity: object
    expected_at: str


class Item(Payload):
    """What the catalogue says about a SKU; an absent field changes nothing."""

    sku: object
    status: Literal["active", "discontinued"] | None = None
    backorder: Backorder | None = None
    substitutes: Rows[object] | None = None
    incoming: Rows[Arrival] | None = None


class Data(Payload):
    """The rows, and the source's counter that all of them share."""

    sequence: object = None
    changes: Rows[Change] = ()
    orders: Rows[Order] = ()
    acks: Rows[Acknowledged] = ()
    catalogue: Rows[Item] = ()


class Beat(Payload):
    """How soon the next sign of life follows."""

    every_s: object = None


class BeatBody(Payload):
    """A sign of life; ``type`` is its topic."""

    type: str
    data: Beat = Beat()


class Body(Payload):
    """The whole body; ``type`` is its topic."""

    type: str
    timestamp: str | None = None
    data: Data
