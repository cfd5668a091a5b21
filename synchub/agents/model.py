"""Whoever has a key, as the key makes it known. The key itself is shown once and never kept.

Most are agents; merchants and those who run the hub have keys of the same making, told apart by their
kind and by how they begin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """Who has the key."""

    AGENT = "agent"
    """Asks, follows and reserves for buyers."""
    MERCHANT = "merchant"
    """Whose stock it is."""
    OPERATOR = "operator"
    """Runs the hub; belongs to no merchant."""


class Scope(StrEnum):
    """One thing that a key allows."""

    STOCK_READ = "stock:read"
    FEED_READ = "feed:read"
    RESERVATIONS = "reservations"
    MERCHANT_READ = "merchant:read"
    MERCHANT_WRITE = "merchant:write"
    OPS_READ = "ops:read"
    OPS_WRITE = "ops:write"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One agent runtime of one merchant, or whoever else has a key."""

    kind: Kind = Kind.AGENT
    name: str
    merchant: str
    """Empty for an operator."""
    tier: str
    channels: frozenset[str]
    """Channels it may ask for; empty: the key names none, and any may be asked for."""
    scopes: frozenset[Scope]
    key_hash: str = field(repr=False)
    """SHA-256 of the key, in hex."""
    created_at_ms: int
    rate_per_s: int | None = None
    """Own limit of requests; None: what the settings say."""
    burst: int | None = None
    """Own limit of requests at once; None: what the settings say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A new agent and its key, which is told only here."""

    agent: Agent
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How much an agent may ask, in the terms of the script that counts."""

    interval_us: int
    """One request every so often, on average."""
    burst: int
    """Requests at once, after a pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limited:
    """The agent has asked as often as it may; nothing was done."""

    wait_us: int
    """In how many microseconds there is room again."""
