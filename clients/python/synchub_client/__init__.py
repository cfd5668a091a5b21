"""Follow a merchant's stock from synchub, and never act on a number older than you allow.

async with FeedClient("https://hub.example.com", "sak_...", skus=["TEE-RED-M"]) as feed:
await feed.ready()
item = feed.get("TEE-RED-M")
"""

from __future__ import annotations

from synchub_client._version import VERSION
from synchub_client.changes import Changes
from synchub_client.errors import (
    AccessEnded,
    FeedClosed,
    HubRefused,
    HubUnavailable,
    NotServed,
    ProtocolBroken,
    Stale,
    SynchubError,
    Unknown,
)
from synchub_client.feed import FeedClient
from synchub_client.model import Change, ChangeKind, Item, Source, State

__version__ = VERSION

__all__ = [
    "AccessEnded",
    "Change",
    "ChangeKind",
    "Changes",
    "FeedClient",
    "FeedClosed",
    "HubRefused",
    "HubUnavailable",
    "Item",
    "NotServed",
    "ProtocolBroken",
    "Source",
    "Stale",
    "State",
    "SynchubError",
    "Unknown",
    "__version__",
]
