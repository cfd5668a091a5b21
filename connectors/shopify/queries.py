"""The GraphQL documents that are sent, and what each may cost at most.

The rule of the cost is published: an object costs one point, a scalar none, a mutation ten, and a
connection what its ``first`` asks for (two points besides, as measured by others). A query is paid
at its highest possible cost, of which the rest is given back when it is answered; one query may
cost 1 000 points. https://shopify.dev/docs/apps/build/apis/graphql-admin/rate-limits

The surprising fact: what an item is and what it has change apart. An item's ``updatedAt`` need not
move when its level does, so levels are searched by their own, which only a location offers:
``Location.inventoryLevels(query: "updated_at:…")``. An item's list of levels names no sort key
either; pages go by id. https://shopify.dev/docs/api/admin-graphql/latest/objects/Location
"""

from __future__ import annotations

from typing import Final

MUTATION: Final = 10
CONNECTION: Final = 2

# Of one level: itself, its location or its item, its one named quantity.
LEVEL: Final = 3
# Of one item: itself and its variants with their products.
VARIANTS: Final = CONNECTION + 2 * 2
ITEM: Final = 1 + VARIANTS
# Of one line: itself, its variant, its attributes.
LINE: Final = 3

LINES_SHOWN: Final = 10
REFUNDS_SHOWN: Final = 2
REFUND_LINES_SHOWN: Final = 5
LOCATIONS_SHOWN: Final = 8
PARTS_MAX: Final = 100
"""Refunds and shipments of one order that are read."""

REFUND: Final = 1 + CONNECTION + 2 * REFUND_LINES_SHOWN
# Of one order: itself, where it was made, its attributes, its first lines and refunds.
ORDER: Final = 3 + CONNECTION + LINES_SHOWN * LINE + REFUNDS_SHOWN * REFUND

# variants(first: 2): one more than needed, to see that an item is shared by several.
LEVELS_QUERY: Final = """
query Levels($ids: [ID!]!, $first: Int!, $after: String) {
  nodes(ids: $ids) {
    ... on InventoryItem {
      id
      sku
      tracked
      variants(first: 2) { nodes { id product { id } } }
      inventoryLevels(first: $first, after: $after, includeInactive: true) {
        nodes {
          location { id }
          isActive
          updatedAt
          quantities(names: ["available"]) { name quantity }
        }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
}
"""

VARIANTS_QUERY: Final = """
query Variants($ids: [ID!]!) {
  nodes(ids: $ids) {
    ... on ProductVariant {
      id
      sku
      product { id }
    }
  }
}
"""

