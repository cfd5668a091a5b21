"""Tickets: what a browser shows instead of a key, once."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import WSServerHandshakeError
from structlog.testing import capture_logs

from synchub.agents import operations as agents
from synchub.agents.operations import NewAgent
from tests.support.deliveries import body_of, level
from tests.support.feed import Client
from tests.support.feed_sockets import open_socket
from tests.support.hub import Heard, Site, running_hub
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGE = "https://shop.example"


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with running_hub(redis_url) as one:
        yield one


async def ask(site: Site, body: Any = None, *, key: str = "") -> Heard:
    headers = {"Authorization": f"Bearer {key or site.merchant.key}"}
    return await site.ask("POST", "/v1/feed/tickets", json=body or {}, headers=headers)


async def ticket(site: Site, body: Any = None) -> str:
    heard = await ask(site, body)
    assert heard.status == 201, heard
    told: dict[str, Any] = json.loads(heard.body)
    assert told["expires_in_ms"] == site.hub.settings.feed.ticket_ttl_ms
    return str(told["ticket"])


async def present(site: Site, query: str, **headers: str) -> tuple[int, dict[str, str]]:
    async with site.session.get(f"{site.url}/v1/feed?{query}", headers=headers) as answer:
        return answer.status, dict(answer.headers)


class TestUsing:
    async def test_a_ticket_opens_the_stream_for_the_query_it_was_given_for(self, site: Site) -> None:
        await site.post(body_of(level("A-1", 3), level("B-1", 4), sequence=1))
        await site.drained()
        given = await ticket(site, {"prefix": "A-", "bound_ms": 500})
        async with site.session.get(f"{site.url}/v1/feed?ticket={given}") as response:
            client = Client(response)
            hello, snap, _ = await client.caught_up()
        assert hello.data["bound_ms"] == 500
        assert snap.skus == ["A-1"]

    async def test_a_ticket_opens_a_websocket(self, site: Site) -> None:
        given = await ticket(site, {"sku": ["A", "B"]})
        async with open_socket(site.session, f"{site.url}/v1/feed/ws?ticket={given}", "") as client:
            _, snap, _ = await client.caught_up()
        assert snap.skus == ["A", "B"]

    async def test_it_opens_one_connection_and_no_second(self, site: Site) -> None:
        given = await ticket(site)
        statuses = [(await present(site, f"ticket={given}"))[0] for _ in range(3)]
        assert statuses == [200, 401, 401]
        with pytest.raises(WSServerHandshakeError) as refused:
            async with open_socket(site.session, f"{site.url}/v1/feed/ws?ticket={given}", ""):
                pass
        assert refused.value.status == 401

    async def test_of_many_who_present_it_at_once_one_gets_in(self, site: Site) -> None:
        given = await ticket(site)
        answers = await asyncio.gather(*(present(site, f"ticket={given}") for _ in range(20)))
        assert sorted(status for status, _ in answers) == [200] + [401] * 19

    async def test_a_position_may_stand_in_the_ticket_or_beside_it(self, site: Site) -> None:
        await site.post(body_of(level("TEE", 3), sequence=1))
        await site.drained()
        first = await ticket(site)
        async with site.session.get(f"{site.url}/v1/feed?ticket={first}") as response:
            position = (await Client(response).caught_up())[-1].id
        inside = await ticket(site, {"from": position})
        beside = await ticket(site)
        for query in (f"ticket={inside}", f"ticket={beside}&from={position}"):
            async with site.session.get(f"{site.url}/v1/feed?{query}") as response:
                assert (await Client(response).next("hello")).data["resume"] == "replay"

    async def test_it_brings_its_own_parameters(self, site: Site) -> None:
        for query in ("prefix=A", "sku=A", "ticket=other"):
            given = await ticket(site)
            assert (await present(site, f"ticket={given}&{query}"))[0] == 422
            assert (await present(site, f"ticket={given}"))[0] == 200

    async def test_a_connection_by_ticket_is_one_of_its_agent(self, redis_url: str) -> None:
        async with running_hub(redis_url, works=False, feed={"readers_per_agent": 1}) as site:
            first, second = await ticket(site), await ticket(site)
            async with site.session.get(f"{site.url}/v1/feed?ticket={first}") as response:
                assert response.status == 200
                assert (await present(site, f"ticket={second}"))[0] == 429


class TestEnding:
    @pytest.mark.parametrize("made_up", ["", "skt_", "skt_" + "A" * 43, "sak_" + "A" * 43, "%00", "ü" * 9])
    async def test_what_is_no_ticket_opens_nothing(self, site: Site, made_up: str) -> None:
        status, headers = await present(site, f"ticket={made_up}")
        assert (status, headers["Content-Type"]) == (401, "application/problem+json")

    async def test_its_time_is_short(self, redis_url: str) -> None:
        async with running_hub(redis_url, works=False, feed={"ticket_ttl_ms": 1000}) as site:
            given = await ticket(site)
            [kept] = [key async for key in site.hub.client.scan_iter("synchub:ticket:*")]
            assert 0 < await site.hub.client.pttl(kept) <= 1000

            async def is_gone() -> bool:
                return not await site.hub.client.exists(kept)

            await eventually(is_gone)
            assert (await present(site, f"ticket={given}"))[0] == 401

    async def test_it_ends_with_the_key_it_was_asked_for_with(self, site: Site) -> None:
        given = await ticket(site)
        [agent] = site.hub.directory.agents_of(site.merchant.name)
        await agents.revoke_agent(site.hub.redis, agent.name)
        await eventually(lambda: site.hub.directory.find_agent(site.merchant.key) is None)
        assert (await present(site, f"ticket={given}"))[0] == 401

    async def test_a_connection_by_ticket_ends_with_the_key(self, site: Site) -> None:
        given = await ticket(site)
        async with site.session.get(f"{site.url}/v1/feed?ticket={given}") as response:
            client = Client(response)
            await client.caught_up()
            [agent] = site.hub.directory.agents_of(site.merchant.name)
            await agents.revoke_agent(site.hub.redis, agent.name)
            bye = await client.next("bye")
        assert (bye.data["reason"], bye.data["reconnect"]) == ("auth", False)


class TestOrigins:
    async def test_a_ticket_for_a_page_is_for_that_page_alone(self, site: Site) -> None:
        for origin, status in ((PAGE, 200), ("https://evil.example", 403), ("null", 403), ("", 403)):
            given = await ticket(site, {"origin": PAGE})
            told, headers = await present(site, f"ticket={given}", **({"Origin": origin} if origin else {}))
            assert told == status, origin
            assert headers.get("Access-Control-Allow-Origin") == (PAGE if status == 200 else None)
            assert (await present(site, f"ticket={given}", Origin=PAGE))[0] == 401, "a refused ticket is used"

    async def test_a_page_of_the_hub_itself_need_not_say_so(self, site: Site) -> None:
        given = await ticket(site, {"origin": site.url})
        assert (await present(site, f"ticket={given}"))[0] == 200

    async def test_a_websocket_looks_at_the_origin_too(self, site: Site) -> None:
        url = f"{site.url}/v1/feed/ws?ticket="
        given = await ticket(site, {"origin": PAGE})
        async with open_socket(site.session, url + given, "", headers={"Origin": PAGE}) as client:
            await client.next("hello")
        given = await ticket(site, {"origin": PAGE})
        with pytest.raises(WSServerHandshakeError) as refused:
            async with open_socket(site.session, url + given, "", headers={"Origin": "https://evil.example"}):
                pass
        assert refused.value.status == 403

    async def test_a_ticket_for_no_page_is_shown_to_no_other_site(self, site: Site) -> None:
        given = await ticket(site)
        status, headers = await present(site, f"ticket={given}", Origin=PAGE)
        assert status == 200
        assert "Access-Control-Allow-Origin" not in headers


class TestGiving:
    @pytest.mark.parametrize(
        "body",
        [
            {"sku": ["A"], "prefix": "A"},
            {"sku": [""]},
            {"sku": "A"},
            {"mode": "other"},
            {"bound_ms": -1},
            {"bound_ms": "500"},
            {"skus": ["A"]},
            {"origin": "shop.example"},
            {"origin": "https://shop.example/path"},
            {"origin": "https://shop.example\r\nSet-Cookie: a=b"},
        ],
    )
    async def test_what_the_feed_would_refuse_gets_no_ticket(self, site: Site, body: Any) -> None:
        heard = await ask(site, body)
        assert (heard.status, heard.problem["code"]) == (422, "invalid_request")

    async def test_an_agent_gets_so_many_in_the_time_that_one_lives(self, redis_url: str) -> None:
        async with running_hub(
            redis_url, works=False, feed={"tickets_per_agent": 3, "ticket_ttl_ms": 1500}
        ) as site:
            other = await agents.add_agent(site.hub.redis, NewAgent(merchant=site.merchant.name))
            await eventually(lambda: site.hub.directory.find_agent(other.key) is not None)
            answers = [await ask(site) for _ in range(5)]
            assert [heard.status for heard in answers] == [201, 201, 201, 429, 429]
            assert answers[-1].headers["Retry-After"] == "2"
            assert (await ask(site, key=other.key)).status == 201

            async def may_again() -> bool:
                return (await ask(site)).status == 201

            await eventually(may_again)

    async def test_asking_for_tickets_takes_tokens(self, redis_url: str) -> None:
        async with running_hub(
            redis_url, works=False, limits={"agent_rate_per_s": 1, "agent_burst": 1}
        ) as site:
            assert [(await ask(site)).status for _ in range(3)][-1] == 429

    async def test_neither_the_store_nor_the_log_knows_a_ticket(self, site: Site) -> None:
        with capture_logs() as lines:
            given = await ticket(site, {"origin": PAGE})
            kept = [key async for key in site.hub.client.scan_iter("*ticket*")]
            values = [await site.hub.client.get(key) for key in kept]
            await present(site, f"ticket={given}", Origin="https://evil.example")
            await present(site, f"ticket={given}")
        assert len(kept) == 2
        assert given not in repr(lines)
        assert given.removeprefix("skt_").encode() not in b"".join([*kept, *values])
