"""What agents ask about subscriptions, and what they are answered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from synchub import metrics, push_keys
from synchub.agents import operations as agents
from synchub.agents.operations import NewAgent
from tests.support.endpoints import Town, open_town
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.hub import Heard

URL = "https://agent.example.com/stock"


@pytest.fixture
async def town(redis_url: str) -> AsyncIterator[Town]:
    async with open_town(redis_url, tells=False) as one:
        yield one


async def _key(town: Town, name: str, **about: Any) -> str:
    merchant = about.pop("merchant", town.site.merchant.name)
    issued = await agents.add_agent(town.hub.redis, NewAgent(merchant=merchant, name=name, **about))
    await eventually(lambda: town.hub.directory.find_agent(issued.key) is not None)
    return issued.key


def _read(heard: Heard) -> Any:
    return json.loads(heard.body)


def _without_secret(made: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in made.items() if name not in {"secret", "old_secret_until"}}


async def test_a_secret_is_told_once_and_is_not_stored_as_it_is(town: Town) -> None:
    made = await town.subscribe(url=URL, skus=["TEE", "CAP"], ttl_ms=3_600_000)
    assert made["secret"].startswith("whsec_")
    assert (made["status"], made["skus"], made["url"]) == ("active", ["CAP", "TEE"], URL)
    shown = await town.show(made["id"])
    assert shown == _without_secret(made)
    listed = _read(await town.ask("GET"))["subscriptions"]
    assert listed == [shown]
    record = await town.hub.redis.execute(
        "HGET", push_keys.subscriptions(town.site.merchant.name), made["id"]
    )
    assert made["secret"].removeprefix("whsec_").encode() not in record


async def test_the_same_cannot_be_made_twice(town: Town) -> None:
    made = await town.subscribe(url=URL, skus=["A", "B"])
    heard = await town.ask("POST", url=URL, skus=["B", "A"])
    assert (heard.status, heard.problem["code"]) == (409, "conflict")
    assert made["id"] in heard.problem["detail"]
    assert (await town.subscribe(url=URL, skus=["A"]))["id"] != made["id"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": "agent.example.com"},
        {"url": "https://user:pw@agent.example.com/"},
        {"url": URL, "skus": ["A"], "prefix": "B"},
        {"url": URL, "skus": ["A\u202e"]},
        {"url": URL, "prefix": " "},
        {"url": URL, "ttl_ms": 0},
        {"url": URL, "ttl_ms": "60000"},
        {"url": URL, "from": "yesterday"},
        {"url": URL, "from": 5},
        {"url": URL, "secret": "whsec_mine"},
        {"url": URL, "skus": [str(number) for number in range(1001)]},
    ],
)
async def test_what_does_not_fit_is_refused_and_nothing_is_made(town: Town, body: dict[str, Any]) -> None:
    heard = await town.ask("POST", **body)
    assert (heard.status, heard.problem["code"]) == (422, "invalid_request")
    assert _read(await town.ask("GET"))["subscriptions"] == []
    assert await town.hub.client.keys("*lane:*") == []


async def test_without_a_network_of_its_own_only_encrypted_addresses_are_taken(redis_url: str) -> None:
    async with open_town(redis_url, tells=False, subscriptions={"private_targets": ""}) as town:
        heard = await town.ask("POST", url="http://agent.example.com/")
        assert heard.status == 422
        assert (await town.ask("POST", url=URL)).status == 201


async def test_a_key_with_channels_is_told_of_them_alone(town: Town) -> None:
    key = await _key(town, "web-agent", channels=["web"])
    heard = await town.ask("POST", key=key, url=URL, channel="app")
    assert (heard.status, heard.problem["code"]) == (403, "not_allowed")
    made = _read(await town.ask("POST", key=key, url=URL))
    assert made["channel"] == "web"


async def test_another_key_of_the_merchant_finds_nothing(town: Town) -> None:
    made = await town.subscribe(url=URL)
    key = await _key(town, "other")
    assert _read(await town.ask("GET", key=key))["subscriptions"] == []
    for method, path, body in (
        ("GET", "", {}),
        ("DELETE", "", {}),
        ("POST", "/renew", {}),
        ("POST", "/rotate", {}),
        ("POST", "/test", {}),
        ("POST", "/redrive", {"from": "now"}),
        ("GET", "/attempts", {}),
    ):
        heard = await town.ask(method, f"/{made['id']}{path}", key=key, **body)
        assert (heard.status, heard.problem["code"]) == (404, "not_found"), path
    assert await town.show(made["id"]) == _without_secret(made)


async def test_a_new_key_under_an_old_name_does_not_inherit(town: Town) -> None:
    key = await _key(town, "other")
    made = _read(await town.ask("POST", key=key, url=URL))
    await agents.revoke_agent(town.hub.redis, "other")
    await eventually(lambda: town.hub.directory.find_agent(key) is None)
    renewed = await _key(town, "other")
    assert (await town.ask("GET", f"/{made['id']}", key=renewed)).status == 404
    assert _read(await town.ask("GET", key=renewed))["subscriptions"] == []


@pytest.mark.parametrize(
    ("limits", "limit"),
    [({"per_agent": 2}, "agent"), ({"per_merchant": 2}, "merchant"), ({"in_all": 2}, "all")],
)
async def test_there_may_be_so_many_and_no_more(redis_url: str, limits: dict[str, int], limit: str) -> None:
    refused = metrics.subscriptions_refused.labels(limit)
    before = refused._value.get()
    async with open_town(redis_url, tells=False, subscriptions=limits) as town:
        made = [await town.subscribe(url=f"{URL}/{number}") for number in range(2)]
        heard = await town.ask("POST", url=f"{URL}/2")
        assert (heard.status, heard.problem["code"]) == (429, "rate_limited")
        assert "Retry-After" in heard.headers
        assert refused._value.get() == before + 1
        assert len(await town.hub.client.keys("*lane:*")) == 2
        await town.ask("DELETE", f"/{made[0]['id']}")
        await town.subscribe(url=f"{URL}/2")
        for one in _read(await town.ask("GET"))["subscriptions"]:
            await town.ask("DELETE", f"/{one['id']}")
        counts = await town.hub.redis.execute("HGETALL", push_keys.subscription_counts())
    assert counts[::2] == [b"changes"]


async def test_a_renewal_grants_anew_from_now(redis_url: str) -> None:
    async with open_town(redis_url, tells=False, subscriptions={"grant_ms": 3_600_000}) as town:
        made = await town.subscribe(url=URL, ttl_ms=120_000)
        renewed = _read(await town.ask("POST", f"/{made['id']}/renew", ttl_ms=999_999_999))
        assert renewed["expires_at"] > made["expires_at"]
        again = _read(await town.ask("POST", f"/{made['id']}/renew", ttl_ms=60_000))
        assert again["expires_at"] < renewed["expires_at"]


async def test_a_redrive_beyond_the_end_of_the_history_is_refused(town: Town) -> None:
    made = await town.subscribe(url=URL)
    epoch, _, seq = made["cursor"].partition(":")
    heard = await town.ask("POST", f"/{made['id']}/redrive", **{"from": f"{epoch}:{int(seq) + 100}"})
    assert (heard.status, heard.problem["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("query", ["?limit=0", "?limit=101", "?limit=x", "?limit=99999999999999999999"])
async def test_a_log_is_shown_in_pieces(town: Town, query: str) -> None:
    made = await town.subscribe(url=URL)
    assert (await town.ask("GET", f"/{made['id']}/attempts{query}")).status == 422


async def test_requests_are_counted_against_the_keys_rate(town: Town) -> None:
    key = await _key(town, "slow", rate_per_s=1, burst=1)
    assert (await town.ask("GET", key=key)).status == 200
    assert (await town.ask("GET", key=key)).status == 429


async def test_a_lane_lasts_until_its_subscription_though_no_worker_runs(town: Town) -> None:
    made = await town.subscribe(url=URL)
    lane = push_keys.lane(town.site.merchant.keys.tag, made["id"])
    assert await town.hub.client.ttl(lane) == -1
