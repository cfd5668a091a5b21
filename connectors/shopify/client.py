"""Reads levels through the GraphQL Admin API; the connector's only IO.

The surprising fact: a throttled query is answered with HTTP 200 and the word
THROTTLED among its ``errors``. Calls are paid in points, taken from a bucket by the
query's estimated cost and given back down to its real cost when it is answered.

Orders name variants and levels name inventory items, so every read also says which SKU the
item's variants are; an order's unknown variant is asked for by itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from connectors.shopify.addresses import endpoint, global_id, number_of
from connectors.shopify.mapping import group_of, sku_of, version_of
from connectors.shopify.orders import variant_item
from connectors.shopify.payloads import (
    Cost,
    ItemNode,
    ItemNodes,
    LevelNode,
    Variant,
    VariantNode,
    VariantNodes,
)
from synchub.connector_kit.events import Catalogue, CatalogueStatus, Level, LevelStatus
from synchub.connector_kit.payloads import parse, quantity, read_json
from synchub.errors import PayloadRefused, UpstreamFailed, UpstreamRefused, UpstreamThrottled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.contract import Access
    from synchub.connector_kit.events import StockEvent
    from synchub.connector_kit.payloads import P

FIRST_PAGE: Final = 10
"""Locations of each item in the first answer: 25 items of them stay under one query's 1 000 points."""

NEXT_PAGE: Final = 50
"""Locations in each further answer, which is about one item."""

FURTHER_PAGES_MAX: Final = 20
"""Further answers about one item, 1 010 locations in all; an item with more fails the read."""

RETRY_AFTER_S: Final = 5
"""How long to wait when a throttled answer does not say."""

RETRY_AFTER_S_MAX: Final = 60

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

NUMERIC_ID: Final = re.compile(r"[0-9]{1,20}")
VARIANT: Final = re.compile(r"variant/([0-9]{1,20})")


class Client:
    """Calls to one shop on behalf of one account."""

    def __init__(self, access: Access) -> None:
        self._http = access.http
        self._credentials = access.credentials

    async def fetch_levels(self, items: Sequence[str]) -> tuple[StockEvent, ...]:
        """Return the SKU and the levels of these items, one event each, in the shop's order.

        Of a variant (``variant/42``) only the SKU is read. An item that the shop does not
        have, or whose id is not a number, is absent. All pages of an item are read before
        anything is returned.

        Raises:
            UpstreamThrottled: too few points; ``retry_after_s`` from the answer.
            UpstreamRefused: no or a wrong token, a missing permission, a wrong shop domain.
            UpstreamFailed: no answer, or one that is not of the documented form.
        """
        asked = dict.fromkeys(items)
        known = [global_id("InventoryItem", item) for item in asked if NUMERIC_ID.fullmatch(item)]
        sold = [global_id("ProductVariant", found[1]) for item in asked if (found := VARIANT.fullmatch(item))]
        events: list[StockEvent] = []
        for node in await self._ask(known, FIRST_PAGE, None) if known else ():
            levels = [*node.levels.nodes, *await self._further_levels(node)]
            events += _events(node, levels)
        for variant in await self._ask_variants(sold) if sold else ():
            events += _variant_events(variant)
        return tuple(events)

    async def _further_levels(self, node: ItemNode) -> list[LevelNode]:
        levels: list[LevelNode] = []
        page = node.levels.page_info
        for _ in range(FURTHER_PAGES_MAX):
            if not page.has_next_page:
                return levels
            answered = await self._ask([node.id], NEXT_PAGE, page.end_cursor)
            if not answered:
                return levels  # deleted between the pages
            page = answered[0].levels.page_info
            levels += answered[0].levels.nodes
        if page.has_next_page:
            msg = "The shop reports more locations for one item than the hub reads."
            raise UpstreamFailed(msg)
        return levels

    async def _ask(self, ids: Sequence[str], first: int, after: str | None) -> list[ItemNode]:
        variables = {"ids": list(ids), "first": first, "after": after}
        answer = await self._query(LEVELS_QUERY, variables, ItemNodes)
        return [node for node in answer.nodes if node is not None]

    async def _ask_variants(self, ids: Sequence[str]) -> list[VariantNode]:
        answer = await self._query(VARIANTS_QUERY, {"ids": list(ids)}, VariantNodes)
        return [node for node in answer.nodes if node is not None]

    async def _query(self, query: str, variables: Mapping[str, object], model: type[P]) -> P:
        answer = await self._http.send(
            "POST",
            endpoint(self._credentials.get("shop_domain", "")),
            headers={"x-shopify-access-token": self._token(), "accept": "application/json"},
            json={"query": query, "variables": dict(variables)},
        )
        return _read(answer.body, model)

    def _token(self) -> str:
        token = self._credentials.get("access_token", "")
        if not token:
            msg = "The account has no access token, so its levels cannot be read."
            raise UpstreamRefused(msg)
        return token


