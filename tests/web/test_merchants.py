"""What merchants do themselves over HTTP: policies, agents, and whose names are whose."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from synchub.agents import operations as agents
from synchub.agents.model import Kind, Scope
from synchub.agents.operations import NewAgent
from synchub.web.auth import operator_of
from synchub.web.keys import HUB
from synchub.web.problems import problems
from tests.support.deliveries import body_of, level
from tests.support.hub import Site, running_hub
from tests.support.merchants import add_merchant
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.hub import Heard

POLICIES = "/v1/merchant/policies"
RULES = [{"scope": {"skus": ["TEE"]}, "set": {"low_threshold": 20}}]


class Desk:
    """A merchant at work."""

    def __init__(self, site: Site, key: str) -> None:
        self.site = site
        self.key = key

    async def ask(self, method: str, path: str, **about: Any) -> Heard:
        """Send a request with the merchant's key."""
        headers = {"Authorization": f"Bearer {self.key}", **about.pop("headers", {})}
        return await self.site.ask(method, path, headers=headers, **about)

    async def get(self, path: str) -> Any:
        """What a successful question is answered."""
        heard = await self.ask("GET", path)
        assert heard.status == 200, heard
        return json.loads(heard.body)

    async def put(self, document: Any, **headers: str) -> Heard:
        """Replace the policies."""
        return await self.ask("PUT", POLICIES, json=document, headers=headers)


async def add_key(site: Site, **wanted: Any) -> str:
    """Somebody's key, known to the hub."""
    merchant = {} if wanted.get("kind") is Kind.OPERATOR else {"merchant": site.merchant.name}
    issued = await agents.add_agent(site.hub.redis, NewAgent(**{**merchant, **wanted}))
    await eventually(lambda: site.hub.directory.find_agent(issued.key) is not None)
    return issued.key


@pytest.fixture
async def desk(redis_url: str) -> AsyncIterator[Desk]:
    async with running_hub(redis_url) as site:
        yield Desk(site, await add_key(site, kind=Kind.MERCHANT))


# --------------------------------------------------------------------------------------------------- policies


async def test_before_the_first_edit_there_is_an_empty_document(desk: Desk) -> None:
    heard = await desk.ask("GET", POLICIES)
    assert heard.headers["ETag"] == '"0"'
    assert heard.headers["Cache-Control"] == "no-store"
    assert json.loads(heard.body) == {
        "version": 0,
        "rules": [],
        "general": {},
        "changed_at": None,
        "changed_by": None,
    }


async def test_what_was_read_can_be_edited_and_sent_back(desk: Desk) -> None:
    document = await desk.get(POLICIES)
    document["rules"] = RULES
    heard = await desk.put(document)
    assert heard.status == 200
    assert heard.headers["ETag"] == '"1"'
    told = json.loads(heard.body)
    assert (told["version"], told["current_version"]) == (1, 1)
    after = await desk.get(POLICIES)
    assert (after["version"], after["rules"]) == (1, RULES)
    assert after["changed_by"] == f"{desk.site.merchant.name}-merchant"
    assert after["changed_at"].endswith("Z")


async def test_an_edit_counts_for_the_next_question_of_an_agent(desk: Desk) -> None:
    await desk.site.post(body_of(level("TEE", 12), level("CAP", 12), sequence=1))
    await desk.site.drained()
    assert (await desk.site.stock("TEE"))["state"] == "IN_STOCK"
    assert (await desk.put({"rules": RULES, "version": 0})).status == 200
    assert (await desk.site.stock("TEE"))["state"] == "LOW_STOCK"
    assert (await desk.site.stock("CAP"))["state"] == "IN_STOCK"


async def test_the_terms_are_those_of_the_agents_tier_and_channel(desk: Desk) -> None:
    await desk.site.post(body_of(level("TEE", 12), sequence=1))
    await desk.site.drained()
    rules = [
        {"scope": {"tier": "gold"}, "set": {"low_threshold": 20}},
        {"scope": {"channel": "chat"}, "set": {"low_threshold": 20}},
    ]
    assert (await desk.put({"rules": rules, "version": 0})).status == 200
    standard, gold = desk.site.merchant.key, await add_key(desk.site, tier="gold")

    async def state(key: str, query: str = "") -> str:
        headers = {"Authorization": f"Bearer {key}"}
        heard = await desk.site.ask("GET", f"/v1/stock/TEE{query}", headers=headers)
        found: str = json.loads(heard.body)["state"]
        return found

    assert [await state(standard), await state(gold)] == ["IN_STOCK", "LOW_STOCK"]
    assert await state(standard, "?channel=chat") == "LOW_STOCK"


