"""What can be done with agents: add one, look at them, revoke one."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synchub.agents import rules, store
from synchub.agents.model import Agent, Issued
from synchub.keyspace import check_name
from synchub.kit.clock import now_ms

if TYPE_CHECKING:
    from synchub.lua import Executes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAgent:
    """What is asked for when an agent is added."""

    merchant: str
    name: str | None = None
    tier: str = rules.DEFAULT_TIER
    channels: Sequence[str] = ()
    scopes: Sequence[str] = ()


async def add_agent(redis: Executes, wanted: NewAgent) -> Issued:
    """Store a new agent and return its key, of which only a hash is kept.

    Raises:
        InvalidRequest: malformed or taken name, malformed tier or channel, unknown scope.
    """
    merchant = check_name(wanted.merchant, "The merchant's name")
    name = wanted.name or rules.default_name(merchant, await store.read_records(redis))
    key = rules.key_from(secrets.token_bytes(rules.KEY_BYTES))
    agent = Agent(
        name=check_name(name, "The agent's name"),
        merchant=merchant,
        tier=check_name(wanted.tier, "The tier"),
        channels=rules.channels_from(wanted.channels),
        scopes=rules.scopes_from(wanted.scopes),
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


async def revoke_agent(redis: Executes, name: str) -> None:
    """Make the agent's key unknown to every process within milliseconds.

    Raises:
        NotFound: there is none of that name.
    """
    await store.remove(redis, name)