def _read(body: bytes, model: type[P]) -> P:
    try:
        content = read_json(body)
        _raise_errors(content)
        return parse(model, content.get("data"))
    except PayloadRefused as problem:
        msg = f"The platform's answer is not of the documented form: {problem.detail}"
        raise UpstreamFailed(msg) from problem


def _raise_errors(content: Mapping[str, object]) -> None:
    errors = content.get("errors")
    if not errors:
        return
    codes = {_code(error) for error in errors} if isinstance(errors, list) else set()
    if "THROTTLED" in codes:
        msg = "The shop's point bucket is empty."
        raise UpstreamThrottled(msg, retry_after_s=_retry_after_s(content))
    refused = codes & {"ACCESS_DENIED", "MAX_COST_EXCEEDED"}
    if refused:
        msg = f"The platform refused the query: {min(refused)}."
        raise UpstreamRefused(msg)
    msg = "The platform answered the query with errors."
    raise UpstreamFailed(msg)


def _code(error: object) -> str:
    """Return an error's code; older answers have only the message ``Throttled``."""
    if not isinstance(error, Mapping):
        return ""
    extensions = error.get("extensions")
    code = extensions.get("code") if isinstance(extensions, Mapping) else None
    return str(code or error.get("message") or "").upper()


def _retry_after_s(content: Mapping[str, object]) -> int:
    extensions = content.get("extensions")
    try:
        cost = parse(Cost, extensions.get("cost") if isinstance(extensions, Mapping) else None)
    except PayloadRefused:
        return RETRY_AFTER_S
    missing = cost.requested - cost.throttle.currently_available
    return min(max(math.ceil(missing / cost.throttle.restore_rate), 1), RETRY_AFTER_S_MAX)


def _events(node: ItemNode, levels: Sequence[LevelNode]) -> list[StockEvent]:
    try:
        variants = [_variant(variant, node.sku) for variant in _variants(node)]
        return [_catalogue(node), *variants, *(_level(node, level) for level in levels)]
    except PayloadRefused as problem:
        msg = f"The platform's answer holds an unusable value: {problem.detail}"
        raise UpstreamFailed(msg) from problem


def _variant_events(node: VariantNode) -> list[StockEvent]:
    try:
        return [_variant(node, node.sku)]
    except PayloadRefused as problem:
        msg = f"The platform's answer holds an unusable value: {problem.detail}"
        raise UpstreamFailed(msg) from problem


def _variants(node: ItemNode) -> Sequence[Variant]:
    return node.variants.nodes if node.variants else ()


def _variant(node: Variant, sku: str | None) -> Catalogue:
    # No status: whether the SKU is sold is said of the inventory item behind it.
    return Catalogue(
        item=variant_item(number_of(node.id)),
        group=group_of(number_of(node.product.id)),
        sku=_readable_sku(sku),
    )


def _catalogue(node: ItemNode) -> Catalogue:
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


def _level(node: ItemNode, level: LevelNode) -> Level:
    status = _status(node, level)
    version = version_of(level.updated_at)
    return Level(
        item=number_of(node.id),
        location=number_of(level.location.id),
        quantity=_available(level) if status is LevelStatus.KNOWN else None,
        status=status,
        version=version,
        source_time_us=version.number,
    )


def _status(node: ItemNode, level: LevelNode) -> LevelStatus:
    if not level.is_active:
        return LevelStatus.CLOSED
    return LevelStatus.KNOWN if node.tracked else LevelStatus.UNTRACKED


def _available(level: LevelNode) -> int:
    for named in level.quantities:
        if named.name == "available":
            return quantity(named.quantity, "available")
    msg = "A level has no available quantity."
    raise PayloadRefused(msg)
