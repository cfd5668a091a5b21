"""What can be done with accounts: add, look at, check, rotate, remove.

A merchant's data and the registry live in different slots, so no step covers both.
Each operation writes the merchant's part first and the registry, which makes an
account receive deliveries, last; a crash in between leaves nothing that counts, and
the same operation repeated completes it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from synchub.accounts import evidence_rules, evidence_store, rules, store
from synchub.accounts.model import (
    Account,
    AccountView,
    Added,
    Checked,
    NewAccount,
    Role,
    SealedValue,
    SigningSecret,
)
from synchub.connector_kit.signatures import new_secret
from synchub.errors import InvalidRequest, Misconfigured, NotFound, SynchubError
from synchub.keyspace import MerchantKeys, check_name
from synchub.kit.clock import now_ms
from synchub.mappings import operations as mappings

if TYPE_CHECKING:
    from collections.abc import Callable

    from synchub.accounts.vault import Vault
    from synchub.connector_kit.manifest import Manifest
    from synchub.lua import Executes
    from synchub.settings import Settings


def _no_faults(_platform: str, _credentials: Mapping[str, str]) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """What the operations need."""

    redis: Executes
    vault: Vault
    manifests: Mapping[str, Manifest]
    """By platform."""
    settings: Settings
    settings_faults: Callable[[str, Mapping[str, str]], tuple[str, ...]] = _no_faults
    """What a platform's own code finds wrong with credentials; it is asked by platform."""

    def platform(self, name: str) -> str:
        """Return the name of a platform's connector; hyphens stand for underscores.

        Raises:
            InvalidRequest: no connector of that name is installed.
        """
        platform = name.replace("-", "_")
        if platform not in self.manifests:
            known = ", ".join(sorted(self.manifests)) or "none"
            msg = f"There is no connector of that name; installed: {known}."
            raise InvalidRequest(msg)
        return platform

    def manifest(self, platform: str) -> Manifest:
        """Return the manifest of a platform.

        Raises:
            InvalidRequest: no connector of that name is installed.
        """
        return self.manifests[self.platform(platform)]


async def add_account(registry: Registry, wanted: NewAccount) -> Added:
    """Store a new account; the merchant comes into being with its first one.

    Raises:
        InvalidRequest: a name that is taken or no name, unknown platform, unknown, missing or
            malformed credentials, a role the account cannot have.
        Misconfigured: this process has another encryption key than the hub.
    """
    wanted = replace(wanted, platform=registry.platform(wanted.platform))
    manifest = registry.manifest(wanted.platform)
    check_name(wanted.merchant, "The merchant's name")
    chosen = {name: new_secret() for name in rules.credentials_to_generate(manifest, wanted.credentials)}
    if faults := registry.settings_faults(wanted.platform, wanted.credentials):
        raise InvalidRequest(" ".join(faults))
    await require_key(registry.redis, registry.vault)
    everyone = await store.read_all(registry.redis)
    account = _draft(wanted, manifest, everyone)
    rules.check_role(account.role, account.rank, is_written_to=False)
    if any(other.name == account.name for other in everyone):
        msg = f"There already is an account {account.name}."
        raise InvalidRequest(msg)
    account = _sealed(registry.vault, account, {**wanted.credentials, **chosen})
    await _write_merchant_part(registry, account, manifest)
    await store.write(registry.redis, account, before=None)
    others = [other for other in everyone if other.merchant == account.merchant]
    return Added(
        account=account,
        secret=chosen.get(manifest.signing_credential),
        warnings=rules.warnings(account, manifest, others),
    )


def _draft(wanted: NewAccount, manifest: Manifest, everyone: tuple[Account, ...]) -> Account:
    names = {account.name for account in everyone}
    name = wanted.name or rules.default_name(wanted.merchant, wanted.platform, names)
    role = wanted.role or rules.default_role(manifest.kind)
    own = [account for account in everyone if account.merchant == wanted.merchant]
    return Account(
        name=check_name(name, "The account's name"),
        merchant=wanted.merchant,
        platform=wanted.platform,
        role=role,
        rank=rules.default_rank(role, own) if wanted.rank is None else wanted.rank,
        max_age_ms=wanted.max_age_ms,
        credentials={},
        created_at_ms=now_ms(),
    )


def _sealed(vault: Vault, account: Account, values: Mapping[str, str]) -> Account:
    sealed = {
        name: (
            SealedValue(
                ciphertext=vault.seal(value, account.place(name)), not_before_ms=account.created_at_ms
            ),
        )
        for name, value in values.items()
    }
    return replace(account, credentials=sealed)


async def _write_merchant_part(registry: Registry, account: Account, manifest: Manifest) -> None:
    keys = MerchantKeys(account.merchant)
    row = rules.role_row(account, manifest, default_max_age_ms=registry.settings.stock.max_age_ms)
    await store.create_merchant(registry.redis, keys, secrets.token_urlsafe(12))
    await store.write_role(registry.redis, keys, account.name, row)


async def find_account(redis: Executes, name: str) -> Account:
    """Return one account as it is stored.

    Raises:
        NotFound: there is none of that name.
    """
    return await store.read(redis, name)


