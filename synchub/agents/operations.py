"""What can be done with agents, and with whoever else has a key: add one, look at them, revoke one, count."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synchub.agents import rules, store
from synchub.agents.model import Agent, Issued, Kind
from synchub.errors import NotFound
from synchub.keyspace import MerchantKeys, check_name
from synchub.kit.clock import now_ms

if TYPE_CHECKING:
    from synchub.agents.model import Rate
    from synchub.lua import Executes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAgent:
    """What is asked for when an agent is added."""

    merchant: str = ""
    """Empty for an operator, and for nobody else."""
    kind: Kind = Kind.AGENT
    name: str | None = None
    tier: str = rules.DEFAULT_TIER
    channels: Sequence[str] = ()
    scopes: Sequence[str] = ()
    rate_per_s: int | None = None
    burst: int | None = None


async def add_agent(redis: Executes, wanted: NewAgent) -> Issued:
    """Store a new agent and return its key, of which only a hash is kept.

    Raises:
        InvalidRequest: malformed or taken name, malformed tier or channel, a scope that the kind
            cannot have, a limit out of bounds.
    """
    merchant = rules.merchant_from(wanted.merchant, wanted.kind)
    name = wanted.name or rules.default_name(merchant, await store.read_records(redis), wanted.kind)
    key = rules.key_from(secrets.token_bytes(rules.KEY_BYTES), wanted.kind)
    agent = Agent(
        kind=wanted.kind,
        name=check_name(name, "The agent's name"),
        merchant=merchant,
        tier=check_name(wanted.tier, "The tier"),
        channels=rules.channels_from(wanted.channels),
        scopes=rules.scopes_from(wanted.scopes, wanted.kind),
        rate_per_s=rules.limit_from(wanted.rate_per_s, rules.RATE_MAX, "rate_per_s"),
        burst=rules.limit_from(wanted.burst, rules.BURST_MAX, "burst"),
        key_hash=rules.hash_of(key),
        created_at_ms=now_ms(),
    )
    await store.add(redis, agent)
    return Issued(agent=agent, key=key)


async def list_agents(redis: Executes, merchant: str | None = None) -> tuple[Agent, ...]:
    """Return all agents by name, or those of one merchant."""
    return tuple(agent for agent in await store.read_all(redis) if merchant in {None, agent.merchant})


async def read_agents(redis: Executes, names: Sequence[str]) -> tuple[Agent, ...]:
    """Return those of the named agents that exist."""
    return await store.read_some(redis, names)


async def revoke_agent(redis: Executes, name: str, *, merchant: str | None = None) -> None:
    """Make the agent's key unknown to every process within milliseconds.

    With ``merchant`` only an agent of that merchant; anything else of the name looks like nothing.

    Raises:
        NotFound: there is none of that name.
    """
    if merchant is not None:
        agent = await store.read(redis, name)
        if (agent.merchant, agent.kind) != (merchant, Kind.AGENT):
            msg = f"There is no agent {name}."
            raise NotFound(msg)
    await store.remove(redis, name)


async def take_token(redis: Executes, agent: Agent, rate: Rate) -> int:
    """Count one request of the agent; return 0, or in how many microseconds there is room for it.

    Exact over all processes: the store counts, by its own clock. A refused request counts for nothing.

    Raises:
        OutcomeUnknown, StoreUnavailable: nobody knows whether there is room.
    """
    return await store.take_token(redis, MerchantKeys(agent.merchant), agent.name, rate)
