"""An account as it is stored, as a running process sees it, and what commands report about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

FOREVER: int | None = None
"""``not_after_ms`` of a credential that nothing has replaced yet."""


class Role(StrEnum):
    """What an account's levels count for."""

    AUTHORITY = "authority"
    """Its levels are the stock; several authorities are ranked, 1 first."""

    CONTRIBUTOR = "contributor"
    """It sells; its own numbers are kept and not counted."""

    MIRROR = "mirror"
    """It is told our number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a credential belongs; it opens nowhere else."""

    merchant: str
    account: str
    credential: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedValue:
    """One encrypted value of a credential and when it is valid."""

    ciphertext: str = field(repr=False)
    not_before_ms: int
    not_after_ms: int | None = FOREVER

    def is_valid(self, now_ms: int) -> bool:
        """Whether the value counts at this moment."""
        return self.not_after_ms is None or now_ms < self.not_after_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One record of the registry."""

    name: str
    merchant: str
    platform: str
    role: Role
    rank: int
    max_age_ms: int | None
    """Own limit of freshness; ``None`` takes ``stock.max_age_ms``."""
    credentials: Mapping[str, tuple[SealedValue, ...]]
    """By the manifest's names, oldest value first."""
    created_at_ms: int

    def place(self, credential: str) -> Place:
        """Where one of its credentials belongs."""
        return Place(merchant=self.merchant, account=self.name, credential=credential)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningSecret:
    """One opened signing secret."""

    value: str = field(repr=False)
    not_after_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """An account with its credentials opened, as receiving and polling need it. Never written anywhere."""

    name: str
    merchant: str
    platform: str
    """Also the name of its connector."""
    role: Role
    rank: int
    signing: tuple[SigningSecret, ...] = field(repr=False)
    """Newest first."""
    credentials: Mapping[str, str] = field(repr=False)
    """The newest value of each, by the manifest's names."""
    max_age_ms: int | None = None
    """Own limit of freshness; ``None`` takes ``stock.max_age_ms``."""

    def secrets_at(self, now_ms: int) -> tuple[str, ...]:
        """Signing secrets that are valid now, newest first."""
        if len(self.signing) == 1 and self.signing[0].not_after_ms is None:
            return (self.signing[0].value,)  # nearly always, and asked for each delivery
        return tuple(
            secret.value
            for secret in self.signing
            if secret.not_after_ms is None or now_ms < secret.not_after_ms
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAccount:
    """What is asked for when an account is added."""

    platform: str
    merchant: str
    name: str | None = None
    role: Role | None = None
    rank: int | None = None
    max_age_ms: int | None = None
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A new account; ``secret`` is the generated signing secret and is told only here."""

    account: Account
    secret: str | None = field(repr=False)
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a check found: sentences, and whether anything is wrong."""

    is_sound: bool
    sentences: tuple[str, ...]
