"""No route tells one merchant anything of another, and none works without the right kind of key.

The routes are those of the application itself: one that is added and not described here fails the first
test, and whoever adds it says below who may use it and how it would name what belongs to somebody else.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import WSServerHandshakeError
from multidict import CIMultiDict

from synchub import push_keys
from synchub.agents import operations as agents
from synchub.agents.model import Kind
from synchub.agents.operations import NewAgent
from synchub.web.app import build_app
from tests.support.deliveries import body_of, level
from tests.support.hub import Heard, Site, running_hub
from tests.support.merchants import Merchant, add_merchant
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

Route = tuple[str, str]
"""Method and path as the application knows it."""

SKU: Final = "CANARY-SKU"
PLACE: Final = "CANARY-PLACE"
NOTE: Final = "canary note"
UNITS: Final = 918_273
HELD: Final = 3
_tries = itertools.count(1)


class For(Enum):
    """Who a route is for."""

    ANYBODY = "anybody"
    """Tells nothing of anybody's stock, or checks a platform's signature instead of a key."""
    AGENTS = Kind.AGENT
    MERCHANTS = Kind.MERCHANT
    OPERATORS = Kind.OPERATOR


@dataclass(frozen=True, kw_only=True)
class Case:
    """How a route is asked for what belongs to the victim."""

    audience: For
    parts: dict[str, str] = field(default_factory=dict)
    """What stands in the path's braces; see ``Victim.words`` for the words."""
    query: str = ""
    body: Any = None
    is_endless: bool = False
    """It is read up to the first heartbeat."""
    is_socket: bool = False
    """The same, after an upgrade."""
    is_about_anothers: bool = False
    """It names something that the victim alone has: with another merchant's key there is no such thing."""


def agents_only(**about: Any) -> Case:
    return Case(audience=For.AGENTS, **about)


def merchants_only(**about: Any) -> Case:
    return Case(audience=For.MERCHANTS, **about)


def about_a_subscription(**about: Any) -> Case:
    return agents_only(parts={"id": "subscription"}, is_about_anothers=True, **about)


def about_a_hold(**about: Any) -> Case:
    return agents_only(parts={"id": "hold"}, is_about_anothers=True, **about)


def about_a_set(**about: Any) -> Case:
    return agents_only(parts={"id": "set"}, is_about_anothers=True, **about)


def operators_only(**about: Any) -> Case:
    return Case(audience=For.OPERATORS, **about)


