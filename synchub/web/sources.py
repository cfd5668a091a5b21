"""What merchants decide about where numbers come from: roles, evidence, several sources of one SKU."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field

from synchub.accounts import evidence
from synchub.accounts import operations as accounts
from synchub.accounts.evidence_rules import ANY, Way
from synchub.accounts.model import Role
from synchub.accounts.operations import Registry
from synchub.agents.model import Scope
from synchub.keyspace import MerchantKeys, check_name
from synchub.mappings import operations as mappings
from synchub.mappings.model import Decided, Decision
from synchub.web.answers import answer_json
from synchub.web.auth import merchant_of
from synchub.web.bodies import Body, read_body
from synchub.web.keys import HUB

if TYPE_CHECKING:
    from aiohttp import web

    from synchub.accounts.evidence_rules import Evidence
    from synchub.connector_kit.manifest import Manifest
    from synchub.hub import Hub


_Word = TypeVar("_Word")
OneOf = Annotated[_Word, Field(strict=False)]
"""A word of a list, which JSON has no type for."""


class RoleBody(Body):
    """Body of ``PUT /v1/merchant/accounts/{name}/role``."""

    role: OneOf[Role]
    rank: int | None = None


class EvidenceBody(Body):
    """Body of ``PUT /v1/merchant/evidence``."""

    authority: str
    origin: str
    way: OneOf[Way]
    lag_ms: int | None = None


class DecisionBody(Body):
    """Body of ``POST /v1/merchant/sources``; without SKU and location all of the account's are meant."""

    account: str
    decision: OneOf[Decision]
    sku: str = ""
    location: str = ""


async def change_role(request: web.Request) -> web.Response:
    """Let an account's levels count for something else, or before or after others."""
    merchant = merchant_of(request, Scope.MERCHANT_WRITE).merchant
    hub = request.app[HUB]
    body = await read_body(request, RoleBody)
    name = check_name(request.match_info["name"], "The account")
    await accounts.account_of(hub.redis, merchant, name)
    changed = await accounts.change_role(_registry(hub), name, body.role, body.rank)
    return answer_json({"account": changed.name, "role": changed.role, "rank": changed.rank})


async def list_evidence(request: web.Request) -> web.Response:
    """Answer with what shows, for each authority, that its number contains the others' sales."""
    merchant = merchant_of(request, Scope.MERCHANT_READ).merchant
    hub = request.app[HUB]
    found = await evidence.list_evidence(hub.redis, merchant, _manifests(hub))
    return answer_json({"evidence": [described_evidence(one) for one in found]})


async def choose_evidence(request: web.Request) -> web.Response:
    """Say what shows that an authority's number contains an account's sales."""
    merchant = merchant_of(request, Scope.MERCHANT_WRITE).merchant
    hub = request.app[HUB]
    body = await read_body(request, EvidenceBody)
    chosen = await evidence.choose_evidence(
        hub.redis,
        merchant,
        check_name(body.authority, "The authority"),
        body.origin if body.origin == ANY else check_name(body.origin, "The origin"),
        body.way,
        lag_ms=body.lag_ms,
        manifests=_manifests(hub),
    )
    return answer_json(described_evidence(chosen))


async def decide(request: web.Request) -> web.Response:
    """Say how one more source of a SKU counts, and count what waited for it."""
    merchant = merchant_of(request, Scope.MERCHANT_WRITE).merchant
    hub = request.app[HUB]
    body = await read_body(request, DecisionBody)
    account = await accounts.account_of(hub.redis, merchant, check_name(body.account, "The account"))
    decided = Decided(sku=body.sku, place=body.location, decision=body.decision)
    tried = await mappings.decide(
        hub.redis, MerchantKeys(merchant), account.name, decided, settings=hub.settings
    )
    about = {"sku": body.sku or None, "location": body.location or None}
    return answer_json({"account": account.name, **about, "decision": body.decision, "tried": tried})


def described_evidence(one: Evidence) -> dict[str, Any]:
    """Return a pair as it is told."""
    suspended = one.suspended_ms and datetime.fromtimestamp(one.suspended_ms / 1000, UTC)
    return {
        "authority": one.authority,
        "origin": one.origin,
        "ways": list(one.ways),
        "lag_ms": one.lag_ms,
        "suspended_since": suspended and suspended.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "measured": {
            "sales": one.measured.sales,
            "lag_ms": one.measured.lag_ms,
            "late": one.measured.late,
        },
    }


def _manifests(hub: Hub) -> dict[str, Manifest]:
    return {name: connector.manifest for name, connector in hub.connectors.items()}


def _registry(hub: Hub) -> Registry:
    return Registry(redis=hub.redis, vault=hub.vault, manifests=_manifests(hub), settings=hub.settings)