async def list_accounts(redis: Executes, merchant: str | None = None) -> tuple[Account, ...]:
    """Return all accounts by name, or those of one merchant."""
    everyone = await store.read_all(redis)
    return tuple(account for account in everyone if merchant in {None, account.merchant})


async def accounts_of(redis: Executes, merchant: str) -> tuple[Account, ...]:
    """Return the merchant's accounts by name; asks for these alone, however many the hub has."""
    names = await store.read_role_names(redis, MerchantKeys(merchant))
    found = await store.read_some(redis, names) if names else ()
    return tuple(account for account in found if account.merchant == merchant)


async def account_of(redis: Executes, merchant: str, name: str) -> Account:
    """Return one of the merchant's accounts.

    Raises:
        NotFound: it has none of that name; another merchant's looks the same.
    """
    account = await store.read(redis, name)
    if account.merchant != merchant:
        msg = f"There is no account {name}."
        raise NotFound(msg)
    return account


def open_view(vault: Vault, account: Account, manifest: Manifest, *, at_ms: int) -> AccountView:
    """Return the account with every value opened that is still valid at ``at_ms``.

    Raises:
        Misconfigured: one of them does not open with this key.
    """
    opened = {
        name: [
            SigningSecret(
                value=vault.unseal(value.ciphertext, account.place(name)), not_after_ms=value.not_after_ms
            )
            for value in reversed(values)
            if value.is_valid(at_ms)
        ]
        for name, values in account.credentials.items()
    }
    return AccountView(
        name=account.name,
        merchant=account.merchant,
        platform=account.platform,
        role=account.role,
        rank=account.rank,
        signing=tuple(opened.get(manifest.signing_credential, ())),
        credentials={name: values[0].value for name, values in opened.items() if values},
        max_age_ms=account.max_age_ms,
    )


async def check_account(registry: Registry, name: str) -> Checked:
    """Say in sentences whether the account can work: its credentials, its role, its maps, what waits.

    Raises:
        NotFound: there is none of that name.
    """
    account = await store.read(registry.redis, name)
    faults: list[str] = []
    notes: list[str] = []
    try:
        manifest = registry.manifest(account.platform)
        view = open_view(registry.vault, account, manifest, at_ms=now_ms())
        faults += registry.settings_faults(account.platform, view.credentials)
        if manifest.signing_credential and not view.signing:
            faults.append("No signing secret is valid, so every delivery is refused; rotate it.")
        signed = f"{len(view.signing)} signing secrets are valid"
        told = signed if manifest.signing_credential else "it is polled only"
        notes.append(f"{len(view.credentials)} credentials open; {told}.")
        faults += await _role_faults(registry, account, manifest)
    except SynchubError as problem:
        faults.append(problem.detail)
    notes += await _progress(registry.redis, account)
    notes += await _unproven(registry, account)
    return Checked(is_sound=not faults, sentences=(*faults, *notes))


async def _role_faults(registry: Registry, account: Account, manifest: Manifest) -> list[str]:
    keys = MerchantKeys(account.merchant)
    row = rules.role_row(account, manifest, default_max_age_ms=registry.settings.stock.max_age_ms)
    if await store.read_role(registry.redis, keys, account.name) == row:
        return []
    return ["Its stored role differs from its record; `synchub account add` or `remove` was interrupted."]


async def _unproven(registry: Registry, account: Account) -> list[str]:
    """Say whose sales nothing will ever show to be in an authority's level."""
    if account.role is not Role.AUTHORITY or account.platform not in registry.manifests:
        return []
    stored = await evidence_store.read_stored(registry.redis, MerchantKeys(account.merchant))
    sellers = [one.name for one in await accounts_of(registry.redis, account.merchant)]
    offers = registry.manifests[account.platform].evidence.offers
    unproven = evidence_rules.unproven(account.name, offers, sellers, stored)
    return [
        f"Nothing shows when its level contains sales of {seller}, so they stay subtracted from it until "
        f"somebody settles them; see `synchub account evidence`."
        for seller in unproven
    ]


async def _progress(redis: Executes, account: Account) -> list[str]:
    keys = MerchantKeys(account.merchant)
    counts = await mappings.count(redis, keys, account.name)
    complete_to_ms = await store.read_watermark(redis, keys, account.name)
    notes = [
        f"It is {account.role.value}, rank {account.rank}, of merchant {account.merchant}.",
        f"{counts.items} items and {counts.locations} locations are mapped.",
        f"{counts.parked} items wait for a mapping.",
    ]
    if complete_to_ms:
        complete_to = datetime.fromtimestamp(complete_to_ms / 1000, UTC).isoformat(timespec="seconds")
        notes.append(f"Its reports are complete up to {complete_to}.")
    return notes


