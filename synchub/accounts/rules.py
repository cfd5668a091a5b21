"""What an account may be called, what it counts for, and which of its secrets are valid."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from synchub.accounts.model import Account, Role, SealedValue
from synchub.connector_kit.manifest import Kind
from synchub.connector_kit.signatures import check_secret
from synchub.errors import InvalidRequest
from synchub.keyspace import NAME

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from synchub.connector_kit.manifest import Manifest

VALUES_MAX: Final = 5
"""Values of one credential that may be valid at once."""

CREDENTIAL_MAX_CHARS: Final = 8192
RANK_MAX: Final = 99
_NAMES_TRIED: Final = 99
_HOUR_MS: Final = 3_600_000
_LETTERS: Final = {Role.AUTHORITY: "A", Role.CONTRIBUTOR: "C", Role.MIRROR: "M"}
_OWN_STOCK: Final = frozenset({Kind.WMS, Kind.THREE_PL, Kind.ERP, Kind.CUSTOM})
_CREDENTIAL_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")


def default_name(merchant: str, platform: str, taken: Collection[str]) -> str:
    """Return ``merchant-platform``, numbered when that is taken.

    Raises:
        InvalidRequest: too long, or too many; a name has to be given.
    """
    stem = f"{merchant}-{platform}"
    numbered = (f"{stem}-{number}" for number in range(2, _NAMES_TRIED))
    name = next((name for name in (stem, *numbered) if name not in taken), "")
    if not NAME.fullmatch(name):
        msg = "No short name is free for this account; give it one of your own with --name."
        raise InvalidRequest(msg)
    return name


def default_role(kind: Kind) -> Role:
    """Return what an account of such a platform usually is: warehouses hold stock, shops sell it."""
    return Role.AUTHORITY if kind in _OWN_STOCK else Role.CONTRIBUTOR


def default_rank(role: Role, accounts: Iterable[Account]) -> int:
    """Return the first rank that no authority of the merchant has; 1 for the other roles."""
    taken = {account.rank for account in accounts if account.role is Role.AUTHORITY}
    free = (rank for rank in range(1, RANK_MAX) if rank not in taken)
    return next(free, RANK_MAX) if role is Role.AUTHORITY else 1


def check_role(role: Role, rank: int, *, is_written_to: bool) -> None:
    """Return when an account may have the role.

    Raises:
        InvalidRequest: the hub would read back, as stock, the number it has written there itself;
            or a rank out of range.
    """
    if role is Role.AUTHORITY and is_written_to:
        msg = (
            "The hub writes stock to this account, so its numbers are the hub's own. Make it a contributor, "
            "have the platform count, and then make it an authority."
        )
        raise InvalidRequest(msg)
    if not 1 <= rank <= RANK_MAX:
        msg = f"A rank is a number from 1 (counts first) to {RANK_MAX}."
        raise InvalidRequest(msg)


def credentials_to_generate(manifest: Manifest, given: Mapping[str, str]) -> tuple[str, ...]:
    """Return the credentials that the hub has to choose itself, after checking those given.

    Raises:
        InvalidRequest: unknown, missing or malformed ones, by name and never by value.
    """
    unknown = sorted(_shown(name) for name in given if name not in manifest.credentials)
    if unknown:
        msg = _no_such_credential(manifest, ", ".join(unknown))
        raise InvalidRequest(msg)
    offers = manifest.credentials.items()
    missing = [
        f"{name} ({offer.title})"
        for name, offer in offers
        if offer.required and not offer.generated and name not in given
    ]
    if missing:
        msg = f"{manifest.title} needs {', '.join(missing)}; give each with --credential NAME=VALUE."
        raise InvalidRequest(msg)
    for name, value in given.items():
        check_credential(manifest, name, value)
    return tuple(name for name, offer in offers if offer.generated and offer.required and name not in given)


def check_credential(manifest: Manifest, name: str, value: str) -> None:
    """Return when the value can be this credential.

    Raises:
        InvalidRequest: no such credential, or a value that cannot be one.
    """
    offer = manifest.credentials.get(name)
    if offer is None:
        msg = _no_such_credential(manifest, _shown(name))
        raise InvalidRequest(msg)
    if not 1 <= len(value) <= CREDENTIAL_MAX_CHARS or "\x00" in value or not value.strip():
        msg = f"Credential {name} is empty or longer than {CREDENTIAL_MAX_CHARS} characters."
        raise InvalidRequest(msg)
    try:
        value.encode()
    except UnicodeEncodeError:
        msg = f"Credential {name} is not text."
        raise InvalidRequest(msg) from None
    if offer.generated:
        check_secret(value)


def rotated(
    values: tuple[SealedValue, ...], new: SealedValue, *, overlap_ms: int, now_ms: int
) -> tuple[SealedValue, ...]:
    """Return the values with the new one last; the others end after the overlap, if not sooner.

    Raises:
        InvalidRequest: so many rotations in a row that too many values would be valid at once.
    """
    ends_ms = now_ms + overlap_ms
    kept = tuple(
        SealedValue(
            ciphertext=value.ciphertext,
            not_before_ms=value.not_before_ms,
            not_after_ms=ends_ms if value.not_after_ms is None else min(value.not_after_ms, ends_ms),
        )
        for value in values
        if value.is_valid(now_ms) and overlap_ms > 0
    )
    if len(kept) >= VALUES_MAX:
        msg = f"{len(kept)} values are still valid; wait for the first to end, or rotate without an overlap."
        raise InvalidRequest(msg)
    return (*kept, new)


def overlap_ms(hours: float) -> int:
    """Return the overlap of a rotation.

    Raises:
        InvalidRequest: negative, or more than 30 days.
    """
    if not 0 <= hours <= 720:  # noqa: PLR2004 - 30 days
        msg = "An overlap is from 0 to 720 hours."
        raise InvalidRequest(msg)
    return int(hours * _HOUR_MS)


def can_call(manifest: Manifest, given: Collection[str]) -> bool:
    """Say whether a client has every secret that it works with; ``given`` are names of credentials."""
    replaced = {offer.instead_of for name, offer in manifest.credentials.items() if name in given}
    wanted = {
        name
        for name, offer in manifest.credentials.items()
        if offer.secret and not offer.signing and not offer.client_does_without and not offer.instead_of
    }
    return wanted <= {*given, *replaced}


def role_row(account: Account, manifest: Manifest, *, default_max_age_ms: int) -> str:
    """Return the account's line in the merchant's roles, as the apply script reads it.

    An account can be fetched from when its connector has a client and the merchant gave every
    secret: an optional one that is no signing secret is what the client works with, unless the
    manifest says that it does without.
    """
    fetches = manifest.client is not None and can_call(manifest, account.credentials)
    items = "s" if manifest.ids.items == "sku" else "p"
    locations = "m" if manifest.ids.locations == "merchant" else "p"
    max_age_ms = account.max_age_ms or default_max_age_ms
    offers = manifest.evidence.offers
    return "|".join(
        [
            _LETTERS[account.role],
            str(account.rank),
            str(max_age_ms),
            items,
            locations,
            str(int(fetches)),
            str(int("own" in offers)),
            str(int("ref" in offers)),
            str(account.created_at_ms),
        ]
    )


def demoted(row: str) -> str:
    """Return the same line for an account whose levels no longer count and that is not fetched from."""
    _, rank, max_age_ms, items, locations, _, *rest = row.split("|")
    return "|".join(("C", rank, max_age_ms, items, locations, "0", *rest))


def warnings(account: Account, manifest: Manifest, others: Iterable[Account]) -> tuple[str, ...]:
    """Return what the merchant should know before relying on the new account."""
    found = []
    if not any(other.role is Role.AUTHORITY for other in (account, *others)):
        found.append(
            f"Merchant {account.merchant} has no authority: the levels of {account.name} are kept and not "
            "counted. Give the account that knows the stock the role authority."
        )
    if manifest.ids.locations == "platform":
        found.append(
            f"{manifest.title} has location ids of its own; map each with "
            f"`synchub account map {account.name} --location THEIRS=OURS` before its levels count."
        )
    return tuple(found)


def hook_url(base: str, account: str) -> str:
    """Return where the platform posts the account's deliveries."""
    return f"{base.rstrip('/')}/hooks/{account}"


def _shown(name: str) -> str:
    # A value given where the name belongs is not repeated.
    return name if _CREDENTIAL_NAME.fullmatch(name) else "of that name"


def _no_such_credential(manifest: Manifest, names: str) -> str:
    return f"{manifest.title} has no credential {names}; it has {', '.join(manifest.credentials)}."
