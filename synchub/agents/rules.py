"""What an agent may be called and may do, and how its key is recognized."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Final

from synchub.agents.model import Scope
from synchub.errors import InvalidRequest
from synchub.keyspace import NAME, check_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

KEY_BYTES: Final = 32
CHANNELS_MAX: Final = 64
DEFAULT_TIER: Final = "standard"
DEFAULT_SCOPES: Final = frozenset({Scope.STOCK_READ, Scope.FEED_READ})

_PREFIX: Final = "sak_"
_KEY: Final = re.compile(r"sak_[A-Za-z0-9_-]{43}")
_NAMES_TRIED: Final = 10_000


def key_from(random_bytes: bytes) -> str:
    """Return the key that these 32 random bytes make."""
    return _PREFIX + base64.urlsafe_b64encode(random_bytes).decode().rstrip("=")


def is_key(text: str) -> bool:
    """Say whether the text has the form of a key, so that nothing else is hashed."""
    return _KEY.fullmatch(text) is not None


def hash_of(key: str) -> str:
    """Return what is stored of a key. It has 256 random bits, so a plain hash cannot be guessed back."""
    return hashlib.sha256(key.encode()).hexdigest()


def default_name(merchant: str, taken: Collection[str]) -> str:
    """Return ``merchant-agent``, numbered when that is taken.

    Raises:
        InvalidRequest: too long, or too many; a name has to be given.
    """
    stem = f"{merchant}-agent"
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


def scopes_from(names: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes of a key; none named gives the usual ones.

    Raises:
        InvalidRequest: there is no such scope.
    """
    asked = list(names)
    if any(name not in set(Scope) for name in asked):
        msg = f"A scope is one of {', '.join(Scope)}."
        raise InvalidRequest(msg)
    return frozenset(Scope(name) for name in asked) or DEFAULT_SCOPES
