"""Shopify: absolute levels per inventory item and location, pushed without any order."""

from connectors.shopify.client import Client
from connectors.shopify.graphql import read_quota
from connectors.shopify.mapping import normalize
from connectors.shopify.signature import verify

__all__ = ["Client", "normalize", "read_quota", "verify"]
