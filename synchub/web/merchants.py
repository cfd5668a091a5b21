"""What merchants do themselves: policies, agents, and whose names are whose.

The merchant is the one that the key belongs to. Nothing of another merchant can be named here: its
accounts and agents look like ones that do not exist.
"""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final

from aiohttp import web
from pydantic import Field

from synchub.accounts import operations as accounts
from synchub.accounts.rules import hook_url
from synchub.agents import operations as agents
from synchub.agents.model import Scope
from synchub.agents.operations import NewAgent
from synchub.agents.rules import CHANNELS_MAX, DEFAULT_TIER
from synchub.errors import InvalidRequest
from synchub.keyspace import MerchantKeys, check_name
from synchub.mappings import operations as mappings
from synchub.mappings.model import Part
from synchub.web.answers import answer_json
from synchub.web.auth import merchant_of
from synchub.web.bodies import Body, Rows, read_body
from synchub.web.keys import HUB
from synchub.web.ledger import ledger_handlers
from synchub.web.policies import replace_policies, show_policies
from synchub.web.sales import list_sales, settle
from synchub.web.sources import change_role, choose_evidence, decide, list_evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.accounts.model import Account
    from synchub.agents.model import Agent
    from synchub.hub import Hub
    from synchub.mappings.model import Parked

ITEMS_SHOWN: Final = 1000
"""Mapped items in one answer."""
PARKED_SHOWN: Final = 100


class NewAgentBody(Body):
    """Body of ``POST /v1/merchant/agents``."""

    name: str | None = None
    tier: str = DEFAULT_TIER
    channels: Annotated[Rows[str], Field(max_length=CHANNELS_MAX)] = ()
    scopes: Rows[str] = ()
    rate_per_s: int | None = None
    burst: int | None = None


class LocationBody(Body):
    """Body of ``POST /v1/merchant/locations``."""

    account: str
    theirs: str
    ours: str
    covers: Rows[str] = ()
    """What it is the total of."""


class PartBody(Body):
    """One SKU in a pack or kit."""

    sku: str
    units: int = 1


class MappingBody(Body):
    """Body of ``POST /v1/merchant/mappings``: either ``sku`` or ``parts``."""

    account: str
    item: str
    sku: str | None = None
    parts: Rows[PartBody] = ()


def merchants_app(hub: Hub) -> web.Application:
    """Build the application for merchants."""
    app = web.Application()
    app[HUB] = hub
    app.router.add_get("/policies", show_policies, name="policies")
    app.router.add_put("/policies", replace_policies, name="replace_policies")
    app.router.add_get("/agents", list_agents, name="agents")
    app.router.add_post("/agents", add_agent, name="add_agent")
    app.router.add_delete("/agents/{name}", revoke_agent, name="revoke_agent")
    app.router.add_get("/accounts", list_accounts, name="accounts")
    app.router.add_put("/accounts/{name}/role", change_role, name="change_role")
    app.router.add_get("/evidence", list_evidence, name="evidence")
    app.router.add_put("/evidence", choose_evidence, name="choose_evidence")
    app.router.add_post("/sources", decide, name="decide")
    app.router.add_get("/locations", list_locations, name="locations")
    app.router.add_post("/locations", map_location, name="map_location")
    app.router.add_get("/mappings", list_mappings, name="mappings")
    app.router.add_post("/mappings", map_item, name="map_item")
    app.router.add_routes(ledger_handlers(lambda request: merchant_of(request, Scope.MERCHANT_READ).merchant))
    app.router.add_get("/sales", list_sales, name="sales")
    app.router.add_post("/settlements", settle, name="settlements")
    return app


async def list_agents(request: web.Request) -> web.Response:
    """Answer with everybody who has a key of the merchant."""
    merchant = merchant_of(request, Scope.MERCHANT_READ).merchant
    found = request.app[HUB].directory.agents_of(merchant)
    return answer_json({"agents": [_described_agent(agent) for agent in found]})


async def add_agent(request: web.Request) -> web.Response:
    """Give an agent a key, which is told in this answer and never again."""
    merchant = merchant_of(request, Scope.MERCHANT_WRITE).merchant
    hub = request.app[HUB]
    body = await read_body(request, NewAgentBody)
    _check_limits(hub, body)
    wanted = NewAgent(
        merchant=merchant,
        name=_own_name(merchant, body.name),
        tier=body.tier,
        channels=body.channels,
        scopes=body.scopes,
        rate_per_s=body.rate_per_s,
        burst=body.burst,
    )
    issued = await agents.add_agent(hub.redis, wanted)
    answer = {**_described_agent(issued.agent), "key": issued.key}
    return answer_json(answer, status=HTTPStatus.CREATED)


async def revoke_agent(request: web.Request) -> web.Response:
    """Make an agent's key unknown."""
    merchant = merchant_of(request, Scope.MERCHANT_WRITE).merchant
    name = request.match_info["name"]
    await agents.revoke_agent(request.app[HUB].redis, check_name(name, "The agent's name"), merchant=merchant)
    return answer_json({"agent": name, "revoked": True})


async def list_accounts(request: web.Request) -> web.Response:
    """Answer with the merchant's accounts, what they count for and what waits for them."""
    merchant = merchant_of(request, Scope.MERCHANT_READ).merchant
    found = await accounts.accounts_of(request.app[HUB].redis, merchant)
    return answer_json({"accounts": [await _described_account(request, one) for one in found]})


