"""Who is asking: whoever has the bearer key, from memory and without touching the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.agents.model import Kind
from synchub.errors import KeyUnknown, NotAllowed
from synchub.web.keys import HUB

if TYPE_CHECKING:
    from aiohttp import web

    from synchub.agents.model import Agent, Scope

_PREFIXES: Final = {Kind.AGENT: "sak_", Kind.MERCHANT: "smk_", Kind.OPERATOR: "sok_"}


def agent_of(request: web.Request, *scopes: Scope) -> Agent:
    """Return the agent whose key the request carries; merchant, tier and channels are the key's.

    Raises:
        KeyUnknown: no bearer key, or none that is known.
        NotAllowed: the key is a merchant's or an operator's, or lacks one of the scopes.
    """
    return _checked(request, Kind.AGENT, scopes)


def merchant_of(request: web.Request, *scopes: Scope) -> Agent:
    """Return whoever has a merchant's key; which merchant is told by the key alone.

    Raises:
        KeyUnknown: no bearer key, or none that is known.
        NotAllowed: the key is an agent's or an operator's, or lacks one of the scopes.
    """
    return _checked(request, Kind.MERCHANT, scopes)


def operator_of(request: web.Request, *scopes: Scope) -> Agent:
    """Return whoever has an operator's key; it belongs to no merchant.

    Raises:
        KeyUnknown: no bearer key, or none that is known.
        NotAllowed: the key is an agent's or a merchant's, or lacks one of the scopes.
    """
    return _checked(request, Kind.OPERATOR, scopes)


def find_holder(request: web.Request) -> Agent | None:
    """Return whoever has the key that the request carries, if it carries a known one."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    return request.app[HUB].directory.find_agent(key.strip())


def check_channel(agent: Agent, channel: str | None) -> None:
    """Return when the agent may ask for the channel; a key without channels may ask for any.

    Raises:
        NotAllowed: the key has channels, and this is none of them.
    """
    if channel is not None and agent.channels and channel not in agent.channels:
        msg = "This key is not for that channel."
        raise NotAllowed(msg)


def _checked(request: web.Request, kind: Kind, scopes: tuple[Scope, ...]) -> Agent:
    holder = find_holder(request)
    if holder is None:
        msg = f"Send a known key: Authorization: Bearer {_PREFIXES[kind]}…"
        raise KeyUnknown(msg)
    if holder.kind is not kind:
        msg = f"This address is for keys of another kind, which begin with {_PREFIXES[kind]}."
        raise NotAllowed(msg)
    if not holder.scopes.issuperset(scopes):
        missing = sorted(scope for scope in scopes if scope not in holder.scopes)
        msg = f"This key does not have the scope {', '.join(missing)}."
        raise NotAllowed(msg)
    return holder