async def test_an_edit_by_another_process_counts_within_moments(desk: Desk, redis_url: str) -> None:
    async with running_hub(redis_url, works=False) as other:
        merchant = desk.site.merchant.name
        assert (await desk.put({"rules": RULES, "version": 0})).status == 200
        await eventually(lambda: other.hub.policies.version(merchant) == 1, within_s=2)


async def test_the_version_may_stand_in_the_header(desk: Desk) -> None:
    for version in ('"0"', "1"):
        assert (await desk.put({"rules": []}, **{"If-Match": version})).status == 200
    heard = await desk.put({"rules": []}, **{"If-Match": '"1"'})
    assert (heard.status, heard.problem["code"]) == (409, "conflict")
    assert "at version 2" in heard.problem["detail"]


@pytest.mark.parametrize(
    ("document", "headers", "sentence"),
    [
        ({"rules": []}, {}, "Say which version you have edited"),
        ({"rules": [], "version": 1}, {"If-Match": '"0"'}, "send one of them"),
        ({"rules": []}, {"If-Match": "*"}, "If-Match is the number of a version"),
        ({"rules": []}, {"If-Match": "1" * 40}, "If-Match is the number of a version"),
        ({"rules": [], "version": 0}, {"Idempotency-Key": "x" * 129}, "idempotency key"),
        ({"rule": [], "version": 0}, {}, "rule: there is no such field"),
        ({"rules": [{"set": {"split": 1}}], "version": 0}, {}, "rules[0].set.split: write true or false"),
    ],
)
async def test_an_edit_that_makes_no_sense_is_refused_with_what_to_do(
    desk: Desk, document: Any, headers: dict[str, str], sentence: str
) -> None:
    heard = await desk.put(document, **headers)
    assert (heard.status, heard.problem["code"]) == (422, "invalid_request")
    assert sentence in heard.problem["detail"]
    assert (await desk.get(POLICIES))["version"] == 0


async def test_a_document_larger_than_any_is_refused(desk: Desk) -> None:
    heard = await desk.ask("PUT", POLICIES, data=b" " * 300_000)
    assert (heard.status, heard.problem["code"]) == (413, "payload_too_large")


async def test_of_concurrent_edits_one_is_made(desk: Desk) -> None:
    heard = await asyncio.gather(*(desk.put({"rules": [], "version": 0}) for _ in range(10)))
    assert sorted(one.status for one in heard) == [200] + [409] * 9


async def test_a_repeated_edit_gets_the_first_answer(desk: Desk) -> None:
    key = {"Idempotency-Key": "a-1"}
    first = json.loads((await desk.put({"rules": RULES, "version": 0}, **key)).body)
    await desk.put({"rules": [], "version": 1})
    again = json.loads((await desk.put({"rules": RULES, "version": 0}, **key)).body)
    assert again == first | {"current_version": 2}
    mismatch = await desk.put({"rules": [], "version": 2}, **key)
    assert (mismatch.status, mismatch.problem["code"]) == (409, "idempotency_mismatch")


async def test_the_history_says_who_made_what_and_old_versions_can_be_read(desk: Desk) -> None:
    await desk.put({"rules": RULES, "version": 0})
    await desk.put({"rules": [], "version": 1})
    history = (await desk.get(f"{POLICIES}?history=1"))["history"]
    assert [(one["version"], one["changed_by"]) for one in history] == [
        (2, f"{desk.site.merchant.name}-merchant"),
        (1, f"{desk.site.merchant.name}-merchant"),
    ]
    assert (await desk.get(f"{POLICIES}?version=1"))["rules"] == RULES
    assert (await desk.ask("GET", f"{POLICIES}?version=9")).problem["code"] == "not_found"
    assert (await desk.ask("GET", f"{POLICIES}?version=x")).problem["code"] == "invalid_request"


