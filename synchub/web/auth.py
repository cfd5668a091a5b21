"""Who is asking: the agent behind the bearer key, from memory and without touching the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.errors import KeyUnknown, NotAllowed
from synchub.web.keys import HUB

if TYPE_CHECKING:
    from aiohttp import web

    from synchub.agents.model import Agent, Scope


def agent_of(request: web.Request, *scopes: Scope) -> Agent:
    """Return the agent whose key the request carries; merchant, tier and channels are the key's.

    Raises:
        KeyUnknown: no bearer key, or none that is known.
        NotAllowed: the key lacks one of the scopes.
    """
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    directory = request.config_dict[HUB].directory
    agent = directory.find_agent(key.strip()) if scheme.lower() == "bearer" else None
    if agent is None:
        msg = "Send a known key: Authorization: Bearer sak_…"
        raise KeyUnknown(msg)
    missing = sorted(scope for scope in scopes if scope not in agent.scopes)
    if missing:
        msg = f"This key does not have the scope {', '.join(missing)}."
        raise NotAllowed(msg)
    return agent


def check_channel(agent: Agent, channel: str | None) -> None:
    """Return when the agent may ask for the channel; a key without channels may ask for any.

    Raises:
        NotAllowed: the key has channels, and this is none of them.
    """
    if channel is not None and agent.channels and channel not in agent.channels:
        msg = "This key is not for that channel."
        raise NotAllowed(msg)
