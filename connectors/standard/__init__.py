"""Signed JSON: for every system without a connector of its own."""

from connectors.standard.mapping import normalize
from connectors.standard.signature import verify

__all__ = ["normalize", "verify"]
