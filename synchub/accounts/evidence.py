"""What can be done about evidence: choose it, look at it, interrupt it.

A merchant's warehouse contains a shop's sales because an importer brings them there. How long that takes
is measured from acknowledgements; where an account gives none, a person says after which time every sale
has arrived. A time that is too short sells what is gone, so it is raised whenever a level disproves it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.accounts import evidence_rules as rules
from synchub.accounts import evidence_store as store
from synchub.accounts.evidence_rules import ANY, Way
from synchub.accounts.model import Role
from synchub.accounts.operations import account_of, accounts_of
from synchub.errors import InvalidRequest
from synchub.keyspace import MerchantKeys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synchub.accounts.evidence_rules import Evidence
    from synchub.connector_kit.manifest import Manifest
    from synchub.lua import Executes


async def list_evidence(
    redis: Executes, merchant: str, manifests: Mapping[str, Manifest]
) -> tuple[Evidence, ...]:
    """Return every authority of the merchant with every account that sells."""
    keys = MerchantKeys(merchant)
    everyone = await accounts_of(redis, merchant)
    stored, measured = await store.read_stored(redis, keys), await store.read_measured(redis, keys)
    return tuple(
        rules.evidence_of((one.name, other.name), manifests[one.platform].evidence.offers, stored, measured)
        for one in everyone
        if one.role is Role.AUTHORITY and one.platform in manifests
        for other in everyone
    )


async def choose_evidence(
    redis: Executes,
    merchant: str,
    authority: str,
    origin: str,
    way: Way,
    *,
    lag_ms: int | None = None,
    manifests: Mapping[str, Manifest],
) -> Evidence:
    """Say what shows that an authority's number contains an account's sales; ``*`` is every account's.

    ``own`` and ``ref`` take back a choice: the platform's own evidence is then all there is. What is
    sold already is judged anew within about a second. Repeatable.

    Raises:
        NotFound: the merchant has no such account.
        InvalidRequest: the first is no authority, or its platform does not offer this.
    """
    account = await account_of(redis, merchant, authority)
    if origin != ANY:
        await account_of(redis, merchant, origin)
    if account.role is not Role.AUTHORITY:
        msg = f"The levels of {authority} do not count; evidence is about an authority."
        raise InvalidRequest(msg)
    if account.platform not in manifests:
        msg = f"The connector of {authority} is not installed."
        raise InvalidRequest(msg)
    offers = manifests[account.platform].evidence.offers
    rules.check_choice(way, lag_ms, authority=authority, origin=origin, offers=offers)
    keys = MerchantKeys(merchant)
    await store.write(redis, keys, (authority, origin), rules.text_of(way, lag_ms))
    stored, measured = await store.read_stored(redis, keys), await store.read_measured(redis, keys)
    return rules.evidence_of((authority, origin), offers, stored, measured)


async def suspend_evidence(
    redis: Executes, merchant: str, authority: str, origin: str, *, at_ms: int
) -> bool:
    """Count nothing as arrived that was told after the importer stopped; False where no time was chosen.

    What was told, and read, before stays believed. Repeatable.
    """
    return await store.suspend(redis, MerchantKeys(merchant), (authority, origin), at_ms=at_ms, ends=False)


async def resume_evidence(redis: Executes, merchant: str, authority: str, origin: str, *, at_ms: int) -> bool:
    """Let what waits begin its way now; False where nothing was interrupted. Repeatable."""
    return await store.suspend(redis, MerchantKeys(merchant), (authority, origin), at_ms=at_ms, ends=True)