CASES: Final[dict[Route, Case]] = {
    ("POST", "/hooks/{account}"): Case(audience=For.ANYBODY, parts={"account": "account"}, body={}),
    ("GET", "/hooks/{account}"): Case(audience=For.ANYBODY, parts={"account": "account"}),
    ("GET", "/livez"): Case(audience=For.ANYBODY),
    ("GET", "/readyz"): Case(audience=For.ANYBODY),
    ("GET", "/metrics"): Case(audience=For.ANYBODY),
    ("GET", "/v1/stock/{sku}"): agents_only(parts={"sku": "sku"}),
    ("POST", "/v1/stock/query"): agents_only(body={"items": [{"sku": SKU, "quantity": 1}]}),
    ("POST", "/v1/stock/verify"): agents_only(
        body={"items": [{"sku": SKU, "checksum": "hmac-sha256:" + "0" * 64}]}
    ),
    ("GET", "/v1/feed"): agents_only(is_endless=True),
    ("POST", "/v1/feed/sets"): agents_only(body={"skus": [SKU]}),
    ("GET", "/v1/feed/sets/{id}"): about_a_set(),
    ("PATCH", "/v1/feed/sets/{id}"): about_a_set(body={"add": ["INTRUDER"], "remove": [SKU]}),
    ("DELETE", "/v1/feed/sets/{id}"): about_a_set(),
    ("GET", "/v1/feed/ws"): agents_only(is_socket=True),
    ("GET", "/v1/changes"): agents_only(),
    ("POST", "/v1/feed/tickets"): agents_only(body={"sku": [SKU]}),
    ("POST", "/v1/reservations"): agents_only(body={"lines": [{"sku": SKU, "quantity": 1}]}),
    ("GET", "/v1/reservations/{id}"): about_a_hold(),
    ("POST", "/v1/reservations/{id}/renew"): about_a_hold(body={"ttl_ms": 1000}),
    ("POST", "/v1/reservations/{id}/commit"): about_a_hold(body={"order_id": "intruder"}),
    ("POST", "/v1/reservations/{id}/release"): about_a_hold(body={}),
    # A token says itself whose it is; a made-up one restores nothing.
    ("POST", "/v1/reservations/restore"): agents_only(body={"tokens": ["shr1.e30.AAAA"]}),
    ("GET", "/v1/subscriptions"): agents_only(),
    ("POST", "/v1/subscriptions"): agents_only(body={"url": "https://intruder.example/"}),
    ("GET", "/v1/subscriptions/{id}"): about_a_subscription(),
    ("DELETE", "/v1/subscriptions/{id}"): about_a_subscription(),
    ("POST", "/v1/subscriptions/{id}/renew"): about_a_subscription(body={"ttl_ms": 60_000}),
    ("POST", "/v1/subscriptions/{id}/rotate"): about_a_subscription(body={}),
    ("POST", "/v1/subscriptions/{id}/test"): about_a_subscription(body={}),
    ("POST", "/v1/subscriptions/{id}/redrive"): about_a_subscription(body={"from": "everything"}),
    ("GET", "/v1/subscriptions/{id}/attempts"): about_a_subscription(),
    ("GET", "/v1/merchant/ledger"): merchants_only(),
    ("GET", "/v1/merchant/sales"): merchants_only(),
    ("POST", "/v1/merchant/settlements"): merchants_only(
        body={"order": "1001", "line": "1", "sku": SKU, "account": "account", "reason": "intrusion"},
        is_about_anothers=True,
    ),
    ("GET", "/v1/merchant/policies"): merchants_only(),
    ("PUT", "/v1/merchant/policies"): merchants_only(body={"version": 0, "rules": []}),
    ("GET", "/v1/merchant/agents"): merchants_only(),
    ("POST", "/v1/merchant/agents"): merchants_only(body={"name": "agent"}),
    ("DELETE", "/v1/merchant/agents/{name}"): merchants_only(parts={"name": "agent"}, is_about_anothers=True),
    ("GET", "/v1/merchant/accounts"): merchants_only(),
    ("PUT", "/v1/merchant/accounts/{name}/role"): merchants_only(
        parts={"name": "account"}, body={"role": "authority", "rank": 1}, is_about_anothers=True
    ),
    ("GET", "/v1/merchant/evidence"): merchants_only(),
    ("PUT", "/v1/merchant/evidence"): merchants_only(
        body={"authority": "account", "origin": "account", "way": "ref"}, is_about_anothers=True
    ),
    ("POST", "/v1/merchant/sources"): merchants_only(
        body={"account": "account", "decision": "same_pool"}, is_about_anothers=True
    ),
    ("GET", "/v1/merchant/locations"): merchants_only(),
    ("POST", "/v1/merchant/locations"): merchants_only(
        body={"account": "account", "theirs": "8", "ours": "X"}, is_about_anothers=True
    ),
    ("GET", "/v1/merchant/mappings"): merchants_only(query="account=account", is_about_anothers=True),
    ("POST", "/v1/merchant/mappings"): merchants_only(
        body={"account": "account", "item": "8", "sku": "X"}, is_about_anothers=True
    ),
    ("GET", "/v1/ops/sync"): operators_only(),
    ("GET", "/v1/ops/sync/{account}"): operators_only(parts={"account": "account"}),
    ("POST", "/v1/ops/sync/{account}/poll"): operators_only(parts={"account": "account"}),
    ("POST", "/v1/ops/sync/{account}/check"): operators_only(parts={"account": "account"}),
    ("GET", "/v1/ops/queue"): operators_only(),
    ("GET", "/v1/ops/merchants"): operators_only(),
}


