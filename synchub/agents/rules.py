"""What an agent may be called and may do, and how its key is recognized."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Final

from synchub.agents.model import Kind, Rate, Scope
from synchub.errors import InvalidRequest
from synchub.keyspace import NAME, check_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from synchub.agents.model import Agent
    from synchub.settings import LimitSettings

KEY_BYTES: Final = 32
CHANNELS_MAX: Final = 64
DEFAULT_TIER: Final = "standard"
SCOPES: Final = {
    Kind.AGENT: frozenset({Scope.STOCK_READ, Scope.FEED_READ, Scope.RESERVATIONS}),
    Kind.MERCHANT: frozenset({Scope.MERCHANT_READ, Scope.MERCHANT_WRITE}),
    Kind.OPERATOR: frozenset({Scope.OPS_READ, Scope.OPS_WRITE}),
}
"""What a key of each kind may do; all of it, when nothing is said."""

RATE_MAX: Final = 10_000
"""Requests a second; beyond it a microsecond is too coarse a measure."""
BURST_MAX: Final = 1_000_000

_PREFIXES: Final = {Kind.AGENT: "sak_", Kind.MERCHANT: "smk_", Kind.OPERATOR: "sok_"}
_KEY: Final = re.compile(r"s[amo]k_[A-Za-z0-9_-]{43}")
_SECOND_US: Final = 1_000_000
_NAMES_TRIED: Final = 10_000


def key_from(random_bytes: bytes, kind: Kind = Kind.AGENT) -> str:
    """Return the key that these 32 random bytes make."""
    return _PREFIXES[kind] + base64.urlsafe_b64encode(random_bytes).decode().rstrip("=")


def is_key(text: str) -> bool:
    """Say whether the text has the form of a key, so that nothing else is hashed."""
    return _KEY.fullmatch(text) is not None


def hash_of(key: str) -> str:
    """Return what is stored of a key. It has 256 random bits, so a plain hash cannot be guessed back."""
    return hashlib.sha256(key.encode()).hexdigest()


def default_name(merchant: str, taken: Collection[str], kind: Kind = Kind.AGENT) -> str:
    """Return ``merchant-agent`` (of an operator ``operator``), numbered when that is taken.

    Raises:
        InvalidRequest: too long, or too many; a name has to be given.
    """
    stem = f"{merchant}-{kind}" if merchant else kind.value
    numbered = (f"{stem}-{number}" for number in range(2, _NAMES_TRIED))
    name = next((name for name in (stem, *numbered) if name not in taken), "")
    if not NAME.fullmatch(name):
        msg = "No short name is free for this agent; give it one of your own with --name."
        raise InvalidRequest(msg)
    return name


def channels_from(names: Iterable[str]) -> frozenset[str]:
    """Return the channels of a key.

    Raises:
        InvalidRequest: one is not of the form of names, or there are more than ``CHANNELS_MAX``.
    """
    channels = frozenset(check_name(name, "A channel") for name in names)
    if len(channels) > CHANNELS_MAX:
        msg = f"A key has at most {CHANNELS_MAX} channels."
        raise InvalidRequest(msg)
    return channels


def scopes_from(names: Iterable[str], kind: Kind = Kind.AGENT) -> frozenset[Scope]:
    """Return the scopes of a key; none named gives all that its kind may have.

    Raises:
        InvalidRequest: there is no such scope, or not for this kind.
    """
    asked = list(names)
    if any(name not in SCOPES[kind] for name in asked):
        msg = f"A scope of this key is one of {', '.join(sorted(SCOPES[kind]))}."
        raise InvalidRequest(msg)
    return frozenset(Scope(name) for name in asked) or SCOPES[kind]


def merchant_from(name: str, kind: Kind) -> str:
    """Return whose stock a key is for.

    Raises:
        InvalidRequest: not of the form of names, or given for an operator, who has none.
    """
    if kind is not Kind.OPERATOR:
        return check_name(name, "The merchant's name")
    if name:
        msg = "An operator's key belongs to no merchant; leave the merchant out."
        raise InvalidRequest(msg)
    return ""


def limit_from(value: int | None, most: int, what: str) -> int | None:
    """Return an agent's own limit.

    Raises:
        InvalidRequest: not from 1 to ``most``.
    """
    if value is not None and not 1 <= value <= most:
        msg = f"{what} is 1 to {most}."
        raise InvalidRequest(msg)
    return value


def rate_of(agent: Agent, limits: LimitSettings) -> Rate:
    """Return how much the agent may ask: its own limits, or else those of the settings."""
    per_s = agent.rate_per_s or limits.agent_rate_per_s
    # Rounded up: rather one request in a thousand too few than one too many.
    return Rate(interval_us=-(-_SECOND_US // per_s), burst=agent.burst or limits.agent_burst)