# ----------------------------------------------------------------------------------------------------- agents


async def test_an_agent_is_added_used_and_revoked(desk: Desk) -> None:
    merchant = desk.site.merchant.name
    wanted = {"name": f"{merchant}-claude", "tier": "gold", "channels": ["chat"], "rate_per_s": 5, "burst": 6}
    heard = await desk.ask("POST", "/v1/merchant/agents", json=wanted)
    assert heard.status == 201
    added = json.loads(heard.body)
    assert {name: added[name] for name in ("agent", "kind", "tier", "channels", "rate_per_s", "burst")} == {
        "agent": wanted["name"],
        "kind": "agent",
        "tier": "gold",
        "channels": ["chat"],
        "rate_per_s": 5,
        "burst": 6,
    }
    assert added["scopes"] == ["feed:read", "reservations", "stock:read"]
    await eventually(lambda: desk.site.hub.directory.find_agent(added["key"]) is not None)
    headers = {"Authorization": f"Bearer {added['key']}"}
    assert (await desk.site.ask("GET", "/v1/stock/TEE", headers=headers)).status == 200
    listed = await desk.get("/v1/merchant/agents")
    assert wanted["name"] in [one["agent"] for one in listed["agents"]]
    assert added["key"] not in json.dumps(listed)
    revoked = await desk.ask("DELETE", f"/v1/merchant/agents/{wanted['name']}")
    assert json.loads(revoked.body) == {"agent": wanted["name"], "revoked": True}
    await eventually(lambda: desk.site.hub.directory.find_agent(added["key"]) is None)
    again = await desk.ask("DELETE", f"/v1/merchant/agents/{wanted['name']}")
    assert again.problem["code"] == "not_found"


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"name": "claude"}, "begins with"),
        ({"tier": "A B"}, "The tier must have"),
        ({"channels": ["A B"]}, "A channel must have"),
        ({"scopes": ["merchant:write"]}, "A scope of this key is one of"),
        ({"rate_per_s": 501}, "rate_per_s is at most 500 on this hub"),
        ({"burst": 2001}, "burst is at most 2000 on this hub"),
        ({"rate_per_s": 0}, "rate_per_s is 1 to"),
        ({"kind": "operator"}, "kind is not a field of this request"),
        ({"merchant": "other"}, "merchant is not a field of this request"),
    ],
)
async def test_an_agent_that_a_merchant_may_not_have_is_refused(
    desk: Desk, wanted: dict[str, Any], sentence: str
) -> None:
    heard = await desk.ask("POST", "/v1/merchant/agents", json=wanted)
    assert (heard.status, heard.problem["code"]) == (422, "invalid_request")
    assert sentence in heard.problem["detail"]


async def test_a_merchant_cannot_revoke_its_own_key_or_anothers(desk: Desk, redis_url: str) -> None:
    other = await add_merchant(redis_url)
    for name in (f"{desk.site.merchant.name}-merchant", f"{other.name}-agent", "nobody"):
        heard = await desk.ask("DELETE", f"/v1/merchant/agents/{name}")
        assert (heard.status, heard.problem["detail"]) == (404, f"There is no agent {name}.")


# ------------------------------------------------------------------------------ accounts, locations, mappings


async def test_accounts_are_told_without_their_secrets(desk: Desk, redis_url: str) -> None:
    await add_merchant(redis_url)
    told = await desk.get("/v1/merchant/accounts")
    [account] = told["accounts"]
    assert (account["account"], account["role"]) == (desk.site.merchant.account, "authority")
    assert account["url"] == f"{desk.site.url}/hooks/{desk.site.merchant.account}"
    assert account["credentials"] == ["signing_secret"]
    assert desk.site.merchant.secret not in json.dumps(told)