@dataclass(frozen=True, kw_only=True)
class Town:
    """A hub with a victim, and keys of whoever might try."""

    site: Site
    words: dict[str, str]
    """What the victim's things are called."""
    own: dict[Kind, str]
    """The victim's keys, and an operator's."""
    strange: dict[Kind, str]
    """Keys of another merchant."""

    async def ask(self, route: Route, key: str | None, *, scheme: str = "Bearer") -> Heard:
        """Ask a route for what is the victim's."""
        method, path = route
        case = CASES[route]
        for part, word in case.parts.items():
            path = path.replace(f"{{{part}}}", self.words[word])
        query = case.query.replace("=account", f"={self.words['account']}")
        headers = {"Idempotency-Key": f"try-{next(_tries)}"}
        if key is not None:
            headers["Authorization"] = f"{scheme} {key}"
        about: dict[str, Any] = {"headers": headers}
        if case.body is not None:
            about["json"] = _named(case.body, self.words)
        if case.is_endless:
            return await self._ask_endless(path, headers)
        if case.is_socket:
            return await self._ask_socket(path, headers)
        return await self.site.ask(method, f"{path}?{query}" if query else path, **about)

    async def _ask_endless(self, path: str, headers: dict[str, str]) -> Heard:
        async with self.site.session.get(self.site.url + path, headers=headers) as answer:
            body = b""
            if answer.status != 200:
                body = await answer.read()
            while answer.status == 200 and b"event: hb" not in body:
                body += await answer.content.readline()
            return Heard(status=answer.status, headers=answer.headers.copy(), body=body)

    async def _ask_socket(self, path: str, headers: dict[str, str]) -> Heard:
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        nonce = {"Sec-WebSocket-Key": "c3luY2h1YnN5bmNodWI0Mg=="}
        try:
            async with self.site.session.ws_connect(self.site.url + path, headers=headers) as socket:
                body = b""
                while b'"event":"hb"' not in body:
                    body += (await socket.receive_str()).encode()
                return Heard(status=200, headers=CIMultiDict(), body=body)
        except WSServerHandshakeError:
            return await self.site.ask("GET", path, headers=headers | upgrade | nonce)

    async def state(self) -> dict[str, Any]:
        """Everything that an intruder could have changed."""
        told = {}
        for path in ("policies", "agents", "accounts", "locations"):
            told[path] = await self._told(f"/v1/merchant/{path}", self.own[Kind.MERCHANT])
        account = self.words["account"]
        mapped = await self._told(f"/v1/merchant/mappings?account={account}", self.own[Kind.MERCHANT])
        hold = await self._told(f"/v1/reservations/{self.words['hold']}", self.own[Kind.AGENT])
        subscribed = await self._told("/v1/subscriptions", self.own[Kind.AGENT])
        told["set"] = await self._told(f"/v1/feed/sets/{self.words['set']}", self.own[Kind.AGENT])
        stock = await self._told(f"/v1/stock/{SKU}", self.own[Kind.AGENT])
        about = {name: hold[name] for name in ("status", "expires_at")}
        told |= {"mapped": mapped, "subscriptions": subscribed}
        return {**told, "hold": about, "available": stock["available"]}

    async def _told(self, path: str, key: str) -> Any:
        heard = await self.site.ask("GET", path, headers={"Authorization": f"Bearer {key}"})
        assert heard.status == 200, heard
        return json.loads(heard.body)


def _named(body: Any, words: dict[str, str]) -> Any:
    """Put the names of the victim's things where their words stand."""
    return {
        name: words.get(value, value) if isinstance(value, str) else value for name, value in body.items()
    }


@pytest.fixture
async def town(redis_url: str) -> AsyncIterator[Town]:
    async with running_hub(redis_url) as site:
        victim, intruder = site.merchant, await add_merchant(redis_url)
        own = {kind: await _key(site, victim, kind) for kind in Kind}
        strange = {kind: await _key(site, intruder, kind) for kind in (Kind.AGENT, Kind.MERCHANT)}
        words = await _belongings(site, own)
        yield Town(site=site, words=words, own=own, strange=strange)


