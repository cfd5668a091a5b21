"""Where a shop's API is, and the two ways in which it names the same object.

Webhooks know an inventory item by a number, GraphQL by a global id that holds the
same number: ``gid://shopify/InventoryItem/42``.
"""

from __future__ import annotations

import re
from typing import Final

from synchub.connector_kit.payloads import identifier
from synchub.errors import PayloadRefused, UpstreamRefused

API_VERSION: Final = "2026-10"

SHOP_DOMAIN: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,99}\.myshopify\.com")
LOOPBACK: Final = re.compile(r"http://(127\.0\.0\.1|localhost):[0-9]{1,5}")
GLOBAL_ID: Final = re.compile(r"gid://shopify/[A-Za-z]+/([0-9]{1,20})")


def endpoint(shop_domain: str) -> str:
    """Return the address of the shop's GraphQL Admin API.

    Only the platform's own domains are called, since the access token goes with
    the call; an ``http://127.0.0.1:PORT`` address stands for a local emulator.

    Raises:
        UpstreamRefused: any other text.
    """
    if LOOPBACK.fullmatch(shop_domain):
        return f"{shop_domain}/admin/api/{API_VERSION}/graphql.json"
    if SHOP_DOMAIN.fullmatch(shop_domain):
        return f"https://{shop_domain}/admin/api/{API_VERSION}/graphql.json"
    msg = "shop_domain is not of the form example.myshopify.com."
    raise UpstreamRefused(msg)


def global_id(kind: str, number: str) -> str:
    """Return the global id by which GraphQL knows a numeric id."""
    return f"gid://shopify/{kind}/{number}"


def number_of(global_id: str) -> str:
    """Return the numeric id inside a global id, as text.

    Raises:
        PayloadRefused: not a global id.
    """
    found = GLOBAL_ID.fullmatch(global_id)
    if found is None:
        msg = "An id is not of the platform's form."
        raise PayloadRefused(msg)
    return identifier(found[1], "id")
