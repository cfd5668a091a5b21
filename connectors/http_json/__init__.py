"""A merchant's own endpoint: a JSON address that is polled, described by the account's settings."""

from connectors.http_json.client import Client
from connectors.http_json.quota import read_quota
from connectors.http_json.settings import check_settings
from synchub.connector_kit.polled_only import normalize, verify

__all__ = ["Client", "check_settings", "normalize", "read_quota", "verify"]
