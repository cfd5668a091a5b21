"""An agent as its key makes it known. The key itself is shown once and never kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Scope(StrEnum):
    """One thing that a key allows."""

    STOCK_READ = "stock:read"
    FEED_READ = "feed:read"
    RESERVATIONS = "reservations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One agent runtime of one merchant."""

    name: str
    merchant: str
    tier: str
    channels: frozenset[str]
    """Channels it may ask for; empty: the key names none, and any may be asked for."""
    scopes: frozenset[Scope]
    key_hash: str = field(repr=False)
    """SHA-256 of the key, in hex."""
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A new agent and its key, which is told only here."""

    agent: Agent
    key: str = field(repr=False)