async def _key(site: Site, merchant: Merchant, kind: Kind) -> str:
    of = "" if kind is Kind.OPERATOR else merchant.name
    wanted = NewAgent(kind=kind, merchant=of, name=f"{merchant.name}-{kind}-2", burst=100_000)
    issued = await agents.add_agent(site.hub.redis, wanted)
    await eventually(lambda: site.hub.directory.find_agent(issued.key) is not None)
    return issued.key


async def _belongings(site: Site, own: dict[Kind, str]) -> dict[str, str]:
    """Give the victim something of everything that there is to find."""
    victim = site.merchant
    report = level(SKU, UNITS) | {"location_id": PLACE}
    sold = {"order_id": "1001", "line": "1", "sku": SKU, "quantity": "1", "status": "placed"}
    await site.post(body_of(report, sequence=1), message_id="level")
    await site.post(body_of(orders=[sold], sequence=2), message_id="order")
    await site.drained()
    desk = {"Authorization": f"Bearer {own[Kind.MERCHANT]}"}
    rules = [{"note": NOTE, "set": {"low_threshold": 4}}]
    document = {"version": 0, "rules": rules, "general": {"locations": [PLACE]}}
    await _done(site.ask("PUT", "/v1/merchant/policies", json=document, headers=desk))
    mapped = {"account": victim.account, "item": "7", "sku": SKU}
    await _done(site.ask("POST", "/v1/merchant/mappings", json=mapped, headers=desk))
    located = {"account": victim.account, "theirs": "7", "ours": PLACE}
    await _done(site.ask("POST", "/v1/merchant/locations", json=located, headers=desk))
    shopper = {"Authorization": f"Bearer {own[Kind.AGENT]}", "Idempotency-Key": "victim-1"}
    wanted = {"lines": [{"sku": SKU, "quantity": HELD}], "mode": "cart", "ttl_ms": 600_000}
    held = await _done(site.ask("POST", "/v1/reservations", json=wanted, headers=shopper))
    pushed = {"url": f"https://victim.example/{PLACE}", "skus": [SKU]}
    subscribed = await _done(site.ask("POST", "/v1/subscriptions", json=pushed, headers=shopper))
    log = push_keys.attempts(victim.keys.tag, json.loads(subscribed.body)["id"])
    line = {"at_ms": 1, "name": NOTE, "id": "msg_1", "outcome": "failed"}
    await site.hub.client.xadd(log, {"a": json.dumps(line)})
    listed = await _done(site.ask("POST", "/v1/feed/sets", json={"skus": [SKU]}, headers=shopper))
    return {
        "sku": SKU,
        "account": victim.account,
        "agent": f"{victim.name}-agent-2",
        "hold": json.loads(held.body)["id"],
        "subscription": json.loads(subscribed.body)["id"],
        "set": json.loads(listed.body)["set"],
    }


async def _done(asking: Any) -> Heard:
    heard: Heard = await asking
    assert heard.status in {200, 201}, heard
    return heard


def routes_of(app: web.Application) -> set[Route]:
    """Every route; where GET is answered HEAD is too, by the same handler."""
    return {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }


def kept_for(*audiences: For) -> list[Route]:
    return sorted(route for route, case in CASES.items() if case.audience in audiences)


def has_a_trace(heard: Heard, town: Town, route: Route) -> list[str]:
    """What an answer holds of the victim's that was not in the question itself."""
    asked = json.dumps([CASES[route].parts, CASES[route].body, CASES[route].query])
    hidden = {
        SKU,
        PLACE,
        NOTE,
        str(UNITS),
        str(UNITS - HELD),
        town.site.merchant.secret,
        *town.words.values(),
    }
    hidden -= {word for word in hidden if word in asked}
    hidden -= {town.words[word] for word in town.words if word in asked}
    text = heard.body.decode()
    return sorted(word for word in hidden if word in text)