async def test_items_and_locations_are_mapped(desk: Desk) -> None:
    name = desk.site.merchant.account
    mapped = await desk.ask(
        "POST", "/v1/merchant/mappings", json={"account": name, "item": "sku-1", "sku": "TEE"}
    )
    assert json.loads(mapped.body) == {"account": name, "item": "sku-1", "sku": "TEE"}
    located = await desk.ask(
        "POST", "/v1/merchant/locations", json={"account": name, "theirs": "7", "ours": "WH1"}
    )
    assert json.loads(located.body) == {"account": name, "theirs": "7", "ours": "WH1", "tried": 0}
    told = await desk.get(f"/v1/merchant/mappings?account={name}")
    assert (told["items"], told["items_total"], told["locations"]) == ({"sku-1": "TEE"}, 1, {"7": "WH1"})
    assert (told["parked"], told["parked_total"]) == ([], 0)
    await desk.put({"version": 0, "general": {"locations": ["WH2", "WH1"]}})
    assert await desk.get("/v1/merchant/locations") == {
        "locations": [{"account": name, "theirs": "7", "ours": "WH1"}],
        "order": ["WH2", "WH1"],
    }


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/merchant/mappings", None),
        ("POST", "/v1/merchant/mappings", {"account": "x", "item": "i"}),
        ("POST", "/v1/merchant/locations", {"account": "A B", "theirs": "7", "ours": "WH1"}),
        ("POST", "/v1/merchant/locations", []),
    ],
)
async def test_what_is_not_said_rightly_is_refused(desk: Desk, method: str, path: str, body: Any) -> None:
    heard = await desk.ask(method, path, json=body)
    assert (heard.status, heard.problem["code"]) == (422, "invalid_request")


async def test_an_account_of_another_merchant_does_not_exist(desk: Desk, redis_url: str) -> None:
    other = (await add_merchant(redis_url)).account
    for method, path, body in (
        ("GET", f"/v1/merchant/mappings?account={other}", None),
        ("POST", "/v1/merchant/mappings", {"account": other, "item": "i", "sku": "TEE"}),
        ("POST", "/v1/merchant/locations", {"account": other, "theirs": "7", "ours": "WH1"}),
    ):
        heard = await desk.ask(method, path, json=body)
        assert (heard.status, heard.problem["detail"]) == (404, f"There is no account {other}.")


# ----------------------------------------------------------------------------------------------- who may what


async def test_a_key_that_only_reads_changes_nothing(desk: Desk) -> None:
    reader = Desk(
        desk.site,
        await add_key(desk.site, kind=Kind.MERCHANT, name="reader", scopes=["merchant:read"]),
    )
    assert (await reader.get(POLICIES))["version"] == 0
    heard = await reader.put({"rules": [], "version": 0})
    assert (heard.status, heard.problem["code"]) == (403, "not_allowed")
    assert "merchant:write" in heard.problem["detail"]


@pytest.mark.parametrize("kind", [Kind.AGENT, Kind.OPERATOR])
async def test_a_key_of_another_kind_is_not_allowed(desk: Desk, kind: Kind) -> None:
    other = Desk(desk.site, await add_key(desk.site, kind=kind, name="other"))
    heard = await other.ask("GET", POLICIES)
    assert (heard.status, heard.problem["code"]) == (403, "not_allowed")
    assert "smk_" in heard.problem["detail"]


async def test_what_is_for_operators_is_for_nobody_else(desk: Desk) -> None:
    async def run_the_hub(request: web.Request) -> web.Response:
        return web.Response(text=operator_of(request, Scope.OPS_READ).name)

    app = web.Application(middlewares=[problems])
    app[HUB] = desk.site.hub
    app.router.add_get("/", run_the_hub)
    keys = {kind: await add_key(desk.site, kind=kind, name=f"some-{kind}") for kind in Kind}
    keys_without = await add_key(desk.site, kind=Kind.OPERATOR, name="writer", scopes=["ops:write"])
    async with TestClient(TestServer(app)) as client:

        async def status(key: str) -> int:
            async with client.get("/", headers={"Authorization": f"Bearer {key}"}) as answer:
                return answer.status

        found = {kind: await status(key) for kind, key in keys.items()}
        assert found == {Kind.AGENT: 403, Kind.MERCHANT: 403, Kind.OPERATOR: 200}
        assert await status(keys_without) == 403
        assert await status("sok_" + "A" * 43) == 401
