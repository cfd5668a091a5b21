"""Which terms an asker gets: the one place where a key's rights and a merchant's decisions meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synchub.agents.model import Agent
    from synchub.hub import Hub
    from synchub.policies.model import Terms


def terms_of(hub: Hub, agent: Agent, sku: str, channel: str | None) -> Terms:
    """Return what holds for this agent, SKU and channel (see :func:`channel_of`); touches no store."""
    return hub.policies.terms(agent.merchant, sku, agent.tier, channel_of(agent.channels, channel))


def channel_of(channels: frozenset[str], named: str | None) -> str | None:
    """Return the channel that a request is for: the one it names, or the only one that its key has."""
    if named is None and len(channels) == 1:
        return next(iter(channels))
    return named