async def list_locations(request: web.Request) -> web.Response:
    """Answer with the platforms' locations that are mapped, and the order in which the merchant sells."""
    merchant = merchant_of(request, Scope.MERCHANT_READ).merchant
    hub = request.app[HUB]
    keys = MerchantKeys(merchant)
    mapped = [
        {"account": account.name, "theirs": theirs, "ours": ours}
        for account in await accounts.accounts_of(hub.redis, merchant)
        for theirs, ours in (await mappings.list_locations(hub.redis, keys, account.name)).items()
    ]
    order = hub.policies.general(merchant).locations
    return answer_json({"locations": mapped, "order": list(order)})


async def map_location(request: web.Request) -> web.Response:
    """Say which of the merchant's locations a platform's is, and count what waited for it."""
    merchant = merchant_of(request, Scope.MERCHANT_WRITE).merchant
    hub = request.app[HUB]
    body = await read_body(request, LocationBody)
    account = await accounts.account_of(hub.redis, merchant, check_name(body.account, "The account"))
    tried = await mappings.map_location(
        hub.redis,
        MerchantKeys(merchant),
        account.name,
        body.theirs,
        body.ours,
        covers=body.covers,
        settings=hub.settings,
    )
    return answer_json({"account": account.name, "theirs": body.theirs, "ours": body.ours, "tried": tried})


async def list_mappings(request: web.Request) -> web.Response:
    """Answer with what is mapped of one account, and what waits because it is not."""
    merchant = merchant_of(request, Scope.MERCHANT_READ).merchant
    hub = request.app[HUB]
    name = request.query.get("account")
    if name is None:
        msg = "Say of which account: ?account=NAME. GET /v1/merchant/accounts lists them."
        raise InvalidRequest(msg)
    account = await accounts.account_of(hub.redis, merchant, check_name(name, "The account"))
    keys = MerchantKeys(merchant)
    maps = await mappings.list_mappings(hub.redis, keys, account.name, limit=ITEMS_SHOWN)
    waiting = await mappings.list_parked(hub.redis, keys, account.name, limit=PARKED_SHOWN)
    return answer_json(
        {
            "account": account.name,
            "items": dict(maps.items),
            "kits": {item: described_parts(parts) for item, parts in maps.kits.items()},
            "items_total": maps.items_total,
            "locations": dict(maps.locations),
            "totals": {place: list(members) for place, members in maps.totals.items()},
            "decided": [
                {"sku": one.sku or None, "location": one.place or None, "decision": one.decision}
                for one in maps.decided
            ],
            "parked": [_described_parked(one) for one in waiting.items],
            "parked_total": waiting.total,
        }
    )


async def map_item(request: web.Request) -> web.Response:
    """Say which SKU a platform's item is, and count what waited for it."""
    merchant = merchant_of(request, Scope.MERCHANT_WRITE).merchant
    hub = request.app[HUB]
    body = await read_body(request, MappingBody)
    if (body.sku is None) is not bool(body.parts):
        msg = "Say either which sku the item is, or which parts it has."
        raise InvalidRequest(msg)
    account = await accounts.account_of(hub.redis, merchant, check_name(body.account, "The account"))
    parts = [Part(sku=part.sku, units=part.units) for part in body.parts] or [Part(sku=body.sku or "")]
    mapped = await mappings.map_parts(
        hub.redis, MerchantKeys(merchant), account.name, body.item, parts, settings=hub.settings
    )
    told: dict[str, Any] = {"account": account.name, "item": body.item}
    return answer_json(told | ({"parts": described_parts(mapped)} if body.parts else {"sku": body.sku}))


def described_parts(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return the parts of an item as they are told."""
    return [{"sku": part.sku, "units": part.units} for part in parts]


def _described_parked(parked: Parked) -> dict[str, Any]:
    return {
        "item": parked.item,
        "locations": list(parked.locations),
        "since": _time(parked.since_ms),
        "waits_for": "decision" if parked.undecided else "mapping",
        "undecided": [{"sku": sku, "location": place} for sku, place in parked.undecided],
    }


def _own_name(merchant: str, name: str | None) -> str | None:
    """Agents' names are one for the whole hub; with the merchant's in front none tells of another's."""
    if name is not None and not name.startswith(f"{merchant}-"):
        msg = f"The name of an agent begins with {merchant}-."
        raise InvalidRequest(msg)
    return name


def _check_limits(hub: Hub, body: NewAgentBody) -> None:
    """A merchant may give an agent less than the hub does, and not more."""
    limits = hub.settings.limits
    for what, wanted, most in (
        ("rate_per_s", body.rate_per_s, limits.agent_rate_per_s),
        ("burst", body.burst, limits.agent_burst),
    ):
        if wanted is not None and wanted > most:
            msg = f"{what} is at most {most} on this hub; leave it out to have that."
            raise InvalidRequest(msg)


def _described_agent(agent: Agent) -> dict[str, Any]:
    return {
        "agent": agent.name,
        "kind": agent.kind,
        "tier": agent.tier,
        "channels": sorted(agent.channels),
        "scopes": sorted(agent.scopes),
        "rate_per_s": agent.rate_per_s,
        "burst": agent.burst,
        "created_at": _time(agent.created_at_ms),
    }


async def _described_account(request: web.Request, account: Account) -> dict[str, Any]:
    hub = request.app[HUB]
    counts = await mappings.count(hub.redis, MerchantKeys(account.merchant), account.name)
    base = hub.settings.server.public_url or f"{request.scheme}://{request.host}"
    return {
        "account": account.name,
        "platform": account.platform,
        "role": account.role,
        "rank": account.rank,
        "max_age_ms": account.max_age_ms,
        "credentials": sorted(account.credentials),
        "url": hook_url(base, account.name),
        "items": counts.items,
        "locations": counts.locations,
        "parked": counts.parked,
        "created_at": _time(account.created_at_ms),
    }


def _time(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