async def change_role(registry: Registry, name: str, role: Role, rank: int | None = None) -> Account:
    """Let the account's levels count for something else, or before or after others.

    Without a rank an authority keeps its own, or takes the first that is free. Its SKUs are settled anew
    by the workers, within about a second; one that becomes an authority is taken to contain no open
    sale until there is evidence. Repeatable, also after a failure half-way.

    Raises:
        NotFound: there is none of that name.
        InvalidRequest: a role that it cannot have, a rank out of range, or somebody else was quicker.
    """
    account = await store.read(registry.redis, name)
    manifest = registry.manifest(account.platform)
    others = [one for one in await accounts_of(registry.redis, account.merchant) if one.name != name]
    is_new = role is not account.role
    chosen = rank if rank is not None else rules.default_rank(role, others) if is_new else account.rank
    rules.check_role(role, chosen, is_written_to=account.role is Role.MIRROR)
    changed = replace(account, role=role, rank=chosen)
    await _write_merchant_part(registry, changed, manifest)
    if changed != account:
        await store.write(registry.redis, changed, before=account)
    await mappings.look_again(registry.redis, MerchantKeys(account.merchant), name)
    return changed


async def count_evidence(redis: Executes, merchant: str) -> tuple[int, int]:
    """Return how many of the merchant's choices are interrupted, and how often one was disproved."""
    keys = MerchantKeys(merchant)
    stored, measured = (
        await evidence_store.read_stored(redis, keys),
        await evidence_store.read_measured(redis, keys),
    )
    return sum(one.suspended_ms is not None for one in stored.values()), sum(
        one.late for one in measured.values()
    )


async def rotate_credential(
    registry: Registry,
    name: str,
    credential: str | None = None,
    *,
    value: str | None = None,
    overlap_hours: float | None = None,
) -> Added:
    """Give a credential a new value; the old ones stay valid for the overlap.

    ``credential`` defaults to the signing secret, ``value`` to a generated one where the scheme
    lets the hub choose, ``overlap_hours`` to ``secrets.rotation_overlap_hours``. Of a credential
    that signs nothing the newest value is used at once.

    Raises:
        NotFound: no such account.
        InvalidRequest: no such credential, a value is needed or unusable, too many rotations.
    """
    account = await store.read(registry.redis, name)
    manifest = registry.manifest(account.platform)
    await require_key(registry.redis, registry.vault)
    target = credential or manifest.signing_credential
    chosen = _chosen_value(manifest, target, value)
    now = now_ms()
    hours = registry.settings.secrets.rotation_overlap_hours if overlap_hours is None else overlap_hours
    overlap_ms = rules.overlap_ms(hours) if manifest.credentials[target].signing else 0
    new = SealedValue(ciphertext=registry.vault.seal(chosen, account.place(target)), not_before_ms=now)
    values = rules.rotated(account.credentials.get(target, ()), new, overlap_ms=overlap_ms, now_ms=now)
    changed = replace(account, credentials={**account.credentials, target: values})
    await _write_merchant_part(registry, changed, manifest)
    await store.write(registry.redis, changed, before=account)
    return Added(account=changed, secret=None if value is not None else chosen, warnings=())


def _chosen_value(manifest: Manifest, credential: str, value: str | None) -> str:
    offer = manifest.credentials.get(credential)
    if value is None and offer is not None and offer.generated:
        return new_secret()
    if value is None and offer is not None:
        msg = f"{manifest.title} chooses its {credential}; give the new value."
        raise InvalidRequest(msg)
    rules.check_credential(manifest, credential, value or "")
    return value or ""


async def remove_account(registry: Registry, name: str) -> None:
    """Stop counting the account, take its reports out of every SKU, and forget it.

    Repeatable after a failure half-way. What was queued of it meanwhile is dropped by the workers.

    Raises:
        NotFound: there is none of that name.
    """
    account = await store.read(registry.redis, name)
    keys = MerchantKeys(account.merchant)
    row = await store.read_role(registry.redis, keys, name)
    if row:
        await store.write_role(registry.redis, keys, name, rules.demoted(row))
    await mappings.withdraw(registry.redis, keys, name, settings=registry.settings)
    await _forget_merchant_part(registry.redis, keys, name)
    await store.remove(registry.redis, account)
    # Deliveries that came in until now may have left something again.
    await _forget_merchant_part(registry.redis, keys, name)


async def _forget_merchant_part(redis: Executes, keys: MerchantKeys, name: str) -> None:
    await mappings.forget(redis, keys, name)
    await evidence_store.forget(redis, keys, name)
    await store.remove_role(redis, keys, name)
    await store.forget_platform(redis, keys.merchant, name)


async def align_roles(registry: Registry) -> int:
    """Write every account's role again, as record, manifest and settings say now; returns how many.

    Done at start: it completes interrupted operations and makes changed settings effective.
    """
    everyone = await store.read_all(registry.redis)
    known = [account for account in everyone if account.platform in registry.manifests]
    for account in known:
        await _write_merchant_part(registry, account, registry.manifests[account.platform])
    return len(known)


async def require_key(redis: Executes, vault: Vault) -> None:
    """Make sure that all processes encrypt with one key.

    Raises:
        Misconfigured: records exist that were written with another one.
    """
    if not await store.claim_key(redis, vault.fingerprint):
        msg = (
            "The stored credentials were encrypted with another key than this process has. Use the same "
            "secrets.key or secrets.key_file everywhere; if the key is lost, remove all accounts and add "
            "them again."
        )
        raise Misconfigured(msg)