ITEMS_QUERY: Final = """
query ChangedItems($first: Int!, $after: String, $query: String) {
  inventoryItems(first: $first, after: $after, query: $query) {
    nodes {
      id
      sku
      tracked
      updatedAt
      variants(first: 2) { nodes { id product { id } } }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""

ORDERS_QUERY: Final = """
query ChangedOrders($first: Int!, $after: String, $query: String) {
  orders(first: $first, after: $after, query: $query, sortKey: UPDATED_AT) {
    nodes {
      id
      test
      createdAt
      updatedAt
      processedAt
      cancelledAt
      sourceName
      tags
      retailLocation { id }
      customAttributes { key value }
      lineItems(first: 10) {
        nodes { id quantity variant { id } customAttributes { key value } }
        pageInfo { hasNextPage endCursor }
      }
      refunds(first: 2) {
        refundLineItems(first: 5) {
          nodes { quantity restockType lineItem { id } }
          pageInfo { hasNextPage endCursor }
        }
      }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""

ORDER_LINES_QUERY: Final = """
query OrderLines($id: ID!, $first: Int!, $after: String) {
  node(id: $id) {
    ... on Order {
      parts: lineItems(first: $first, after: $after) {
        nodes { id quantity variant { id } customAttributes { key value } }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
}
"""

ORDER_PARTS_QUERY: Final = """
query OrderParts($id: ID!) {
  node(id: $id) {
    ... on Order {
      refunds(first: 100) { id }
      fulfillments(first: 100) { id status }
    }
  }
}
"""

REFUND_LINES_QUERY: Final = """
query RefundLines($id: ID!, $first: Int!, $after: String) {
  node(id: $id) {
    ... on Refund {
      parts: refundLineItems(first: $first, after: $after) {
        nodes { quantity restockType lineItem { id } }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
}
"""

SHIPMENT_LINES_QUERY: Final = """
query ShipmentLines($id: ID!, $first: Int!, $after: String) {
  node(id: $id) {
    ... on Fulfillment {
      parts: fulfillmentLineItems(first: $first, after: $after) {
        nodes { quantity lineItem { id } }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
}
"""

LOCATIONS_QUERY: Final = """
query ChangedLevels($first: Int!, $after: String, $query: String) {
  locations(first: 8, after: $after, sortKey: ID, includeInactive: true, includeLegacy: true) {
    nodes {
      id
      inventoryLevels(first: $first, query: $query, includeInactive: true) {
        nodes {
          item { id sku tracked }
          isActive
          updatedAt
          quantities(names: ["available"]) { name quantity }
        }
        pageInfo { hasNextPage endCursor }
      }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""

LOCATION_QUERY: Final = """
query FurtherLevels($id: ID!, $first: Int!, $after: String, $query: String) {
  location(id: $id) {
    id
    inventoryLevels(first: $first, after: $after, query: $query, includeInactive: true) {
      nodes {
        item { id sku tracked }
        isActive
        updatedAt
        quantities(names: ["available"]) { name quantity }
      }
      pageInfo { hasNextPage endCursor }
    }
  }
}
"""

HOOKS_QUERY: Final = """
query Hooks($first: Int!, $after: String) {
  webhookSubscriptions(first: $first, after: $after) {
    nodes { id topic uri format filter includeFields }
    pageInfo { hasNextPage endCursor }
  }
}
"""

SUBSCRIBE: Final = """
mutation Subscribe($topic: WebhookSubscriptionTopic!, $hook: WebhookSubscriptionInput!) {
  outcome: webhookSubscriptionCreate(topic: $topic, webhookSubscription: $hook) {
    userErrors { message }
  }
}
"""

RESUBSCRIBE: Final = """
mutation Resubscribe($id: ID!, $hook: WebhookSubscriptionInput!) {
  outcome: webhookSubscriptionUpdate(id: $id, webhookSubscription: $hook) {
    userErrors { message }
  }
}
"""

CANARY_QUERY: Final = """
query Canary($query: String!) {
  inventoryItems(first: 5, query: $query) {
    nodes { id sku }
  }
}
"""

CANARY_CHANGE: Final = """
mutation TouchCanary($id: ID!, $input: InventoryItemInput!) {
  outcome: inventoryItemUpdate(id: $id, input: $input) {
    userErrors { message }
  }
}
"""


def items_cost(first: int) -> int:
    """Return what so many items cost."""
    return CONNECTION + first * ITEM


def orders_cost(first: int) -> int:
    """Return what so many orders cost."""
    return CONNECTION + first * ORDER


def locations_cost(first: int) -> int:
    """Return what the first locations cost with so many levels of each."""
    return CONNECTION + LOCATIONS_SHOWN * location_cost(first)


def location_cost(first: int) -> int:
    """Return what one location costs with so many of its levels."""
    return 1 + CONNECTION + first * LEVEL


def lines_cost(first: int) -> int:
    """Return what so many lines of one order, refund or shipment cost."""
    return 1 + CONNECTION + first * LINE


def levels_cost(items: int, first: int) -> int:
    """Return what so many items cost with so many levels of each."""
    return items * (ITEM + CONNECTION + first * LEVEL)


def hooks_cost(first: int) -> int:
    """Return what so many subscriptions cost."""
    return CONNECTION + first