# -------------------------------------------------------------------------------------------------- the cases


async def test_every_route_has_a_case_here(redis_url: str) -> None:
    async with running_hub(redis_url, works=False) as site:
        found = routes_of(build_app(site.hub))
    described = set(CASES)
    assert sorted(found - described) == [], "say in CASES whom the new route is for"
    assert sorted(described - found) == [], "the route is gone; take its case away"


@pytest.mark.blocking_allowed  # the numbers of the process are read from files of the system
async def test_what_anybody_may_ask_tells_nothing_of_anybody(town: Town) -> None:
    for route in kept_for(For.ANYBODY):
        for key in (None, *town.strange.values()):
            heard = await town.ask(route, key)
            assert has_a_trace(heard, town, route) == [], route
            assert heard.status in {200, 401}, route


async def test_without_a_known_key_nobody_is_answered(town: Town) -> None:
    before = await town.state()
    for route in kept_for(For.AGENTS, For.MERCHANTS, For.OPERATORS):
        right = town.own[CASES[route].audience.value]
        attempts = [
            (None, "Bearer"),
            ("", "Bearer"),
            (right, "Basic"),
            (right[:-1], "Bearer"),
            (right[:4] + "A" * 43, "Bearer"),
        ]
        for key, scheme in attempts:
            heard = await town.ask(route, key, scheme=scheme)
            assert (heard.status, heard.problem["code"]) == (401, "key_unknown"), (route, key)
            assert heard.headers["WWW-Authenticate"] == "Bearer"
    assert await town.state() == before


async def test_a_key_of_another_kind_is_not_allowed_even_of_the_same_merchant(town: Town) -> None:
    before = await town.state()
    for route in kept_for(For.AGENTS, For.MERCHANTS, For.OPERATORS):
        for kind in set(Kind) - {CASES[route].audience.value}:
            for keys in (town.own, town.strange):
                heard = await town.ask(route, keys.get(kind, town.own[kind]))
                assert (heard.status, heard.problem["code"]) == (403, "not_allowed"), (route, kind)
    assert await town.state() == before


async def test_a_key_of_the_right_kind_without_any_scope_of_it_is_not_allowed(town: Town) -> None:
    for route in kept_for(For.AGENTS, For.MERCHANTS, For.OPERATORS):
        kind = CASES[route].audience.value
        holder = town.site.hub.directory.find_agent(town.own[kind])
        assert holder is not None
        object.__setattr__(holder, "scopes", frozenset())
        heard = await town.ask(route, town.own[kind])
        assert (heard.status, heard.problem["code"]) == (403, "not_allowed"), route


async def test_another_merchants_key_finds_nothing_and_changes_nothing(town: Town) -> None:
    before = await town.state()
    for route in kept_for(For.AGENTS, For.MERCHANTS):
        heard = await town.ask(route, town.strange[CASES[route].audience.value])
        assert has_a_trace(heard, town, route) == [], (route, heard)
        if CASES[route].is_about_anothers:
            assert (heard.status, heard.problem["status"]) == (404, 404), (route, heard)
        else:
            assert heard.status in {200, 201, 422}, (route, heard)
    assert await town.state() == before


async def test_the_right_key_does_find_it_so_that_these_tests_look_at_something(town: Town) -> None:
    """Otherwise a misspelt path would pass them all."""
    routes = kept_for(For.AGENTS, For.MERCHANTS)
    for route in [one for one in routes if one[0] == "GET"]:
        heard = await town.ask(route, town.own[CASES[route].audience.value])
        assert has_a_trace(heard, town, route) != [], (route, heard)
    # What ends something comes last, so that there is something to end; with its key everything ends.
    for route in sorted(routes, key=lambda one: (one[0] == "DELETE", "agents" in one[1], one)):
        heard = await town.ask(route, town.own[CASES[route].audience.value])
        assert heard.status not in {401, 403, 404}, (route, heard)
