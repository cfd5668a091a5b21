"""Tickets: what a browser shows instead of a key, which it cannot send. Each opens one connection, once.

The store keeps a hash of the ticket, so that whoever reads the store opens nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from synchub import feed_keys, metrics
from synchub.errors import KeyUnknown, RateLimited
from synchub.keyspace import MerchantKeys

if TYPE_CHECKING:
    from synchub.lua import Executes
    from synchub.settings import FeedSettings

_BYTES: Final = 32
_PREFIX: Final = "skt_"
_SECOND_MS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a ticket is good for."""

    merchant: str
    agent: str
    key_hash: str
    """Of the key it was asked for with: when that is revoked, so is the ticket."""
    query: tuple[tuple[str, str], ...]
    """The parameters of the feed, as they would stand in the address."""
    origin: str = ""
    """The page that may use it, as browsers name it; empty: any."""


async def issue(redis: Executes, ticket: Ticket, limits: FeedSettings) -> str:
    """Keep a new ticket and return its text, which is told only here.

    Raises:
        RateLimited: the agent was given as many as it may in the time that one lives.
        StoreUnavailable, OutcomeUnknown: it could not be kept, or nobody knows; ask for another.
    """
    ttl_ms = limits.ticket_ttl_ms
    counter = MerchantKeys(ticket.merchant).tickets(ticket.agent)
    # Both in one write; a counter without an end would refuse for ever, so it is set each time.
    given, _ = await asyncio.gather(
        redis.execute("INCR", counter), redis.execute("PEXPIRE", counter, ttl_ms, "NX")
    )
    if given > limits.tickets_per_agent:
        metrics.feed_refusals.labels("tickets").inc()
        msg = f"This key was given {limits.tickets_per_agent} tickets within {ttl_ms} ms; wait."
        raise RateLimited(msg, retry_after_s=-(-ttl_ms // _SECOND_MS))
    text = _PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(_BYTES)).decode().rstrip("=")
    await redis.execute("SET", feed_keys.ticket(_hash_of(text)), _encode(ticket), "PX", ttl_ms)
    metrics.feed_tickets.labels("given").inc()
    return text


async def use(redis: Executes, text: str) -> Ticket:
    """Take a ticket and return what it is good for; whoever comes second finds nothing.

    Raises:
        KeyUnknown: there is no such ticket, it was used, or its time is over.
        StoreUnavailable, OutcomeUnknown: nobody knows whether it is used up; ask for another.
    """
    record = await redis.execute("GETDEL", feed_keys.ticket(_hash_of(text)))
    if record is None:
        metrics.feed_tickets.labels("refused").inc()
        msg = "This ticket was used before, or its time is over; ask for a new one."
        raise KeyUnknown(msg)
    metrics.feed_tickets.labels("used").inc()
    return _decode(record)


def _hash_of(text: str) -> str:
    """It has 256 random bits, so a plain hash cannot be guessed back."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _encode(ticket: Ticket) -> bytes:
    return orjson.dumps(
        [ticket.merchant, ticket.agent, ticket.key_hash, [list(pair) for pair in ticket.query], ticket.origin]
    )


def _decode(record: bytes) -> Ticket:
    merchant, agent, key_hash, query, origin = orjson.loads(record)
    pairs = tuple((name, value) for name, value in query)
    return Ticket(merchant=merchant, agent=agent, key_hash=key_hash, query=pairs, origin=origin)
