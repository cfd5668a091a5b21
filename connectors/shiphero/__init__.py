"""ShipHero: absolute levels per warehouse, pushed with every change and read over GraphQL."""

from connectors.shiphero.client import Client
from connectors.shiphero.mapping import normalize
from connectors.shiphero.quota import read_quota
from connectors.shiphero.signature import verify

__all__ = ["Client", "normalize", "read_quota", "verify"]
